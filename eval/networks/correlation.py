"""How many pairs of frames a network that correlates all their cells should be given at once."""

from __future__ import annotations

import torch

CELL = 8  # pixels
GPU = 2**30  # bytes of correlations at once: enough to fill it
CPU = 2**21  # a batch that does not stay in the caches takes longer than its members one by one


def pairs_at_once(height: int, width: int, device: torch.device) -> int:
    """At least 1, for frames of height x width pixels."""
    cells = (height // CELL) * (width // CELL)
    return max(1, (CPU if device.type == "cpu" else GPU) // (4 * cells**2))
