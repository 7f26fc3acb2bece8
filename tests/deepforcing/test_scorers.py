"""Scores against what they say in words, in float64."""

from __future__ import annotations

import pytest
import torch
from driver import CHUNK, S, Selections, cache_for, compression, drive
from torch import Tensor

from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.scorers import AttentionMass, KeyNorm, MostRecent, QueryKey, Scorer, ValueAware


def tensors() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(4)
    return torch.randn(2, 3, 700, 14, generator=generator), torch.randn(2, 3, 50, 14, generator=generator)


def test_attention_mass_is_the_softmaxs_column_sum() -> None:
    """Over more queries than go through at once; the mass of all keys is the number of queries."""
    q, k = tensors()
    got = AttentionMass().score(q, k, 0)
    logits = torch.einsum("bhld,bhtd->bhlt", q.double(), k.double()) / 14**0.5
    torch.testing.assert_close(got.double(), logits.softmax(3).sum(2), atol=1e-4, rtol=1e-5)
    torch.testing.assert_close(got.sum(2), torch.full((2, 3), 700.0), atol=1e-2, rtol=0)


def test_value_aware_is_mass_times_the_values_absolute_sum() -> None:
    q, k = tensors()
    v = torch.randn(2, 3, 50, 14, generator=torch.Generator().manual_seed(5))
    assert torch.equal(ValueAware().score(q, k, 0), AttentionMass().score(q, k, 0))
    torch.testing.assert_close(ValueAware().weigh(v), sum(v[..., i].abs() for i in range(14)))


def test_a_token_without_a_value_is_never_chosen_by_value() -> None:
    """However much it is looked at."""
    picks = Selections()
    cache = cache_for(CachePolicy(compression(scorer=ValueAware()), "sink"), watch=picks)
    for start in range(0, 15, CHUNK):
        cache.begin(start)
        for layer in (0, 1):
            q, k, v = (torch.ones(1, 2, CHUNK * S, 14) for _ in range(3))
            if start == 6:
                v, k = v * 0, k * 9
            cache.commit().attend(layer, q, k, v)
    assert picks
    assert not {i for pick in picks for i in pick.indices.flatten().tolist()} & set(range(6 * S, 9 * S))


def test_key_norms_and_recency() -> None:
    q, k = tensors()
    assert torch.equal(KeyNorm().score(q, k, 0), -KeyNorm(largest=False).score(q, k, 0))
    torch.testing.assert_close(KeyNorm().score(q, k, 0), k.pow(2).sum(3).sqrt())
    assert MostRecent().score(q, k, 0)[1, 2].tolist() == list(range(50))


@pytest.mark.parametrize("scorer", [AttentionMass(), ValueAware(), KeyNorm(), KeyNorm(False), MostRecent()], ids=str)
def test_a_scorer_chooses_its_own_tokens(scorer: Scorer) -> None:
    def chosen(by: Scorer) -> list[list[int]]:
        selections = Selections()
        for _ in drive(cache_for(CachePolicy(compression(scorer=by), "sink"), watch=selections)):
            pass
        return [s.indices.flatten().tolist() for s in selections]

    mine = chosen(scorer)
    assert mine != chosen(QueryKey())
    if isinstance(scorer, MostRecent):  # right before the recent frames: 12 past, 3 of the chunk, 4 recent
        assert mine[0] == list(range((12 + CHUNK - 4 - 2) * S, (12 + CHUNK - 4) * S))
