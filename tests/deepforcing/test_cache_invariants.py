"""The test matrix of every retention x every alignment, on the cache alone, driven with random queries, keys and values.

Positions and kept frames are written out here from the definitions; attention references run in float64 on the raw keys.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import pytest
import torch
from driver import (
    ALIGNMENTS,
    CHUNK,
    CHUNKS,
    GRID,
    MATRIX,
    RETENTIONS,
    S,
    Selections,
    cache_for,
    compression,
    draw,
    drive,
    outputs,
    policy,
    run,
    stacked,
)
from naive import softmax_attention, split_of, turn_frames
from torch import Tensor

from deepforcing.cache.alignment import ReleaseSink
from deepforcing.cache.compression import FrameCompression, ParticipativeCompression
from deepforcing.cache.policy import CachePolicy, Plan, Retention, View
from deepforcing.cache.retention import KeepAll, SinkWindow


@pytest.mark.parametrize(("retention", "alignment"), MATRIX)
def test_capacity_order_sinks_and_positions(retention: str, alignment: str) -> None:
    chosen = policy(retention, alignment)
    rule = chosen.retention
    cache = cache_for(chosen)
    window = rule.capacity(CHUNK) or CHUNKS * CHUNK
    sink = getattr(rule, "sink_frames", 0)
    size = cache.layers[0].k.shape
    dropped = False
    for step in drive(cache):
        view, start = step.view, step.view.start
        slots = view.slots
        # Capacity: never more than the window, and not an unused slot while there is something to remember.
        assert len(slots) + CHUNK <= window
        assert cache.attended_tokens == (len(slots) + CHUNK) * S
        assert cache.layers[0].k.shape == cache.layers[0].v.shape == size
        assert size[2] == window * S
        assert sorted([*cache.places, *cache.own]) == list(range(len(slots) + CHUNK))
        # Temporal order: sink, chosen tokens, contiguous tail up to the chunk.
        roles = [slot.role for slot in slots]
        assert roles == sorted(roles, key=["sink", "top", "tail"].index)
        whole = [slot.frame for slot in slots if slot.frame is not None]
        assert all(a < b for a, b in pairwise(whole))
        tail = [slot.frame for slot in slots if slot.role == "tail"]
        assert tail == list(range(start - len(tail), start))
        # Sinks survive for ever.
        assert [slot.frame for slot in slots if slot.role == "sink"] == list(range(min(sink, start)))
        dropped = dropped or (start > 0 and len(slots) < start)
        # Positions.
        positions = chosen.aligned.positions(view)
        assert len(positions) == len(slots)
        if not dropped:
            assert positions == list(range(start))
        elif alignment == "absolute":
            assert positions == [slot.frame for slot in slots]
        elif alignment in ("unified", "slot"):
            assert positions == list(range(start - len(slots), start))
        elif alignment in ("sink", "one_shift"):
            count, tops = roles.count("sink"), roles.count("top")
            begin = start - len(tail) - tops - count
            assert positions == [*range(begin, begin + count), *[None] * tops, *tail]
        if alignment != "release":  # its first step is hard-wired for a window of 21
            assert all(p is None or p < start for p in positions)
            assert len({p for p in positions if p is not None}) == sum(p is not None for p in positions)
    assert dropped == (retention != "keep_all")


@pytest.mark.parametrize(("retention", "alignment"), MATRIX)
def test_aligned_equals_absolute_until_the_first_drop(retention: str, alignment: str) -> None:
    absolute, aligned = stacked(run(retention, "absolute")), stacked(run(retention, alignment))
    window = RETENTIONS[retention].capacity(CHUNK) or CHUNKS * CHUNK
    kept = window // CHUNK
    for chunk in range(kept):
        assert torch.equal(aligned[chunk], absolute[chunk])
    moves = any(
        list(ALIGNMENTS[alignment].positions(step.view)) != [slot.frame for slot in step.view.slots]
        for step in run(retention, alignment)
    )
    differs = any((a - b).abs().max() > 1e-3 for a, b in zip(aligned[kept:], absolute[kept:], strict=True))
    assert differs == moves


@pytest.mark.parametrize(("retention", "alignment"), MATRIX)
def test_nothing_leaks_from_one_video_to_another(retention: str, alignment: str) -> None:
    fresh = stacked(run(retention, alignment))
    one, two = (drive(cache_for(policy(retention, alignment)), video=v) for v in ("", "other"))
    interleaved = []
    for mine, other in zip(one, two, strict=True):
        interleaved.append(torch.stack([o for layers in mine.out for o in layers]))
        assert not torch.equal(interleaved[-1][0], other.out[0][0])
    assert all(torch.equal(a, b) for a, b in zip(fresh, interleaved, strict=True))


@pytest.mark.parametrize(("retention", "alignment"), MATRIX)
def test_batch_item_equals_its_own_run(retention: str, alignment: str) -> None:
    chosen = Selections()
    both = cache_for(policy(retention, alignment), batch=2, watch=chosen)
    together = outputs(both, items=(7, 8))
    for row, item in enumerate((7, 8)):
        mine = Selections()
        alone = cache_for(policy(retention, alignment), watch=mine)
        for chunk, want in enumerate(outputs(alone, items=(item,))):
            torch.testing.assert_close(together[chunk][:, row : row + 1], want, atol=2e-5, rtol=1e-5)
        for a, b in zip(chosen, mine, strict=True):
            assert torch.equal(a.indices[row], b.indices[0])
    if isinstance(RETENTIONS[retention], ParticipativeCompression) and "no_top" not in retention:
        assert chosen
    if "random" not in retention and "no_top" not in retention and "exhausted" not in retention:
        differ = [not torch.equal(s.indices[0], s.indices[1]) for s in chosen]
        assert any(differ) if "frames" in retention else all(differ)  # of few frames two videos may choose the same


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("long", [SinkWindow(36), SinkWindow(40, 10), compression(window_frames=36, reuse_limit=1)])
def test_window_longer_than_the_video_keeps_all(long: Retention, alignment: str) -> None:
    cache = cache_for(CachePolicy(long, ALIGNMENTS[alignment]))
    assert cache.layers[0].k.shape[2] == CHUNKS * CHUNK * S  # no more is allocated than the video needs
    got, want = outputs(cache), outputs(cache_for(CachePolicy(KeepAll())))
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))


@dataclass(frozen=True)
class LateSinkWindow(SinkWindow):
    """A SinkWindow for a video whose frame numbers begin at `origin`."""

    origin: int = 0

    def role(self, frame: int) -> str:
        return super().role(frame - self.origin)


@dataclass(frozen=True)
class LateCompression(ParticipativeCompression):
    origin: int = 0

    def role(self, frame: int) -> str:
        return super().role(frame - self.origin)


@dataclass(frozen=True)
class LateFrameCompression(FrameCompression):
    origin: int = 0

    def role(self, frame: int) -> str:
        return super().role(frame - self.origin)


def late(retention: Retention, origin: int) -> Retention:
    kinds = {
        SinkWindow: LateSinkWindow, ParticipativeCompression: LateCompression, FrameCompression: LateFrameCompression
    }  # fmt: skip
    kind = kinds.get(type(retention))
    if kind is None:
        return retention
    fields = {name: getattr(retention, name) for name in type(retention).__dataclass_fields__}
    return kind(**fields, origin=origin)


@pytest.mark.parametrize(
    ("retention", "alignment"), [m for m in MATRIX if "random" not in m.id and "release" not in m.id]
)
def test_a_constant_shift_of_all_positions_changes_nothing(retention: str, alignment: str) -> None:
    """The same queries, keys and values, as if the video began at frame 300: every position is 300 more.

    The cache is driven directly with begin(300), begin(303) ...; which frames are sinks is told by a retention whose
    frame numbers start there. Attention depends on differences of positions only.
    """
    shifted = cache_for(CachePolicy(late(RETENTIONS[retention], 300), ALIGNMENTS[alignment]))
    for a, b in zip(run(retention, alignment), drive(shifted, first=300), strict=True):
        assert b.view.start == a.view.start + 300
        assert [s.role for s in a.view.slots] == [s.role for s in b.view.slots]
        for x, y in zip(a.out, b.out, strict=True):
            torch.testing.assert_close(torch.stack(x), torch.stack(y), atol=5e-5, rtol=1e-4)


@pytest.mark.parametrize("retention", RETENTIONS)
def test_unified_is_by_slot(retention: str) -> None:
    a, b = (stacked(run(retention, name)) for name in ("unified", "slot"))
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


def test_the_release_moves_its_sink_by_its_own_rule() -> None:
    """First by 21 - capacity, then by as much as the chunk's start has moved since the drop before."""
    for capacity, window, sink in ((16, 21, 10), (18, 21, 10), (9, 12, 3), (21, 21, 14), (21, 11, 4)):
        cache = cache_for(CachePolicy(SinkWindow(window, sink), ReleaseSink(capacity)), chunks=14)
        shift, last = 0, None
        for step in drive(cache, 14):
            start = step.view.start
            if start + CHUNK > window:
                shift += 21 - capacity if last is None else start - last
                last = start
            positions = ReleaseSink(capacity).positions(step.view)[: min(sink, start)]
            assert positions == [i + shift for i in range(min(sink, start))]
        assert shift > 0


