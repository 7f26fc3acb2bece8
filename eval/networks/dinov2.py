"""DINOv2 ViT-B/14 (Oquab et al. 2023) from its own repository's source, with which VBench-Long compares clips."""

from __future__ import annotations

import functools
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepforcing.torchvision_cpu import make_importable
from eval.measure.batch import Batch
from eval.networks.batches import in_parts
from eval.networks.checkpoint import read_state
from eval.networks.files import fill
from eval.networks.linears import pack
from eval.networks.preprocess import IMAGENET_MEAN, IMAGENET_STD, SIDE, normalised
from eval.networks.weights import required

ENTRY = "dinov2_vitb14"
SHORT = 256  # short side before the middle is cut out


def dinov2_features(batch: Batch, device: torch.device) -> Tensor:
    """Features of the class token [b, D], float32, not normalised."""
    network = dinov2(required("dinov2_code"), required("dinov2"), device)
    with torch.inference_mode():
        return in_parts(network, dinov2_input(batch.floats_on(device)))


@functools.cache
def dinov2(source: Path, checkpoint: Path, device: torch.device) -> nn.Module:
    """The repository's entry point, filled from a plain state dict. Raises ValueError if either is unfit."""
    state = read_state(checkpoint)
    try:
        make_importable()  # the repository imports torchvision
        network: nn.Module = torch.hub.load(  # type: ignore[no-untyped-call]
            str(source), ENTRY, source="local", pretrained=False
        )
    except Exception as error:  # it is someone's source: it may fail in any way
        raise ValueError(
            f"{source} is not the source of facebookresearch/dinov2, or cannot be imported here "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from None
    fill(network, state, checkpoint)
    return pack(network.to(device).eval().requires_grad_(False))


def dinov2_input(frames: Tensor) -> Tensor:
    """float32 [b, 3, H, W] in 0..255 -> [b, 3, 224, 224]: short side to 256 (bicubic, antialiased), then the middle."""
    height, width = frames.shape[-2:]
    size = (SHORT, int(SHORT * width / height)) if height <= width else (int(SHORT * height / width), SHORT)
    resized = F.interpolate(frames, size, mode="bicubic", align_corners=False, antialias=True)
    top, left = (round((length - SIDE) / 2) for length in size)
    return normalised(resized[..., top : top + SIDE, left : left + SIDE], IMAGENET_MEAN, IMAGENET_STD)
