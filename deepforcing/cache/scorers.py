"""Scores by which Participative Compression chooses tokens. A scorer is one small frozen class.

Shapes: B batch, H heads, L query tokens, T key tokens, D head dim.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor


class Scorer(Protocol):
    """A scorer whose score of a key does not depend on the other keys may say so with a class attribute
    `apart = True`: past and chunk are then scored apart, without copying them together."""

    def score(self, queries_BHLD: Tensor, keys_BHTD: Tensor, key: int) -> Tensor:
        """Importance of every key for every head, float32 [B, H, T]. key: an int that differs per layer and chunk."""
        ...


@dataclass(frozen=True)
class QueryKey:
    """Sum over the recent queries of q . k, both with rotary embedding, no softmax (paper, equation 7).

    The queries are summed first, so the cost is one matrix-vector product per head. Scaled by 1/(sqrt(D) * H) as in the
    released code; the scale changes no choice.
    """

    apart: ClassVar[bool] = True

    def score(self, queries_BHLD: Tensor, keys_BHTD: Tensor, key: int) -> Tensor:
        heads, dim = keys_BHTD.shape[1], keys_BHTD.shape[3]
        summed = queries_BHLD.float().sum(2, keepdim=True).to(keys_BHTD.dtype)
        scores: Tensor = (summed @ keys_BHTD.mT).squeeze(2).float() / (dim**0.5 * heads)
        return scores


@dataclass(frozen=True)
class Random:
    """Uniform random choice, the paper's control (figure 12).

    One draw per layer and chunk, shared by all videos (a video must not depend on its batch): sweep `seed` to see the
    control's own spread.
    """

    seed: int = 0

    def score(self, queries_BHLD: Tensor, keys_BHTD: Tensor, key: int) -> Tensor:
        generator = torch.Generator(keys_BHTD.device).manual_seed(self.seed * 1_000_003 + key)
        scores = torch.rand(keys_BHTD.shape[1:3], generator=generator, device=keys_BHTD.device)
        return scores.expand(keys_BHTD.shape[0], -1, -1)  # one choice for all videos: none depends on its batch
