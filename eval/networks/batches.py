"""How much a network should be given at once.

Less is faster on a CPU: a tensor that does not stay in the caches takes longer than its parts one by one, and one of more
than 32 MB (the most that glibc keeps for the next) comes from the system anew every time, page by page.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from eval.networks import backend

CELL = 8  # pixels
SHARE = 64  # of a card's memory, that one tensor of a batch may take: 1.3 GB of 80
CPU = 2**21  # bytes of correlations at once
FRAMES = 4  # of a transformer of a few hundred tokens a frame, on a CPU
FRAMES_ON_GPU = 32  # ... where every call has as many: the most that are decoded ahead


def pairs_at_once(height: int, width: int, device: torch.device) -> int:
    """For networks that correlate all cells of two frames of height x width pixels: at least 1."""
    return max(1, (CPU if device.type == "cpu" else room(device)) // (4 * cells_of(height, width) ** 2))


def cells_of(height: int, width: int) -> int:
    return (height // CELL) * (width // CELL)


def both_ways(height: int, width: int) -> int:
    """Bytes of all correlations of two frames, both ways and pooled over 1, 2, 4 and 8 cells."""
    return 2 * 4 * cells_of(height, width) ** 2 * 4 // 3


@functools.cache
def room(device: torch.device) -> int:
    """Bytes for one tensor of a batch on a GPU, by the size of the card: not by what is free, so that batches are the same."""
    return int(torch.cuda.get_device_properties(device).total_memory) // SHARE


def in_parts(network: Callable[[Tensor], Tensor], frames: Tensor, at_once: int = FRAMES) -> Tensor:
    """network(frames), on a CPU for `at_once` of them at a time; [b, ...] -> [b, ...]. network: one object in all calls."""
    if backend.in_use is not None:
        return backend.in_equal_parts(
            backend.compiled(network), (frames,), at_once if frames.device.type == "cpu" else FRAMES_ON_GPU
        )
    if frames.device.type != "cpu":
        return network(frames)
    return torch.cat([network(part) for part in torch.split(frames, at_once)])
