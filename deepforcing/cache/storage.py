"""What the KV cache stores, per layer: keys, values, and where single tokens come from.

Shapes: B batch, H heads, D head dim, S tokens per frame (slot), T tokens, L query tokens, G = H if heads choose for
themselves, else 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepforcing.wan.config import WanConfig


@dataclass
class Selection:
    """One layer's choice at one compression, for figures and parity.

    start: first frame of the chunk. indices: int64 [B, G, n] into the past tokens in temporal order followed by the
    chunk's. scores: float32 [B, G, T] of all of those.
    """

    layer: int
    start: int
    indices: Tensor
    scores: Tensor


class Layer:
    """Storage of one layer. Slot i of the buffers is tokens [i*S, (i+1)*S)."""

    def __init__(self, batch: int, config: WanConfig, tokens: int, dtype: torch.dtype, device: torch.device) -> None:
        shape = (batch, config.num_heads, tokens, config.head_dim)
        self.raw = torch.empty(shape, dtype=dtype, device=device)  # keys without rotary embedding
        self.k = torch.empty(shape, dtype=dtype, device=device)  # keys as read
        self.v = torch.empty(shape, dtype=dtype, device=device)
        self.past_queries: Tensor | None = None  # rotated queries of the last recent frames, [B, H, L, D]
        self.visible: Tensor | None = None  # bool [B, G, T]; None: every token is


class Origins:
    """Where one layer's tokens come from, for policies that choose single tokens: int64 [B, G, T] each."""

    def __init__(self, batch: int, groups: int, tokens: int, device: torch.device) -> None:
        self.frame, self.place, self.reuse = (
            torch.zeros((batch, groups, tokens), dtype=torch.int64, device=device) for _ in range(3)
        )

    def write(self, first: int, frames: range, slot_tokens: int) -> None:
        """Tokens of whole frames, from token `first` on."""
        at = slice(first, first + len(frames) * slot_tokens)
        place = torch.arange(slot_tokens, device=self.place.device)
        self.frame[:, :, at] = torch.arange(frames.start, frames.stop, device=place.device).repeat_interleave(
            slot_tokens
        )
        self.place[:, :, at] = place.repeat(len(frames))
        self.reuse[:, :, at] = 0
