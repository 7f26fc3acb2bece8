"""Echo-Forcing against a reference with Python numbers and lists: every pass, every recalled token, video by video."""

from __future__ import annotations

import cmath
import math
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch
from driver import CHUNK, CONFIG, GRID, S, cache_for, draw, drive
from naive import softmax_attention, split_of, turn, turn_frames
from torch import Tensor

from deepforcing.cache.echo_forcing import EchoForcing, Recall
from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import CachePolicy, Retention

ITEMS = (9, 10)
CHUNKS = 9
SMALL = EchoForcing(12, compressed_frames=2, recent_frames=2, cycle_chunks=2, history_frames=14, reuse_limit=3)
RULES = {
    "small": SMALL,
    "slot": replace(SMALL, places="slot"),
    "max": replace(SMALL, fusion="max"),
    "no_gate": replace(SMALL, gate=False),
    "no_amplitude": replace(SMALL, amplitude=False, gate=False),
    "no_limit": replace(SMALL, reuse_limit=None, places="slot"),
    "no_recent": replace(SMALL, recent_frames=0, history_frames=0),
    "one_chunk_of_anchors": EchoForcing(9, 1, 2, 3, history_frames=9, reuse_limit=1, strength=0.5),
    "runs_short": EchoForcing(12, 5, 0, 2, history_frames=12, reuse_limit=1, fusion="max"),
}


def complex_pairs(vector: Tensor) -> list[complex]:
    return [complex(a, b) for a, b in vector.double().reshape(-1, 2).tolist()]


