"""Metrics whose values are known, and which note what they were asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Value
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window


@dataclass(frozen=True)
class Length(WindowMetric):
    """Frames per window; raises for videos of 24 frames."""

    name: ClassVar[str] = "length"
    version: ClassVar[int] = 10
    observes: ClassVar[tuple[Observation, ...]] = ()
    values: ClassVar[tuple[Value, ...]] = (Value("length", "frames", None, "how many"),)

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        if clip.frames == 24:
            raise ValueError("24 frames are unlucky")
        return {"length": np.array([float(w.end - w.start) for w in windows])}


@dataclass(frozen=True)
class Agreement(Metric):
    """The length of the prompt, as a dimension that looks at it."""

    name: ClassVar[str] = "agreement"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (Value("agreement", "letters", True, "how long the prompt is"),)
    needs_prompt: ClassVar[bool] = True

    def start(self, info: ClipInfo, device: torch.device) -> Letters:
        return Letters(info)


class Letters:
    def __init__(self, clip: ClipInfo) -> None:
        self.clip = clip

    def add(self, batch: Batch, first: int) -> None: ...

    def finish(self) -> float:
        return float(len(self.clip.prompt or ""))
