"""What is measured between the clips of one video: a feature of each clip first, then numbers from all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.batch import Batch
from eval.dimension import ClipInfo
from eval.metric import ROUNDING, FloatArray, Value, Window, overlap


class Row(NamedTuple):
    """One score, as the table of scores has it; times in seconds."""

    metric: str
    t_start: float
    t_end: float
    value: float


class MeanFeature:
    """Mean over a clip's frames of their features, each normalised first. features: of a batch, [b, D]."""

    def __init__(self, features: Callable[[Batch], Tensor]) -> None:
        self._features = features
        self._sum: FloatArray | None = None
        self._count = 0

    @torch.inference_mode()
    def add(self, batch: Batch, first: int) -> None:
        """As ClipScorer.add."""
        found = F.normalize(self._features(batch).double(), dim=-1).sum(0).cpu().numpy()
        self._sum = found if self._sum is None else self._sum + found
        self._count += len(batch)

    def feature(self) -> FloatArray:
        """[D], not normalised, so that means of several clips can be taken. Raises ValueError if no frame came."""
        if self._sum is None:
            raise ValueError("a clip without frames has no feature")
        return np.asarray(self._sum / self._count)


@runtime_checkable
class FeatureMetric(Protocol):
    """A measurement between clips. A change that may move a score is a new `version`; `weights` as in Dimension."""

    name: ClassVar[str]
    version: ClassVar[int]
    values: ClassVar[tuple[Value, ...]]
    weights: ClassVar[tuple[str, ...]]

    def start(self, clip: ClipInfo, device: torch.device) -> MeanFeature:
        """What makes the feature of one clip. Raises ValueError in one line if it cannot be had at all."""

    def rows(self, features: FloatArray, windows: Sequence[Window]) -> list[Row]:
        """The scores of a video from its clips' features [W, D]; NaN where there is nothing to compare."""


def cosines(a: FloatArray, b: FloatArray) -> FloatArray:
    """Cosine of every row of a [A, D] with every row of b [B, D]: [A, B]."""
    a, b = (x / np.linalg.norm(x, axis=1, keepdims=True) for x in (a, b))
    return np.asarray(a @ b.T)


def feature_between(features: FloatArray, windows: Sequence[Window], start: float, end: float) -> FloatArray:
    """Mean over start .. end seconds of windows [W, D], each weighing the seconds that it shares with them: [1, D].

    NaN where a window is longer than that.
    """
    starts, ends = (np.array(times) for times in zip(*((w.t_start, w.t_end) for w in windows), strict=True))
    shared = overlap(starts, ends, start, end)
    if (ends - starts)[shared > 0].max(initial=0.0) > end - start + ROUNDING:
        return np.full((1, features.shape[1]), np.nan)
    return np.asarray((shared @ features / shared.sum())[None])
