"""Learned caption embeddings, in place of a text encoder: one row per word of the world's vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepforcing.tiny.world import VOCABULARY, parse_caption

TEXT_DIM = 64
TEXT_LEN = len(VOCABULARY)


class CaptionEmbedding(nn.Module):
    """Prompt -> [5, TEXT_DIM]: the embeddings of its shape, colour, start, direction and background."""

    offsets: Tensor

    def __init__(self) -> None:
        super().__init__()
        sizes = [len(words) for words in VOCABULARY]
        self.table = nn.Embedding(sum(sizes), TEXT_DIM)
        self.register_buffer("offsets", torch.tensor([sum(sizes[:i]) for i in range(len(sizes))]), persistent=False)

    def embed(self, classes: Tensor) -> Tensor:
        """classes: int64 [B, 5] -> [B, 5, TEXT_DIM]."""
        rows: Tensor = self.table(classes + self.offsets)
        return rows

    def forward(self, prompts: list[str]) -> Tensor:
        """Raises ValueError for a prompt that the world cannot draw."""
        return self.embed(torch.tensor([parse_caption(p) for p in prompts], device=self.table.weight.device))
