"""VBench's subject consistency: how alike DINO finds the frames."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from eval.dimension import ClipInfo, ClipScorer
from eval.metric import Value
from eval.networks.dino import dino_features, load_dino
from eval.scorers import Consistency


@dataclass(frozen=True)
class SubjectConsistency:
    """Each frame's DINO feature beside the previous frame's and the first one's (vbench.subject_consistency)."""

    name: ClassVar[str] = "subject_consistency"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("subject_consistency", "0..1", True, "DINO similarity of frames to the one before and to the first"),
    )
    weights: ClassVar[tuple[str, ...]] = ("dino_code", "dino")
    needs_prompt: ClassVar[bool] = False

    def start(self, clip: ClipInfo, device: torch.device) -> ClipScorer:
        load_dino(device)
        return Consistency(lambda batch: dino_features(batch, device))
