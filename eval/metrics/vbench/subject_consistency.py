"""VBench's subject consistency: how alike DINO finds the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from eval.measure.metric import ClipInfo, Metric, Scorer, Value
from eval.measure.scorers import Consistency
from eval.networks.dino import dino_features, load_dino


@dataclass(frozen=True)
class SubjectConsistency(Metric):
    """Each frame's DINO feature beside the previous frame's and the first one's (vbench.subject_consistency)."""

    name: ClassVar[str] = "subject_consistency"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("subject_consistency", "0..1", True, "DINO similarity of frames to the one before and to the first"),
    )
    weights: ClassVar[tuple[str, ...]] = ("dino_code", "dino")

    def start(self, info: ClipInfo, device: torch.device) -> Scorer:
        load_dino(device)
        return Consistency(lambda batch: dino_features(batch, device))