@pytest.mark.parametrize("sink", [1, 10, 14, 17, 18])
def test_the_release_without_compression_leaves_a_chunk_empty_before_its_tail(sink: int) -> None:
    """At every full chunk c: sink at c - 21 ..., tail from c - 18 + S on, at its own frames (reference notes, section 2)."""
    alignment = ReleaseSink(21)
    for step in drive(cache_for(CachePolicy(SinkWindow(21, sink), alignment), chunks=14), 14):
        c = step.view.start
        if c >= 21:
            assert alignment.positions(step.view) == [*range(c - 21, c - 21 + sink), *range(c - 18 + sink, c)]
        else:
            assert alignment.positions(step.view) == list(range(c))


@pytest.mark.parametrize("alignment", ["sink", "unified"])
@pytest.mark.parametrize("retention", [r for r in RETENTIONS if "sink" in r or r.startswith("pc")])
def test_only_temporal_channels_of_cached_keys_ever_change(retention: str, alignment: str) -> None:
    """Follow every token by its value, which is random and thus its name.

    Raw keys and values stay bit for bit. Of the keys as read, row and column channels stay (to a float32 rounding: the
    last bit depends on how many tokens are turned together) while the temporal ones turn.
    """
    time = 2 * split_of(14)[0]
    cache = cache_for(policy(retention, alignment))
    store = cache.layers[1]
    before: dict[tuple[float, ...], Tensor] = {}
    followed, turned = 0, 0.0
    for step in drive(cache):
        tokens = [t for i in [*cache.places, *cache.own] for t in range(i * S, i * S + S)]
        past = len(step.view.slots) * S
        now = {}
        for head in (0, 1):
            both = torch.cat([store.raw[0, head, tokens], store.k[0, head, tokens]], -1)
            now.update(zip(map(tuple, store.v[0, head, tokens].tolist()), both, strict=True))
        assert len(now) == 2 * len(tokens)
        kept = [name for name in now if name in before]
        assert len(kept) == 2 * past  # every cached value is one that was committed before, unchanged
        if kept:
            new, old = torch.stack([now[n] for n in kept]), torch.stack([before[n] for n in kept])
            assert torch.equal(new[:, :14], old[:, :14])
            torch.testing.assert_close(new[:, 14 + time :], old[:, 14 + time :], atol=1e-6, rtol=1e-6)
            turned = max(turned, float((new - old).abs().max()))
            followed += len(kept)
        before = now
    assert followed > 300
    fixed = getattr(RETENTIONS[retention], "sink_frames", 0) == 0 and alignment == "sink"
    assert (turned > 0.1) != fixed


