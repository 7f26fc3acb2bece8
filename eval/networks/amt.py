"""AMT-S, the frame interpolation (Li et al., arXiv 2304.09790) behind VBench's motion smoothness: the vbench package's."""

from __future__ import annotations

import functools
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.networks import backend
from eval.networks.checkpoint import read_state
from eval.networks.correlation import LEVELS, correlation
from eval.networks.package import vbench_module

MULTIPLE = 16  # frames are padded to multiples of so many pixels
BLACK = 112  # pixels: up to it the last level of its correlations is one cell wide
SMALLEST = 64  # pixels: below, the last level of its correlations is empty


@functools.cache
def load(path: Path, device: torch.device) -> Interpolator:
    """AMT-S with the weights of a file in the layout of amt-s.pth. Raises ValueError if it is another file."""
    module = vbench_module("third_party.amt.networks.AMT-S")
    model = module.Model()
    try:
        model.load_state_dict(read_state(path, "state_dict"))
    except RuntimeError:
        raise ValueError(f"{path} holds other tensors than AMT-S") from None
    return Interpolator(model.to(device).eval())


class BothWays:
    """What the network looks matches up in: correlations of one frame's cells with the other's, and the other way round.

    It stands for the package's block. That one makes the second direction by copying the first and
    pools the correlations; pooled features give the same to rounding, and take a third off the network's time.
    """

    def __init__(self, features: Tensor, other: Tensor, radius: int, num_levels: int) -> None:
        assert num_levels == LEVELS
        self._there, self._back = correlation(features, other, radius), correlation(other, features, radius)

    def __call__(self, places: Tensor, places_back: Tensor) -> tuple[Tensor, Tensor]:
        """Places [b, 2, h, w] in the other frame, and in the first; what Correlation.around has of each."""
        return self._there.around(places).contiguous(), self._back.around(places_back).contiguous()


def with_ours(forward: Any) -> Callable[..., Any]:
    """The network's own function, for which the package's block is BothWays. Its module keeps its own: others may use it, and
    other threads."""
    names = {**forward.__globals__, "BidirCorrBlock": BothWays}
    made = types.FunctionType(forward.__code__, names, forward.__name__, forward.__defaults__, forward.__closure__)
    made.__kwdefaults__ = forward.__kwdefaults__
    return made


class Interpolator:
    """The network, at full resolution always.

    The package reduces frames by the memory of the GPU, but only where its device is the string "cuda"; its own command
    passes a torch.device and never does.
    """

    def __init__(self, model: Any) -> None:
        self._model, self._forward = model, with_ours(type(model).forward)

    @torch.inference_mode()
    def midway(self, before: Tensor, after: Tensor, at_once: int | None = None) -> Tensor:
        """The frames halfway between pairs of frames, uint8 [b, 3, H, W] each; rounded towards zero as VBench does.

        at_once: the pairs of a call where all have as many (eval.networks.backend), at least b; None: b.

        Black for frames with a side of up to BLACK px: the last level of the correlations is then one cell wide, which
        gives NaN, and the package's conversion to 8 bits makes that 0.
        """
        height, width = before.shape[2:]
        rows, columns = -height % MULTIPLE, -width % MULTIPLE
        top, left = rows // 2, columns // 2
        sides = [left, columns - left, top, rows - top]
        padded = [frames / 255 for frames in (before, after)]
        if any(sides):
            padded = [F.pad(frames, sides, mode="replicate") for frames in padded]
        between = backend.compiled(self._between)
        found = backend.in_equal_parts(between, (padded[0], padded[1]), at_once or len(before))
        found = found[:, :, top : top + height, left : left + width]
        found = (found * 255).clamp_(0, 255)
        return (found.nan_to_num_(0) if min(height, width) <= BLACK else found).byte()

    def _between(self, before: Tensor, after: Tensor) -> Tensor:
        """[b, 3, H, W] in 0..1, padded, and so is what it gives."""
        half = torch.full((len(before), 1, 1, 1), 0.5, device=before.device)
        found: Tensor = self._forward(self._model, before, after, half, scale_factor=1.0, eval=True)["imgt_pred"]
        return found
