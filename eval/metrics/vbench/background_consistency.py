"""VBench's background consistency: how alike CLIP finds the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from eval.measure.metric import ClipInfo, Metric, Scorer, Value
from eval.measure.scorers import Consistency
from eval.networks.clip import clip_features, load_clip


@dataclass(frozen=True)
class BackgroundConsistency(Metric):
    """Each frame's CLIP feature beside the previous frame's and the first one's (vbench.background_consistency).

    On a GPU features and cosines are in half precision, as VBench has them there: they come in steps of 0.0005.
    """

    name: ClassVar[str] = "background_consistency"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("background_consistency", "0..1", True, "CLIP similarity of frames to the one before and to the first"),
    )
    weights: ClassVar[tuple[str, ...]] = ("clip_b32",)

    def start(self, info: ClipInfo, device: torch.device) -> Scorer:
        load_clip("clip_b32", device)
        return Consistency(lambda batch: clip_features(batch, "clip_b32", device))
