"""Every policy with every store, with a commit rule of its own, under changes of prompt: found in conf/cache, not listed."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from presets import CONF, CONFIG, MODEL, NAMES, TEXT, policy
from torch import Tensor

from deepforcing.cache.ahead import reads_all
from deepforcing.cache.policy import CachePolicy
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.rules import Chunkwise
from deepforcing.rollout.schedule import Schedule

STORES = sorted(path.stem for path in (CONF / "store").glob("*.yaml"))
FAST = ("deep_forcing", "infinity_rope_release", "forcing_kv")  # tokens, whole frames that are flushed, heads in bands
TOTAL = 30


def store(name: str) -> Any:
    config = OmegaConf.load(CONF / "store" / f"{name}.yaml")
    if "block_tokens" in config:
        config.block_tokens = 4  # a frame of the small model
    return instantiate(config, _convert_="object")


def roll(made: CachePolicy, seeds: tuple[int, ...], **options: Any) -> list[Tensor]:
    text = type(TEXT)(*(tuple(t.expand(len(seeds), -1, -1, -1) for t in part) for part in TEXT))
    held = made.new_cache(CONFIG, (2, 2), 3, TOTAL, len(seeds))
    noise = KeyedNoise([(seed, "p") for seed in seeds])
    return [c.latents for c in chunkwise(MODEL, text, held, Schedule((1000, 500)), noise, TOTAL, (4, 4), **options)]


@cache
def dense(name: str) -> list[Tensor]:
    return roll(policy(name), (1,))


def marked(*fast: str) -> list[Any]:
    return [pytest.param(name, marks=[] if name in fast else [pytest.mark.slow]) for name in NAMES]


@pytest.mark.parametrize("kept", [s for s in STORES if s != "dense"])
@pytest.mark.parametrize("name", marked("deep_forcing"))
def test_every_policy_with_every_store(name: str, kept: str) -> None:
    """The same video each time, near the dense one while the first chunks are made, and not it."""
    made = replace(policy(name), store=store(kept))
    one, again = roll(made, (1,)), roll(made, (1,))
    assert all(torch.equal(a, b) for a, b in zip(one, again, strict=True))
    assert all(latents.isfinite().all() for latents in one)
    assert torch.equal(one[0], dense(name)[0])  # its own chunk is exact
    assert not torch.equal(one[-1], dense(name)[-1])
    torch.testing.assert_close(one[1], dense(name)[1], atol=1.0, rtol=0)


@pytest.mark.parametrize("name", marked(*FAST))
def test_every_policy_with_a_commit_rule_of_its_own(name: str) -> None:
    """Batches right, and another video than without, once commits would have read more."""
    made = replace(policy(name), commit_frames=6)
    together, one = roll(made, (0, 1)), roll(made, (1,))
    for both, alone in zip(together, one, strict=True):
        torch.testing.assert_close(both[1:], alone, atol=2e-4, rtol=1e-3)
    assert all(torch.equal(a, b) for a, b in zip(one[:2], dense(name)[:2], strict=True))
    assert not torch.equal(one[-1], dense(name)[-1])


@pytest.mark.parametrize("on_switch", ["nothing", "recache", "recache_sink"])
@pytest.mark.parametrize("name", marked(*FAST))
def test_a_prompt_may_change_at_any_chunk_or_is_refused_before(name: str, on_switch: Any) -> None:
    """At the second chunk, when next to nothing is stored, and when windows are full; with a commit rule of its own too."""
    later = MODEL.encode_text(torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(9)))
    for made in (policy(name), replace(policy(name), commit_frames=6)):
        if on_switch != "nothing" and not (made.recomputes and reads_all(made.retention, 3, TOTAL)):
            with pytest.raises(ValueError, match=r"use generator\.on_switch=nothing"):
                Chunkwise(on_switch).check_schedule(made, 3, TOTAL)
            continue
        Chunkwise(on_switch).check_schedule(made, 3, TOTAL)
        changed = roll(made, (1,), switches={3: later, 6: TEXT, 24: later}, on_switch=on_switch)
        assert torch.equal(changed[0], dense(name)[0])
        assert all(latents.isfinite().all() for latents in changed)
        assert not torch.equal(changed[1], dense(name)[1])