@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("retention", [r for r in RETENTIONS if not r.startswith("pc")])
def test_frame_policies_equal_a_reference_that_recomputes_everything(retention: str, alignment: str) -> None:
    """Raw history of all frames; visible ones chosen by frame number; keys turned from scratch in float64."""
    rule = RETENTIONS[retention]
    window, sink = rule.capacity(CHUNK) or 10**6, getattr(rule, "sink_frames", 0)
    history: dict[int, list[tuple[Tensor, Tensor]]] = {0: [], 1: []}
    first_drop = None
    for step in run(retention, alignment):
        start = step.view.start
        chunk = start // CHUNK
        drops = start + CHUNK > window
        tail = list(range(start - (window - CHUNK - sink), start)) if drops else list(range(min(sink, start), start))
        sinks = list(range(min(sink, start)))
        first_drop = start if drops and first_drop is None else first_drop
        if not drops or alignment == "absolute":
            moved = sinks
        elif alignment == "release":
            moved = [f + 5 + start - first_drop for f in sinks]
        else:
            moved = [start - len(tail) - len(sinks) + f for f in sinks]
        for layer in (0, 1):
            past = [history[layer][f] for f in sinks + tail]
            for p, name in enumerate(("noisy", "less noisy", "clean")):
                q, k, v = draw(f"{chunk}{name}{layer}")
                own = [(k[:, :, i * S : i * S + S], v[:, :, i * S : i * S + S]) for i in range(CHUNK)]
                keys = torch.cat([a for a, _ in past + own], 2)
                values = torch.cat([b for _, b in past + own], 2)
                frames = list(range(start, start + CHUNK))
                want = softmax_attention(
                    turn_frames(q, frames, GRID), turn_frames(keys, moved + tail + frames, GRID), values
                )
                torch.testing.assert_close(step.out[p][layer].double(), want, atol=2e-5, rtol=1e-5)
            history[layer] += own


