"""VBench's motion smoothness: how well every second frame follows from its neighbours."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Value
from eval.networks import amt
from eval.networks.batches import pairs_at_once
from eval.networks.weights import required


@dataclass(frozen=True)
class MotionSmoothness(Metric):
    """(255 - mean absolute error of AMT-S's frames) / 255, as VBench 0.1.5 computes it.

    Each odd frame of a clip is compared with the interpolation of the even frames around it (motion_smoothness.py; VBench,
    arXiv 2311.17982). A last odd frame has only one neighbour and does not count. NaN for clips of fewer than three
    frames, which the package refuses. A frame with a side of up to 112 px is compared with black, in the package too.
    """

    name: ClassVar[str] = "motion_smoothness"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("motion_smoothness", "0..1", True, "1 - mean absolute error of interpolated frames"),
    )
    weights: ClassVar[tuple[str, ...]] = ("amt",)

    def start(self, info: ClipInfo, device: torch.device) -> Interpolated:
        return Interpolated(info, device)


class Interpolated:
    """The scorer: keeps the last even frame, and the odd one after it if there is one."""

    def __init__(self, clip: ClipInfo, device: torch.device) -> None:
        if min(clip.height, clip.width) <= amt.SMALLEST - amt.MULTIPLE:
            raise ValueError(
                f"motion_smoothness needs frames of more than {amt.SMALLEST - amt.MULTIPLE} x"
                f" {amt.SMALLEST - amt.MULTIPLE} pixels; these have {clip.height} x {clip.width}"
            )
        self._network = amt.load(required("amt"), device)
        self._device = device
        # On a CPU batches are slower at any size: most of the work is at full resolution.
        self._together = 1 if device.type == "cpu" else pairs_at_once(clip.height, clip.width, device)
        self._size = clip.height * clip.width * 3
        self._held: Tensor | None = None
        self._sum, self._count = 0, 0

    def add(self, batch: Batch, first: int) -> None:
        frames = batch.bytes_on(self._device)
        if self._held is not None:
            frames = torch.cat([self._held, frames])
        done = (len(frames) - 1) // 2 * 2  # frames[0] is even
        for start in range(0, done, 2 * self._together):
            some = frames[start : min(start + 2 * self._together, done) + 1]
            found = self._network.midway(some[:-1:2], some[2::2], self._together)
            self._sum += int((found.short() - some[1::2].short()).abs().sum())
            self._count += len(found)
        self._held = frames[done:].clone()  # a view would keep the whole batch

    def finish(self) -> float:
        return (255 - self._sum / (self._count * self._size)) / 255 if self._count else float("nan")
