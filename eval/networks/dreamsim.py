"""DreamSim (Fu et al. 2023), the ensemble of its own package, with which VBench-Long compares clips."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.measure.batch import Batch
from eval.networks.batches import in_parts
from eval.networks.checkpoint import data_only
from eval.networks.files import packages
from eval.networks.preprocess import SIDE
from eval.networks.weights import required


def dreamsim_features(batch: Batch, device: torch.device) -> Tensor:
    """The ensemble's embeddings [b, D], float32, as the package returns them."""
    model = dreamsim_model(required("dreamsim").parent, device)
    with torch.inference_mode():
        return in_parts(model.embed, dreamsim_input(batch.floats_on(device)))


@functools.cache
def dreamsim_model(folder: Path, device: torch.device) -> Any:
    """The package's model, its checkpoints read as those of all other networks. It loads DINO's source through torch.hub.

    Raises ValueError if a checkpoint is unfit.
    """
    with packages():
        from dreamsim import dreamsim
    with data_only():
        model, _ = dreamsim(pretrained=True, cache_dir=str(folder), device=str(device))
    return model


def dreamsim_input(frames: Tensor) -> Tensor:
    """float32 [b, 3, H, W] in 0..255 -> [b, 3, 224, 224], not clamped to 0..1: bicubic, antialiased, not in proportion."""
    resized = F.interpolate(frames, (SIDE, SIDE), mode="bicubic", align_corners=False, antialias=True)
    return resized / 255.0
