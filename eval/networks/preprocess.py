"""Frames as the image networks want them: torchvision's transforms as VBench 0.1.5 sets them, bit for bit, on any device.

torchvision resizes tensors with F.interpolate(align_corners=False). Without antialiasing, as here, values of a bicubic
resize of float frames may leave 0..255 and stay so: nothing is clamped or rounded. b frames, H and W pixels of the file.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SIDE = 224  # of what CLIP sees, and the short side of what DINO sees
LONGEST = 512  # of what MUSIQ sees
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def bilinear_layout(device: torch.device) -> torch.memory_format:
    """Of frames that `dino_input` and `musiq_input` resize soonest; the numbers are the same. A thread that has one processor
    takes 2.7 times as long with channels first, one that has two twice as long with channels last. A bicubic resize always
    wants them first.
    """
    alone = device.type == "cpu" and torch.get_num_threads() == 1
    return torch.channels_last if alone else torch.contiguous_format


def clip_input(frames: Tensor) -> Tensor:
    """float32 [b, 3, H, W] in 0..255 -> [b, 3, 224, 224]: short side to 224 (bicubic), the middle, CLIP's colours."""
    resized = F.interpolate(frames, short_side(*frames.shape[-2:]), mode="bicubic", align_corners=False)
    top, left = (round((length - SIDE) / 2) for length in resized.shape[-2:])
    return normalised(resized[..., top : top + SIDE, left : left + SIDE], CLIP_MEAN, CLIP_STD)


def dino_input(frames: Tensor) -> Tensor:
    """float32 [b, 3, H, W] in 0..255 -> [b, 3, 224, w] or [b, 3, h, 224], bilinear, nothing cut off."""
    resized = F.interpolate(frames, short_side(*frames.shape[-2:]), mode="bilinear", align_corners=False)
    return normalised(resized, IMAGENET_MEAN, IMAGENET_STD)


def musiq_input(frames: Tensor) -> Tensor:
    """float32 [b, 3, H, W] in 0..255 -> 0..1, the long side at most 512 (bilinear); VBench's mode "longer"."""
    height, width = frames.shape[-2:]
    if max(height, width) > LONGEST:
        frames = F.interpolate(frames, musiq_size(height, width), mode="bilinear", align_corners=False)
    return frames / 255.0


def short_side(height: int, width: int) -> tuple[int, int]:
    """Size with the short side at 224, the long one rounded down."""
    if height <= width:
        return SIDE, int(SIDE * width / height)
    return int(SIDE * height / width), SIDE


def musiq_size(height: int, width: int) -> tuple[int, int]:
    """Size with the long side at most 512, rounded down (and so 511 now and then, as VBench has it)."""
    scale = LONGEST / max(height, width)
    return (int(scale * height), int(scale * width)) if scale < 1 else (height, width)


def normalised(frames: Tensor, mean: tuple[float, ...], std: tuple[float, ...]) -> Tensor:
    """0..255 to 0..1 and then to zero mean and unit deviation, channel by channel."""
    shift, scale = (torch.tensor(numbers, device=frames.device).view(3, 1, 1) for numbers in (mean, std))
    return (frames / 255.0).sub_(shift).div_(scale)
