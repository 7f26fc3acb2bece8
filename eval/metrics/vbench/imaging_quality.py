"""VBench's imaging quality: MUSIQ's score of each frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from eval.measure.metric import ClipInfo, Metric, Scorer, Value
from eval.measure.scorers import FrameMean
from eval.networks.musiq import load_musiq, musiq_scores

STRETCH = 256  # MUSIQ's smallest picture is 224 wide: beyond this no row of it would be left


@dataclass(frozen=True)
class ImagingQuality(Metric):
    """Mean over frames of MUSIQ-SPAQ's score, 0..100, over 100 (vbench.imaging_quality, mode "longer")."""

    name: ClassVar[str] = "imaging_quality"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("imaging_quality", "0..1", True, "MUSIQ (SPAQ) score of the frames, over 100"),
    )
    weights: ClassVar[tuple[str, ...]] = ("musiq",)

    def start(self, info: ClipInfo, device: torch.device) -> Scorer:
        if max(info.height, info.width) > STRETCH * min(info.height, info.width):
            raise ValueError(f"frames of {info.height} x {info.width} are too narrow to be scored")
        load_musiq(device)
        return FrameMean(lambda batch: musiq_scores(batch, device) / 100)
