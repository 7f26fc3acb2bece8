"""What a rollout leaves out to be faster: nothing, unless `lossy=` names an option of this folder.

An option is a frozen value in a file of its own, with conf/lossy/NAME.yaml. It is part of a run's identity, and the file's name
stands in the label of every run that was made with it (experiments/results/runs.py). Options are approximations: what each
costs is measured by benchmarks/lossy.py and told in docs/performance.md. Two lossy choices are keys of their own, because they
are no way to compute a pass: a quantised cache (cache.store) and the tiny decoder (model.decoder).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from deepforcing.rollout.chunkwise import Steps
from deepforcing.rollout.rules import Chunkwise

if TYPE_CHECKING:
    from deepforcing.generator import GeneratorSpec
    from deepforcing.wan.transformer import CausalWan


@dataclass(frozen=True)
class Exact:
    """The default, and the base of every option.

    changes: it changes the loaded model. chunkwise: it works on the steps of a chunk, so on no other rollout rule. alone: it
    decides something for all videos of a pass, so one video has a pass to itself. cleans: chunks are committed by a clean pass.
    """

    changes: ClassVar[bool] = False
    chunkwise: ClassVar[bool] = False
    alone: ClassVar[bool] = False
    cleans: ClassVar[bool] = True

    @property
    def name(self) -> str:
        """The file's name, which labels show."""
        return type(self).__module__.rpartition(".")[2]

    def check(self, spec: GeneratorSpec) -> None:
        """Raise ValueError in one line for what the option cannot be combined with."""
        if self.chunkwise and not isinstance(spec.rule, Chunkwise):
            raise ValueError(
                f"lossy={self.name} works on the steps of one chunk, and generator {spec.name} follows another order: use "
                "lossy=exact or a chunk-wise generator such as self_forcing"
            )

    def check_device(self, device: torch.device, dtype: torch.dtype) -> None:
        """Raise ValueError in one line for a device, or installation, on which it cannot work."""

    def change(self, model: CausalWan) -> None:
        """Change a loaded model in place, once."""

    def steps(self, model: CausalWan) -> Steps | None:
        """The denoising passes of one batch of videos; None: the model's own."""
        return None


def use(model: CausalWan, lossy: Exact) -> None:
    """Make a model's passes this option's, once. Raises ValueError for a model that another has changed already."""
    wanted = lossy if lossy.changes else None
    if model.lossy == wanted:
        return
    if model.lossy is not None:
        raise ValueError(f"the model's passes are those of lossy={model.lossy.name}; build it again for {lossy.name}")
    lossy.change(model)
    model.lossy = wanted
