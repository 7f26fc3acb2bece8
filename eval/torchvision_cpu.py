"""torchvision beside a CPU build of torch, where only the wheel for CUDA is offered.

That wheel's operators link CUDA's libraries and do not load, and the import then stops at two operators whose schemas
nobody has declared. Declaring them is enough for all of torchvision that is plain Python, which is all that the metrics
need. `import eval.torchvision_cpu` before anything that imports torchvision (timm, pyiqa, clip, vbench).
"""

from __future__ import annotations

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[torch.library.Library] = []  # a schema lives as long as its library


def declare() -> None:
    """Declare what is missing; nothing where torch has a GPU build, or where it has been done."""
    if torch.version.cuda is not None or torch.version.hip is not None:
        return
    for name, schema in _SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
            library.define(schema)  # type: ignore[no-untyped-call]
            _libraries.append(library)


declare()
