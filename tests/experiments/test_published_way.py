"""The published way, re-enacted, makes our latents: rolled, and compressed as the Deep Forcing release does it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from benchmarks.published import CACHES, SAME, compare, main
from benchmarks.published_caches import WINDOW, RolledCache


@pytest.mark.slow
@pytest.mark.parametrize("cache", CACHES)
def test_the_same_latents(cache: str) -> None:
    with torch.inference_mode():
        found = compare(cache, 4)
    assert max(found["differ_by"].values()) < SAME[cache]
    assert found["seconds"].keys() == {"published", "plain", "packed"}


def test_a_rolled_cache_reads_the_newest_frames() -> None:
    heads, dim, grid, chunk = 2, 12, (2, 2), 3
    tokens = grid[0] * grid[1]
    config = SimpleNamespace(num_heads=heads, dim=heads * dim, rope_split=(2, 2, 2), num_layers=1)
    model: Any = SimpleNamespace(config=config, blocks=[None])
    cache, generator = RolledCache(model, grid), torch.Generator().manual_seed(0)
    keys = values = torch.zeros(1, 0, heads, dim)
    for start in range(0, WINDOW + 5 * chunk, chunk):
        cache.begin(start)
        for _ in range(2):  # each pass takes the place of the one before
            q, k, v = torch.randn(3, 1, chunk * tokens, heads, dim, generator=generator)
            all_k, all_v = torch.cat([keys, cache.turned(k)], 1), torch.cat([values, v], 1)
            key, value = (x[:, -WINDOW * tokens :].transpose(1, 2) for x in (all_k, all_v))
            expected = F.scaled_dot_product_attention(cache.turned(q).transpose(1, 2), key, value).transpose(1, 2)
            torch.testing.assert_close(cache.attend(0, q, k, v), expected, atol=1e-6, rtol=0)
        keys, values = all_k, all_v


@pytest.mark.parametrize("word", ["chunks=2", "cache=deep_sink", "threads=0", "packed"])
def test_other_words_are_one_line(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {word!r} is no key here; known: cache= one of self_forcing, deep_forcing_release, chunks="
    )
    assert said.count("\n") == 1
