"""torchvision beside a CPU build of torch, where only the wheel for CUDA is offered.

That wheel's operators link CUDA's libraries and do not load, and the import then stops at two operators whose schemas
nobody has declared. Declaring them is enough for all of torchvision that is plain Python, which is all that diffusers and
the metrics need. Call `make_importable` before an import that brings torchvision in (diffusers, transformers, timm, pyiqa,
clip, vbench); it does nothing where torchvision works by itself, or is not there.
"""

from __future__ import annotations

import functools
import importlib
import sys

import torch

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_libraries: list[torch.library.Library] = []  # a schema lives as long as its library


@functools.cache
def make_importable() -> None:
    """Import torchvision, declaring what it misses if it does not come in by itself."""
    try:
        importlib.import_module("torchvision")
    except ImportError:
        return
    except RuntimeError as error:
        if "does not exist" not in str(error):
            raise
        for name in [name for name in sys.modules if name.partition(".")[0] == "torchvision"]:
            del sys.modules[name]  # half imported
        for name, schema in _SCHEMAS.items():
            if not hasattr(torch.ops.torchvision, name):
                library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
                library.define(schema)  # type: ignore[no-untyped-call]
                _libraries.append(library)
        importlib.import_module("torchvision")
