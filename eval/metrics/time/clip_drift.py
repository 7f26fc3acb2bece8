"""How far CLIP finds a video's content from its beginning."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch

from eval.measure.features import MeanFeature, cosines, feature_between
from eval.measure.metric import ClipInfo, Metric, Row, Value, rows_of
from eval.measure.windows import FloatArray, Window
from eval.networks.clip import clip_features, load_clip

SECONDS = 5.0  # of the beginning and of the end


@dataclass(frozen=True)
class ClipDrift(Metric):
    """1 - cos of two means over frames of normalised CLIP ViT-B/32 features.

    clip_drift: each window's mean against the first window's, so that the first is 0. clip_drift_first_last: one row
    per video, the mean of its first 5 s against that of its last 5 s, the form in which Relax Forcing reports it
    (as described by LongVideoEvalKit); NaN for videos shorter than 10 s, and for windows longer than 5 s.
    """

    name: ClassVar[str] = "clip_drift"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("clip_drift", "0..2", False, "1 - CLIP similarity to the first window"),
        Value("clip_drift_first_last", "0..2", False, "1 - CLIP similarity of the first 5 s and the last 5 s"),
    )
    weights: ClassVar[tuple[str, ...]] = ("clip_b32",)
    protocols: ClassVar[tuple[str, ...]] = ("windows", "vbench", "vbench_long", "vbench_long_memory")

    def start(self, info: ClipInfo, device: torch.device) -> MeanFeature:
        load_clip("clip_b32", device)
        return MeanFeature(lambda batch: clip_features(batch, "clip_b32", device))

    def rows(self, features: Sequence[FloatArray], clips: Sequence[Window]) -> list[Row]:
        found = np.stack(features)
        drift = 1 - cosines(found, found[:1])[:, 0]
        end, frames = max(c.t_end for c in clips), max(c.end for c in clips)
        whole = math.nan
        if end >= 2 * SECONDS - 1e-9:
            ends = [feature_between(found, clips, *span) for span in ((0, SECONDS), (end - SECONDS, end))]
            whole = 1 - float(cosines(*ends)[0, 0])
        return [*rows_of("clip_drift", clips, drift), Row("clip_drift_first_last", 0.0, end, whole, frames)]
