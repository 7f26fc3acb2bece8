"""Learned caption embeddings, in place of a text encoder: one row per word of a world's vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from deepforcing.tiny.worlds import TEXT_DIM, World


class CaptionEmbedding(nn.Module):
    """Prompt -> [groups, TEXT_DIM]: the embedding of the word that it names of each group of the world's vocabulary."""

    offsets: Tensor

    def __init__(self, world: World) -> None:
        super().__init__()
        self.parse = world.parse_caption  # not the world: a module of Python cannot be copied with the model
        sizes = [len(words) for words in world.VOCABULARY]
        self.table = nn.Embedding(sum(sizes), TEXT_DIM)
        self.register_buffer("offsets", torch.tensor([sum(sizes[:i]) for i in range(len(sizes))]), persistent=False)

    def embed(self, classes: Tensor) -> Tensor:
        """classes: int64 [B, groups] -> [B, groups, TEXT_DIM]."""
        rows: Tensor = self.table(classes + self.offsets)
        return rows

    def forward(self, prompts: list[str]) -> Tensor:
        """Raises ValueError for a prompt that the world cannot draw."""
        classes = [self.parse(prompt) for prompt in prompts]
        return self.embed(torch.tensor(classes, device=self.table.weight.device))
