"""VBench's aesthetic quality: LAION's linear head on CLIP's features of each frame."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Scorer, Value
from eval.measure.scorers import FrameMean
from eval.networks.checkpoint import read_state
from eval.networks.clip import clip_features, load_clip
from eval.networks.files import fill
from eval.networks.weights import required

WIDTH = 768  # of CLIP ViT-L/14's features


@functools.cache
def aesthetic_head(path: Path, device: torch.device) -> nn.Module:
    """Linear, 768 to 1. Raises ValueError if the weights are unfit."""
    head = nn.Linear(WIDTH, 1)
    fill(head, read_state(path), path)
    return head.to(device).eval().requires_grad_(False)


@dataclass(frozen=True)
class AestheticQuality(Metric):
    """Mean over frames of the LAION aesthetic score, 0..10, over 10 (vbench.aesthetic_quality)."""

    name: ClassVar[str] = "aesthetic_quality"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("aesthetic_quality", "0..1", True, "LAION aesthetic score of the frames, over 10"),
    )
    weights: ClassVar[tuple[str, ...]] = ("clip_l14", "aesthetic_head")

    def start(self, info: ClipInfo, device: torch.device) -> Scorer:
        width = load_clip("clip_l14", device).output_dim
        if width != WIDTH:
            raise ValueError(f"the weights {required('clip_l14')} give {width} features; ViT-L/14 gives {WIDTH}")
        head = aesthetic_head(required("aesthetic_head"), device)

        def scores(batch: Batch) -> Tensor:
            features = F.normalize(clip_features(batch, "clip_l14", device).float(), dim=-1)
            return torch.as_tensor(head(features))[:, 0] / 10

        return FrameMean(scores)
