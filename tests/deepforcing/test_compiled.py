"""The steady passes as compiled graphs: none breaks, none is compiled again once the cache has found its cycle."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from steady import CONFIG, POLICIES, SCHEDULE
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.observe import Seen
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.rolling import rolling
from deepforcing.rollout.rules import Rolling
from deepforcing.wan.weights import random_wan

MODEL = random_wan(CONFIG)
CHUNKS = 40


class Graphs:
    """torch.compile's eager backend, counting the graphs that it is handed."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> Callable[..., Any]:
        self.count += 1
        return graph.forward


@pytest.mark.slow
@pytest.mark.parametrize("name", POLICIES)
def test_a_steady_pass_is_one_graph(name: str) -> None:
    """fullgraph raises at a break; after the first full cycle nothing compiles, and no bit differs from the plain passes."""
    torch._dynamo.reset()
    text = MODEL.encode_text(torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(8)))
    graphs = Graphs()
    compiled = torch.compile(MODEL.forward, fullgraph=True, dynamic=False, backend=graphs)
    total, policy = CHUNKS * 3, POLICIES[name]

    def run(steady: Any) -> tuple[list[Tensor], list[int]]:
        noise = KeyedNoise([(0, "p")])
        if name == "rolling_forcing":
            cache = KVCache(Rolling().cached(policy, 3), CONFIG, (2, 2), 3, total)
            made = rolling(MODEL, text, cache, SCHEDULE, noise, total, (4, 4), steady=steady)
        else:
            cache = policy.new_cache(CONFIG, (2, 2), 3, total)
            made = chunkwise(MODEL, text, cache, SCHEDULE, noise, total, (4, 4), steady=steady)
        latents, counts = [], []
        for chunk in made:
            latents.append(chunk.latents)
            counts.append(graphs.count)
        return latents, counts

    with torch._dynamo.config.patch(recompile_limit=64):
        latents, counts = run(compiled)
    plain, _ = run(None)
    assert all(torch.equal(a, b) for a, b in zip(latents, plain, strict=True))
    settled = policy.slots(3, total) // 3 + 3  # the window full, and one compressing and one growing chunk
    assert counts[settled] >= 1
    assert counts[settled:-1] == [counts[settled]] * (CHUNKS - settled - 1)
    if name != "rolling_forcing":  # whose window shortens at the end
        assert counts[-1] == counts[settled]


@pytest.mark.parametrize(
    "name", [n for n in POLICIES if n not in ("dummy_forcing", "forcing_kv", "pyramid_forcing")]
)  # whose observers hear of bands (test_bands.py)
def test_an_observer_sees_every_pass_and_changes_nothing(name: str) -> None:
    text = MODEL.encode_text(torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(8)))
    total, policy = 36, POLICIES[name]
    seen: list[Seen] = []

    def run(watch: Any) -> list[Tensor]:
        noise = KeyedNoise([(0, "p")])
        if name == "rolling_forcing":
            cache = KVCache(Rolling().cached(policy, 3), CONFIG, (2, 2), 3, total, watch=watch)
            made = rolling(MODEL, text, cache, SCHEDULE, noise, total, (4, 4))
        else:
            cache = policy.new_cache(CONFIG, (2, 2), 3, total, watch=watch)
            made = chunkwise(MODEL, text, cache, SCHEDULE, noise, total, (4, 4))
        return [chunk.latents for chunk in made]

    watched = run(seen.append)
    assert all(torch.equal(a, b) for a, b in zip(watched, run(None), strict=True))
    windows = 12 + 1 if name == "rolling_forcing" else 12
    passes = 2 * windows if name == "rolling_forcing" else 3 * windows
    assert len(seen) == passes * CONFIG.num_layers
    for s in seen:
        assert len(s.slots) == len(s.positions)
        assert s.keys.shape[2] == 4 * len(s.slots)
        frames = [slot.frame for slot in s.slots if slot.role == "chunk"]
        assert frames == list(range(s.start, s.start + s.queries.shape[2] // 4))
        past = [p for slot, p in zip(s.slots, s.positions, strict=True) if slot.role != "chunk" and p is not None]
        assert all(p < s.start for p in past)
        assert len(set(past)) == len(past)
    assert {s.kind for s in seen} == {"denoise", "commit"}
