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
    `apart = True`: past and chunk are then scored apart, without copying them together. With a method
    `weigh(values_BHTD)`, float32 [B, H, T], its scores are multiplied by what that makes of the values. With an int
    `before_last` they are multiplied by the tokens' denoising gaps (gaps.py) of so many steps before the last."""

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


@dataclass(frozen=True)
class AttentionMass:
    """Attention that each key receives: softmax over all keys for every head and query, summed over the queries.

    Unlike QueryKey's sum, a key that all queries like a little less than others counts for little. Queries go through in
    blocks, so that the weights of all of them are never held at once.
    """

    block: ClassVar[int] = 512

    def score(self, queries_BHLD: Tensor, keys_BHTD: Tensor, key: int) -> Tensor:
        keys = keys_BHTD.float().mT / keys_BHTD.shape[3] ** 0.5
        mass = torch.zeros(keys_BHTD.shape[:3], dtype=torch.float32, device=keys_BHTD.device)
        for first in range(0, queries_BHLD.shape[2], self.block):
            mass += (queries_BHLD[:, :, first : first + self.block].float() @ keys).softmax(3).sum(2)
        return mass


@dataclass(frozen=True)
class ValueAware(AttentionMass):
    """AttentionMass times the L1 norm of the token's value: what it adds to outputs, not only how much it is looked at.

    Source: VATP (Guo et al., EMNLP 2024), a rule for language models: attention times value norm. Deviation: attention there is
    of the latest queries under a causal mask; here it is that of the queries that the policy scores by.
    """

    def weigh(self, values_BHTD: Tensor) -> Tensor:
        return values_BHTD.float().abs().sum(3)


@dataclass(frozen=True)
class KeyNorm:
    """The larger a key, the sooner it is kept; largest=False: the smaller (keys with small norms draw much attention in
    language models). Rotary embedding does not change it. No query enters: a control for those that ask them."""

    largest: bool = True

    apart: ClassVar[bool] = True

    def score(self, queries_BHLD: Tensor, keys_BHTD: Tensor, key: int) -> Tensor:
        norm: Tensor = keys_BHTD.float().norm(dim=3)
        return norm if self.largest else -norm


@dataclass(frozen=True)
class MostRecent:
    """The later in the cache, the better: compression without choice, a control at the same budget."""

    def score(self, queries_BHLD: Tensor, keys_BHTD: Tensor, key: int) -> Tensor:
        order = torch.arange(keys_BHTD.shape[2], dtype=torch.float32, device=keys_BHTD.device)
        return order.expand(keys_BHTD.shape[:3])


@dataclass(frozen=True)
class DenoisingGap:
    """The farther a token's clean prediction, so many denoising steps before the last, was from its final latents, the sooner
    it is kept: what the context predicted badly is what it did not hold yet. No query or key enters; a token has one score
    in all layers and heads, for as long as it is kept.

    Source: DeCoPrune (arXiv 2609.39096, its repository's files at 4f933481), from the text: mean squared difference over a
    token's channels and latent pixels, at the third of four steps. Deviation: it keeps all tokens above a threshold (0.10)
    for ever, so its cache grows; here the policy's budget says how many stay.
    """

    before_last: int = 1

    apart: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.before_last < 1:
            raise ValueError(
                f"before_last={self.before_last} must be at least 1: the last step's prediction is the outcome itself"
            )

    def score(self, queries_BHLD: Tensor, keys_BHTD: Tensor, key: int) -> Tensor:
        return keys_BHTD.new_ones(keys_BHTD.shape[:3], dtype=torch.float32)
