"""TeaCache (arXiv 2411.19108): a denoising pass is skipped where its input has changed little since the last one.

Section 3: the input of the first block, modulated by the timestep, tells how much the output will change. Its relative L1
distance to that of the step before goes through a polynomial and is added up; below the threshold the blocks are not run and
what they added to their input the last time is added again; at the threshold they run and the sum starts anew.

Deviations. Here every chunk starts anew, its first step always runs, and so does the clean pass: skipping these would mix
chunks, or store none. Each step begins with fresh noise, as few-step models need, so inputs differ far more than in the paper's
30 and more steps: in the embedded world by .85 to 1.19, where the paper's thresholds are .05 to .15. The paper fits its
polynomial to one model and schedule; ours is the identity unless given. The decision is read back by the host, the one place of
a denoising loop where it waits for the device.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from deepforcing.lossy.exact import Exact

if TYPE_CHECKING:
    from deepforcing.cache.passes import CacheMemory
    from deepforcing.generator import GeneratorSpec
    from deepforcing.wan.transformer import Block, CausalWan, TextMemory


@dataclass(frozen=True)
class TeaCache(Exact):
    """threshold: of the sum of changes, above 0. polynomial: of one change, coefficients from the highest power down."""

    threshold: float = 1.0
    polynomial: tuple[float, ...] = (1.0, 0.0)

    chunkwise: ClassVar[bool] = True
    alone: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "polynomial", tuple(self.polynomial))
        if not self.threshold > 0:
            raise ValueError(f"lossy.threshold={self.threshold} must be positive")
        if not self.polynomial:
            raise ValueError("lossy.polynomial=[] must have a coefficient; [1.0, 0.0] leaves the change as it is")

    def check(self, spec: GeneratorSpec) -> None:
        super().check(spec)
        if spec.backend == "graphs":
            raise ValueError(
                f"lossy={self.name} decides inside a pass, which backend=graphs replays whole: use backend=compiled"
            )

    def steps(self, model: CausalWan) -> SkippingSteps:
        return SkippingSteps(model, self)


class SkippingSteps:
    """The denoising steps of one video. See chunkwise.Steps."""

    def __init__(self, model: CausalWan, option: TeaCache) -> None:
        self.model, self.option = model, option
        self.change = 0.0  # since the blocks ran
        self.modulated: Tensor | None = None  # the first block's input at the step before
        self.added: Tensor | None = None  # by the blocks when they ran

    def __call__(self, x_BFCYX: Tensor, t_BF: Tensor, text: TextMemory, memory: CacheMemory, step: int) -> Tensor:
        model = self.model
        first: Block = model.blocks[0]  # type: ignore[assignment]
        x, time, modulation = model.embed(x_BFCYX, t_BF)
        shift, scale = first.modulation_of(modulation)[:2]
        modulated = first.modulated(x, shift, scale)
        if step and self.modulated is not None:
            self.change += polynomial(self.option.polynomial, distance(modulated, self.modulated))
        self.modulated = modulated
        if step == 0 or self.added is None or self.change >= self.option.threshold:
            out = model.through_blocks(x, modulation, text, memory)
            self.added, self.change = out - x, 0.0
        else:
            out = x + self.added
        return model.unpatchify(model.head(out, time), x_BFCYX.shape[-2:])


def distance(new: Tensor, old: Tensor) -> float:
    """Relative L1 distance."""
    return float(torch.sub(new, old).abs().mean() / old.abs().mean())


def polynomial(coefficients: tuple[float, ...], x: float) -> float:
    """By Horner's rule."""
    total = 0.0
    for coefficient in coefficients:
        total = total * x + coefficient
    return total
