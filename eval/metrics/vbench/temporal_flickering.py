"""VBench's temporal flickering: how little a frame differs from the next."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Value


@dataclass(frozen=True)
class TemporalFlickering(Metric):
    """(255 - mean over neighbouring frames, pixels and channels of |f_t - f_(t+1)|) / 255, as VBench 0.1.5 computes it.

    Motion lowers it too: it is meant for still scenes (temporal_flickering.py; VBench, arXiv 2311.17982). NaN for a clip
    of one frame.
    """

    name: ClassVar[str] = "temporal_flickering"
    version: ClassVar[int] = 2
    values: ClassVar[tuple[Value, ...]] = (
        Value("temporal_flickering", "0..1", True, "1 - mean absolute difference of neighbouring frames"),
    )

    def start(self, info: ClipInfo, device: torch.device) -> Neighbours:
        return Neighbours()


class Neighbours:
    """The scorer: the sum of all differences, in integers, and the last frame."""

    def __init__(self) -> None:
        self._sum, self._count = 0.0, 0
        self._last: NDArray[np.uint8] | None = None

    def add(self, batch: Batch, first: int) -> None:
        frames = batch.frames
        self._sum += batch.kept("neighbours", lambda: sum(itertools.starmap(difference, itertools.pairwise(frames))))
        self._count += frames[1:].size
        if self._last is not None:
            self._sum += difference(self._last, frames[0])
            self._count += frames[0].size
        self._last = frames[-1].copy()  # a view would keep the whole batch

    def finish(self) -> float:
        return (255 - self._sum / self._count) / 255 if self._count else float("nan")


def difference(a: NDArray[np.uint8], b: NDArray[np.uint8]) -> float:
    """Sum of absolute differences of two frames, exact."""
    return float(cv2.norm(a, b, cv2.NORM_L1))
