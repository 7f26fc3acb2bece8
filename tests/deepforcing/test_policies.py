"""What must hold of every policy that conf/cache names, whatever it does: batches, leaks, bounds, positions."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from presets import CONFIG, MODEL, NAMES, TEXT, policy
from torch import Tensor

from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.schedule import Schedule

TOTAL = 45


def roll(name: str, seeds: tuple[int, ...], total: int = TOTAL, watch: Any = None) -> tuple[list[Tensor], list[float]]:
    """Latents and tokens read, per chunk."""
    text = type(TEXT)(*(tuple(t.expand(len(seeds), -1, -1, -1) for t in part) for part in TEXT))
    held = policy(name).new_cache(CONFIG, (2, 2), 3, total, len(seeds), watch=watch)
    noise = KeyedNoise([(seed, "p") for seed in seeds])
    chunks = list(chunkwise(MODEL, text, held, Schedule((1000, 500)), noise, total, (4, 4)))
    return [c.latents for c in chunks], [c.tokens for c in chunks]


@cache
def alone(name: str) -> tuple[list[Tensor], list[float]]:
    return roll(name, (1,))


@pytest.mark.parametrize("name", NAMES)
def test_a_video_does_not_depend_on_its_batch_nor_on_earlier_ones(name: str) -> None:
    together, _ = roll(name, (0, 1))
    for both, one in zip(together, alone(name)[0], strict=True):
        torch.testing.assert_close(both[1:], one, atol=2e-4, rtol=1e-3)
    again, _ = roll(name, (1,))
    assert all(torch.equal(a, b) for a, b in zip(again, alone(name)[0], strict=True))


@pytest.mark.parametrize("name", NAMES)
def test_a_longer_video_begins_like_a_shorter_one_and_reads_no_more(name: str) -> None:
    longer, read = roll(name, (1,), 2 * TOTAL)
    assert all(torch.equal(a, b) for a, b in zip(longer, alone(name)[0], strict=False))
    assert all(latents.isfinite().all() for latents in longer)
    if name != "keep_all":
        assert max(read[TOTAL // 3 :]) <= max(read[: TOTAL // 3])


@pytest.mark.parametrize("name", [n for n in NAMES if n not in ("self_forcing", "keep_all")])
def test_a_policy_is_not_another(name: str) -> None:
    """A preset that did nothing would be one of these two."""
    for other in ("self_forcing", "keep_all"):
        assert not all(torch.equal(a, b) for a, b in zip(alone(name)[0], alone(other)[0], strict=True))
