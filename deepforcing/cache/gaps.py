"""What tokens keep of the denoising: how far an intermediate clean prediction was from what the chunk became.

A policy asks for it by `Needs.gap`. The rollout then hands both over, before the chunk's commit; no pass does more than it
did, and nothing is read back from the device.

Shapes: B batch, F frames of a chunk, C channels, Y x X latent pixels, S tokens per frame, T tokens, G as in storage.py.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from deepforcing.cache.kv import KVCache
    from deepforcing.cache.storage import Layer


def denoising_gap(early: Tensor, final: Tensor, grid: tuple[int, int]) -> Tensor:
    """Mean squared difference of two clean latents [B, F, C, Y, X] over the channels and latent pixels of each token:
    float32 [B, F * S], rows first. grid: tokens (rows, columns) of a frame."""
    rows, columns = grid
    batch, frames, channels, height, width = final.shape
    squared = (early.float() - final.float()).square()
    patches = squared.view(batch, frames, channels, rows, height // rows, columns, width // columns)
    return patches.mean((2, 4, 6)).flatten(1)


class Gaps:
    """Of one batch of videos. before_last: the prediction that counts is so many denoising steps before the last (Needs.gap).

    newest: float32 [B, T], of the newest frames, as many as a change of prompt may compute again (switch.py).
    """

    def __init__(self, cache: KVCache, before_last: int, grid: tuple[int, int]) -> None:
        self.cache, self.before_last, self.grid = cache, before_last, grid
        self.newest = torch.empty((cache.batch, 0), dtype=torch.float32, device=cache.device)
        self.told: int | None = None  # first latent frame of the chunk that was told last

    def tell(self, early: Tensor, final: Tensor) -> None:
        """Of the current chunk: its clean prediction then, and its final latents, [B, F, C, Y, X] each."""
        cache, gap = self.cache, denoising_gap(early, final, self.grid)
        self.newest = torch.cat([self.newest, gap], 1)[:, -cache.capacity * cache.slot_tokens :]
        at, self.told = cache.tokens(cache.own), cache.view.start
        for layer in cache.layers:
            self.keep(layer, at, gap)

    def keep(self, layer: Layer, at: Tensor, gap: Tensor) -> None:
        """gap: [B, T] of these tokens of a layer."""
        assert layer.gap is not None
        layer.gap.index_copy_(2, at, gap[:, None].expand(-1, layer.gap.shape[1], -1))

    def check_told(self) -> None:
        """Raise ValueError where the current chunk is about to be committed without."""
        if self.told != self.cache.view.start:
            raise ValueError(
                "this cache keeps denoising gaps: before the commit of every chunk tell it the clean prediction and the "
                "outcome (cache.gaps.tell)"
            )
