"""Recache: against attention written out, for every alignment and several retentions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
import torch
from driver import ALIGNMENTS, CHUNK, GRID, RETENTIONS, S, cache_for, draw, drive, policy
from naive import softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.switch import Recompute

BEFORE = 6  # chunks
NAMES = ("keep_all", "window9", "window11", "sink3of9", "sink4of11", "sink6of9_no_tail", "pc_both", "pc_per_head")


def passed(frames: range, layer: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(100 + layer)
    q, k, v = torch.randn(3, 1, 2, len(frames) * S, 14, generator=generator)
    return 2 * q, k, v


def clean_keys(frames: list[int], layer: int) -> tuple[Tensor, Tensor]:
    """Un-rotated keys and values that the driver committed for these frames."""
    parts = [[t[:, :, f % CHUNK * S :][:, :, :S] for t in draw(f"{f // CHUNK}clean{layer}")[1:]] for f in frames]
    empty = torch.zeros(1, 2, 0, 14)
    return torch.cat([empty, *(k for k, _ in parts)], 2), torch.cat([empty, *(v for _, v in parts)], 2)


@pytest.mark.parametrize(("retention", "alignment", "keep_sink"), [*product(NAMES, ALIGNMENTS, (True, False))])
def test_recache_is_attention_over_sink_and_frames(retention: str, alignment: str, keep_sink: bool) -> None:
    cache = cache_for(policy(retention, alignment), BEFORE + 1)
    for _ in drive(cache, BEFORE):
        pass
    start = BEFORE * CHUNK
    cache.absorb()
    held = replace(cache.view, slots=tuple(cache.slots))
    sinks = [s.frame for s in held.slots if s.role == "sink" and s.frame is not None]
    whole = len(held.slots) == start
    kept = len(sinks) if keep_sink and not whole else 0
    again = Recompute(cache, keep_sink)
    assert list(again.frames) == list(range(start - len(held.slots), start))
    if alignment == "absolute" or not kept:
        places = sinks[:kept]
    elif alignment == "release":
        shift = 0 if held.first_drop is None or held.last_drop is None else 5 + held.last_drop - held.first_drop
        places = [f + shift for f in sinks]
    else:
        places = list(again.frames)[:kept]  # right before what is refreshed
    refreshed = list(again.frames)[kept:]
    for layer in (0, 1):
        q, k, v = passed(again.frames, layer)
        sink_k, sink_v = clean_keys(sinks[:kept], layer)
        keys = torch.cat([turn_frames(sink_k, places, GRID), turn_frames(k[:, :, kept * S :], refreshed, GRID)], 2)
        values = torch.cat([sink_v, v[:, :, kept * S :]], 2)
        want = softmax_attention(turn_frames(q, list(again.frames), GRID), keys, values)
        torch.testing.assert_close(again.attend(layer, q, k, v).double(), want, atol=2e-5, rtol=0)
    # What the next chunk finds: whole frames in order, the roles that were there.
    slots = cache.slots
    assert [s.frame for s in slots] == sinks[:kept] + refreshed
    assert [s.role for s in slots if s.role == "sink"] == ["sink"] * len(sinks)
    assert all(s.role != "top" for s in slots)
    cache.begin(start)
    q, k, v = draw("next")
    cache.denoise().attend(0, q, k, v)
    if not isinstance(RETENTIONS[retention], ParticipativeCompression):
        slots = cache.view.slots
        positions = cache.policy.aligned.positions(cache.view)
        fresh = passed(again.frames, 0)[1]
        for i, (slot, position) in enumerate(zip(slots, positions, strict=True)):
            assert slot.frame is not None
            assert position is not None
            if slot.frame in refreshed:
                at = list(again.frames).index(slot.frame)
                raw = fresh[:, :, at * S : at * S + S]
            else:
                raw = clean_keys([slot.frame], 0)[0]
            got = cache.keys(0)[:, i * S : i * S + S].transpose(1, 2).double()
            torch.testing.assert_close(got, turn_frames(raw, [position], GRID), atol=2e-5, rtol=0)


@pytest.mark.parametrize("name", ["pc_both", "pc_per_head_random_reuse", "pc_exhausted", "pc_every_pass"])
@pytest.mark.parametrize("keep_sink", [True, False])
def test_compression_goes_on_after_a_recache(name: str, keep_sink: bool) -> None:
    cache = cache_for(policy(name, "unified"), 2 * BEFORE)
    for _ in drive(cache, BEFORE):
        pass
    again = Recompute(cache, keep_sink)
    for layer in (0, 1):
        again.attend(layer, *passed(again.frames, layer))
    for step in drive(cache, BEFORE, first=BEFORE * CHUNK, video="later"):
        assert all(out.isfinite().all() for layers in step.out for out in layers)
        assert len(step.view.slots) + CHUNK <= cache.capacity


def test_after_a_recompute_the_latest_queries_are_those_of_its_pass() -> None:
    """They score the next choice of tokens: those of before belong to the old prompt."""
    cache = cache_for(policy("pc_past", "unified"), 2 * BEFORE)
    for _ in drive(cache, BEFORE):
        pass
    before = [store.past_queries.clone() for store in cache.layers if store.past_queries is not None]
    again = Recompute(cache, keep_sink=True)
    for layer, old in enumerate(before):
        q, k, v = passed(again.frames, layer)
        again.attend(layer, q, k, v)
        kept = cache.layers[layer].past_queries
        assert kept is not None
        latest = 2 * S  # recent_frames - chunk
        want = turn_frames(q[:, :, -latest:], list(again.frames)[-2:], GRID).float()
        torch.testing.assert_close(kept, want, atol=1e-5, rtol=0)
        assert not torch.allclose(kept, old)


def test_after_a_recompute_nothing_is_hidden() -> None:
    """Places of tokens over a reuse limit are hidden until they hold something else: the next chunk reads them all."""
    rule = ParticipativeCompression(window_frames=15, sink_frames=1, budget_frames=12, recent_frames=4, reuse_limit=1)
    cache = cache_for(CachePolicy(rule, "absolute"), 20)
    chunks = 0
    for _ in drive(cache, 20):
        chunks += 1
        masks = [store.visible for store in cache.layers]
        grown = len(cache.slots) + CHUNK + CHUNK <= 15
        if grown and all(mask is not None and not mask.all() for mask in masks):
            break
    else:
        raise AssertionError("the limit never ran out of candidates")
    again = Recompute(cache, keep_sink=False)
    passes = [passed(again.frames, layer) for layer in (0, 1)]
    for layer in (0, 1):
        again.attend(layer, *passes[layer])
    start = chunks * CHUNK
    cache.begin(start)
    assert len(cache.slots) == len(again.frames)  # nothing is dropped, so nothing but the recompute can have shown them
    for layer in (0, 1):
        q, k, v = draw(f"next{layer}")
        frames = list(range(start, start + CHUNK))
        keys = torch.cat([turn_frames(passes[layer][1], list(again.frames), GRID), turn_frames(k, frames, GRID)], 2)
        want = softmax_attention(turn_frames(q, frames, GRID), keys, torch.cat([passes[layer][2], v], 2))
        got = cache.denoise().attend(layer, q, k, v)
        torch.testing.assert_close(got.double(), want, atol=2e-5, rtol=0)