@dataclass(frozen=True)
class DropHalf(Retention):
    """A retention that frees several chunks at once: what a newcomer might write."""

    window_frames: int = 12

    def capacity(self, chunk_frames: int) -> int | None:
        return self.window_frames

    def role(self, frame: int) -> str:
        return "sink" if frame < 2 else "tail"

    def plan(self, view: View) -> Plan:
        past = len(view.slots)
        if past + view.chunk <= self.window_frames:
            return Plan(tuple(range(past)))
        return Plan((0, 1, *range(past - 3, past)))


@pytest.mark.parametrize("alignment", ["absolute", "slot"])
def test_a_retention_may_free_more_than_the_chunk_needs(alignment: str) -> None:
    """Every frame kept is attended, and nothing else, wherever the cache stores it."""
    history: list[tuple[Tensor, Tensor]] = []
    kept: list[int] = []
    for step in drive(cache_for(CachePolicy(DropHalf(), ALIGNMENTS[alignment]))):
        start = step.view.start
        if len(kept) + CHUNK > 12:
            kept = [0, 1, *kept[-3:]]
        q, k, v = draw(f"{start // CHUNK}clean0")
        own = [(k[:, :, i * S : i * S + S], v[:, :, i * S : i * S + S]) for i in range(CHUNK)]
        frames = list(range(start, start + CHUNK))
        positions = kept if alignment == "absolute" else list(range(start - len(kept), start))
        parts = [history[f] for f in kept] + own
        keys = turn_frames(torch.cat([a for a, _ in parts], 2), positions + frames, GRID)
        want = softmax_attention(turn_frames(q, frames, GRID), keys, torch.cat([b for _, b in parts], 2))
        torch.testing.assert_close(step.out[2][0].double(), want, atol=2e-5, rtol=1e-5)
        history += own
        kept = [*kept, *frames]