@dataclass
class Reference:
    """One layer of one video."""

    rule: EchoForcing
    frames: list[tuple[Tensor, Tensor]] = field(default_factory=list)  # every real one: un-rotated k, v [H, S, D]
    queries: list[Tensor] = field(default_factory=list)  # of the first window's clean passes, [H, L, D]
    anchors: list[int] = field(default_factory=list)
    used: Counter[tuple[int, int]] = field(default_factory=Counter)
    recalled: list[tuple[int, int]] = field(default_factory=list)  # (frame, place)
    gap: float = math.inf

    def statistics(self, chunk_queries: Tensor) -> tuple[list[list[tuple[complex, float]]], float]:
        """Per head and channel pair: mean query, mean length; and the weight of the part for their spread."""
        past = torch.cat(self.queries, 1).double()
        means, now = past.mean(1), chunk_queries.double().mean(1)
        cosine = float((means * now).sum() / (means.norm() * now.norm()))
        columns = [list(zip(*(complex_pairs(q) for q in past[head]), strict=True)) for head in (0, 1)]
        per_pair = [[(sum(c) / len(c), sum(map(abs, c)) / len(c)) for c in of_head] for of_head in columns]
        weight = math.exp(-self.rule.strength * (1 - cosine)) if self.rule.gate else 1.0
        return per_pair, weight if self.rule.amplitude else 0.0

    def score(self, distance: int, key: Tensor, per_pair: list[list[tuple[complex, float]]], weight: float) -> float:
        values, time = [], split_of(14)[0]
        for head, pairs in enumerate(per_pair):
            extra, parts = 0.0, []
            for f, (k, (mean, length)) in enumerate(zip(complex_pairs(key[head]), pairs, strict=True)):
                frequency = 10000.0 ** (-f / time) if f < time else 0.0
                parts.append((abs(mean) * abs(k), cmath.phase(mean * k.conjugate()), frequency))
                extra += (length - abs(mean)) * abs(k)
            offset = 1
            while offset <= self.rule.window_frames:
                wave = sum(amp * math.cos((distance + offset) * w + phi) for amp, phi, w in parts)
                values.append(wave + weight * extra)
                offset *= 2
        return max(values) if self.rule.fusion == "max" else sum(values) / len(values)

    def slide(self, start: int, chunk_queries: Tensor) -> None:
        rule = self.rule
        window, cycle = rule.window_frames, rule.cycle_chunks * CHUNK
        count = window - rule.compressed_frames - rule.recent_frames - CHUNK
        to_and_fro = [*range(cycle), *reversed(range(cycle))]
        first = start - (window - cycle)
        self.anchors = [
            *(self.anchors or range(count))[CHUNK:],
            *(to_and_fro[(first + i) % (2 * cycle)] for i in range(CHUNK)),
        ]
        oldest = start - min(start, max(rule.history_frames, window))
        statistics = self.statistics(chunk_queries)
        scores = {
            (f, p): self.score(start - f, self.frames[f][0][:, p], *statistics)
            for f in range(oldest, start - rule.recent_frames)
            for p in range(S)
        }
        free = [t for t in scores if rule.reuse_limit is None or self.used[t] < rule.reuse_limit]
        best = sorted(free, key=lambda t: scores[t], reverse=True)[: rule.compressed_frames * S]
        if len(best) < len(free):
            self.gap = min(self.gap, scores[best[-1]] - sorted((scores[t] for t in free), reverse=True)[len(best)])
        self.recalled = sorted(best)
        self.used.update(best)

    def read(self, start: int) -> tuple[Tensor, Tensor]:
        """Turned keys and values of the past, [H, T, D]."""
        if start < self.rule.window_frames:
            whole, positions = range(start), list(range(start))
            keys = torch.cat([self.frames[f][0] for f in whole], 1) if start else torch.zeros(2, 0, 14)
            values = torch.cat([self.frames[f][1] for f in whole], 1) if start else torch.zeros(2, 0, 14)
            return turn_frames(keys, positions, GRID), values
        recent = list(range(start - self.rule.recent_frames, start))
        begin, top = start - self.rule.window_frames + CHUNK, start - len(recent) - self.rule.compressed_frames
        parts, values = [], []
        for at, frame in [*enumerate(self.anchors, begin), *((f, f) for f in recent)]:
            parts.append(turn_frames(self.frames[frame][0], [at], GRID))
            values.append(self.frames[frame][1])
        for i, (frame, place) in enumerate(self.recalled):
            where = place if self.rule.places == "own" else i % S
            time, row, column = (torch.tensor([float(x)]) for x in (top + i // S, where // GRID[1], where % GRID[1]))
            parts.append(turn(self.frames[frame][0][:, place : place + 1], time, row, column))
            values.append(self.frames[frame][1][:, place : place + 1])
        return torch.cat(parts, 1), torch.cat(values, 1)


def compare(rule: EchoForcing, chunks: int = CHUNKS) -> dict[tuple[int, int], Reference]:
    recalls: list[Recall] = []

    def watch(seen: Seen) -> None:
        recalls.extend(seen.chosen)

    cache = cache_for(CachePolicy(rule, "slot"), chunks, batch=2, watch=watch)
    references = {(layer, row): Reference(rule) for layer in (0, 1) for row in (0, 1)}
    for step in drive(cache, chunks, ITEMS):
        start = step.view.start
        own = list(range(start, start + CHUNK))
        for (layer, row), ref in references.items():
            for i, kind in enumerate(("noisy", "less noisy", "clean")):
                q, k, v = (x[0] for x in draw(f"{start // CHUNK}{kind}{layer}", ITEMS[row : row + 1]))
                if start >= rule.window_frames and i == 0:
                    ref.slide(start, q)
                    (told,) = [r for r in recalls if r.layer == layer and r.start == start]
                    oldest = start - min(start, max(rule.history_frames, rule.window_frames))
                    chosen = [(oldest + t // S, t % S) for t in told.indices[row].tolist()]
                    assert chosen[: len(ref.recalled)] == ref.recalled
                    assert rule.may_run_short(CHUNK) or len(chosen) == len(ref.recalled)
                past_k, past_v = ref.read(start)
                keys = torch.cat([past_k, turn_frames(k, own, GRID)], 1)
                want = softmax_attention(turn_frames(q, own, GRID), keys, torch.cat([past_v.double(), v.double()], 1))
                torch.testing.assert_close(step.out[i][layer][row].double(), want, atol=2e-5, rtol=1e-5)
            ref.frames += [(k[:, j : j + S], v[:, j : j + S]) for j in range(0, CHUNK * S, S)]
            if start + CHUNK <= rule.window_frames:
                ref.queries.append(q)
    assert all(ref.gap > 1e-5 for ref in references.values())  # clear choices: the test does not hang on rounding
    return references


@pytest.mark.parametrize("name", RULES)
def test_every_pass_and_choice_equals_the_reference(name: str) -> None:
    references = compare(RULES[name])
    if name != "runs_short":  # which takes what is left
        assert references[0, 0].recalled != references[0, 1].recalled
        assert references[0, 0].recalled != references[1, 0].recalled
    places = RULES[name].compressed_frames * S
    assert any(len(ref.recalled) < places for ref in references.values()) == (name == "runs_short")
    limit = RULES[name].reuse_limit
    most = max(max(ref.used.values()) for ref in references.values())
    assert most == limit if limit is not None else most > 3


def test_chunk_after_chunk_nothing_is_watched_once_the_window_is_full() -> None:
    """So that passes can be compiled; the queries' mean does not change any more."""
    cache = cache_for(CachePolicy(SMALL, "slot"))
    steady = []
    for step in drive(cache):
        steady.append((step.view.start, cache.denoise(1).steady))
    assert [s for start, s in steady if start < 12] == [False] * 4
    assert all(s for start, s in steady if start >= 12)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window_frames": 20}, "window_frames=20 must be whole chunks of 3"),
        ({"window_frames": 9}, "leave no chunk of anchors in window_frames=9: use a window of 12 or more"),
        ({"compressed_frames": 0}, "compressed_frames=0 and cycle_chunks=4 must be at least 1"),
        ({"recent_frames": -1}, "recent_frames=-1 and history_frames=18 at least 0"),
        ({"cycle_chunks": 8}, "cycle_chunks=8 are 24 latent frames, which must not exceed window_frames=21"),
        ({"reuse_limit": 0}, "reuse_limit=0 must be at least 1"),
        ({"fusion": "sum"}, "fusion='sum' must be 'mean' or 'max'"),
        ({"places": "row"}, "places='row' must be 'own' or 'slot'"),
        ({"strength": -1.0}, "strength=-1.0 must be at least 0"),
        ({"amplitude": False}, "with amplitude=false use gate=false"),
    ],
)
def test_sizes_that_cannot_work_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        CachePolicy(replace(EchoForcing(), **changes), "slot").check(3, 60)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("frames", [24, 45, 600])
def test_the_plan_counts_all_that_is_stored(frames: int) -> None:
    policy = CachePolicy(EchoForcing(), "slot")
    cache = cache_for(policy, frames // 3)
    layers = [buffer for layer in cache.layers for buffer in (layer.k, layer.v, layer.raw, layer.origin)]
    held = sum(buffer.numel() * buffer.element_size() for buffer in layers if buffer is not None)
    assert policy.bytes(CONFIG, S, CHUNK, frames, 4) == held
    assert cache.layers[0].v.shape[2] == {24: 39, 45: 51, 600: 51}[frames] * S
    assert cache.layers[0].k.shape[2] == 21 * S  # keys are turned only where they are read
    for _ in drive(cache, min(frames, 75) // 3):
        pass
    assert policy.max_frames(3) is None


def test_slots_without_a_frame_need_an_alignment_that_places_them() -> None:
    rule: Retention = EchoForcing(places="slot")
    CachePolicy(EchoForcing(), "absolute").check(3, 60)  # its tokens keep their own frames
    with pytest.raises(ValueError, match="Absolute gives 'top' slots no position"):
        CachePolicy(rule, "absolute").check(3, 60)


@pytest.mark.parametrize(("limit", "short"), [(None, False), (8, False), (2, False), (1, True)])
def test_a_limit_may_leave_too_few_tokens(limit: int | None, short: bool) -> None:
    """18 frames of candidates, 3 of them used in each of the 6 chunks that a frame stays: all of them at a limit of 1."""
    assert EchoForcing(reuse_limit=limit).may_run_short(3) == short
