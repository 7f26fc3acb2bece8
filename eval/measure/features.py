"""What is measured between the clips of one video: a feature of each clip first, then numbers from all of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from eval.measure.batch import Batch
from eval.measure.windows import ROUNDING, FloatArray, Window, overlap


class MeanFeature:
    """Mean over a clip's frames of their features, each normalised first. features: of a batch, [b, D]."""

    def __init__(self, features: Callable[[Batch], Tensor]) -> None:
        self._features = features
        self._sum: FloatArray | None = None
        self._count = 0

    @torch.inference_mode()
    def add(self, batch: Batch, first: int) -> None:
        """As Scorer.add."""
        found = F.normalize(self._features(batch).double(), dim=-1).sum(0).cpu().numpy()
        self._sum = found if self._sum is None else self._sum + found
        self._count += len(batch)

    def finish(self) -> FloatArray:
        """[D], not normalised, so that means of several clips can be taken. Raises ValueError if no frame came."""
        if self._sum is None:
            raise ValueError("a clip without frames has no feature")
        return np.asarray(self._sum / self._count)


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
