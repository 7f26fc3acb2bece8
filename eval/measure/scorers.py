"""The two ways in which VBench makes one number of a clip's frames; both keep features or sums, never frames."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.measure.batch import Batch

PerFrame = Callable[[Batch], Tensor]


class Consistency:
    """Mean over frames t >= 1 of (max(0, cos(f_t, f_(t-1))) + max(0, cos(f_t, f_0))) / 2; NaN for a single frame.

    features: of a batch, [b, D]. Cosines are taken in the features' own precision, as VBench takes them.
    """

    def __init__(self, features: PerFrame) -> None:
        self._features = features
        self._first: Tensor | None = None
        self._previous: Tensor | None = None
        self._sum, self._count = 0.0, 0

    @torch.inference_mode()
    def add(self, batch: Batch, first: int) -> None:
        found = F.normalize(self._features(batch), dim=-1)
        before = found[:-1] if self._previous is None else torch.cat([self._previous, found[:-1]])
        after = found[len(found) - len(before) :]
        if self._first is None:
            self._first = found[:1].clone()
        self._previous = found[-1:].clone()
        pairs = torch.stack([F.cosine_similarity(before, after), F.cosine_similarity(self._first, after)])
        self._sum += float(pairs.clamp(min=0).double().sum()) / 2
        self._count += len(after)

    def finish(self) -> float:
        return self._sum / self._count if self._count else math.nan


class FrameMean:
    """Mean over frames of one number per frame. values: of a batch, [b]."""

    def __init__(self, values: PerFrame) -> None:
        self._values = values
        self._sum, self._count = 0.0, 0

    @torch.inference_mode()
    def add(self, batch: Batch, first: int) -> None:
        self._sum += float(self._values(batch).double().sum())
        self._count += len(batch)

    def finish(self) -> float:
        return self._sum / self._count if self._count else math.nan
