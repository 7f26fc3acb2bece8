"""How alike CLIP finds the parts of a video: the price at which drift can be avoided."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from eval.measure.features import MeanFeature, cosines
from eval.measure.metric import ClipInfo, Metric, Row, Value, rows_of
from eval.measure.windows import FloatArray, Window
from eval.networks.clip import clip_features, load_clip


@dataclass(frozen=True)
class Repetition(Metric):
    """Mean over all other windows of cos(window, other), of means over frames of normalised CLIP ViT-B/32 features.

    With windows of one length the mean of a video's rows is mean_{i < j} cos(phi(c_i), phi(c_j)), as Relax Forcing reports
    it beside CLIP drift (as described by LongVideoEvalKit): a video that stands still has no drift, and 1 here. A shorter
    last window weighs less. NaN for a single window.
    """

    name: ClassVar[str] = "repetition"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("repetition", "-1..1", None, "CLIP similarity to the video's other windows"),
    )
    weights: ClassVar[tuple[str, ...]] = ("clip_b32",)
    protocols: ClassVar[tuple[str, ...]] = ("windows", "vbench", "vbench_long", "vbench_long_memory")

    def start(self, info: ClipInfo, device: torch.device) -> MeanFeature:
        load_clip("clip_b32", device)
        return MeanFeature(lambda batch: clip_features(batch, "clip_b32", device))

    def rows(self, features: Sequence[FloatArray], clips: Sequence[Window]) -> list[Row]:
        alike = cosines(np.stack(features), np.stack(features))
        np.fill_diagonal(alike, 0.0)
        means = alike.sum(1) / (len(alike) - 1) if len(alike) > 1 else np.full(len(alike), np.nan)
        return rows_of(self.name, clips, means)
