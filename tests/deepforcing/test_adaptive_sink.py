"""Sinks whose depth adapts, against a reference that goes video by video over lists of all frames, and with known truths."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from driver import CHUNK, CONFIG, GRID, S, cache_for, draw, drive, outputs
from naive import softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.adaptive_rules import GateDepth, MassDepth, MotionDepth
from deepforcing.cache.adaptive_sink import AdaptiveSink, DepthChoice
from deepforcing.cache.budget import frames_read, keys_at
from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import CachePolicy, Slot
from deepforcing.cache.retention import SinkWindow

CHUNKS = 11
SIZES = {"window_frames": 14, "sink_frames": 4, "least_frames": 1, "most_frames": 7}
RULES: dict[str, AdaptiveSink] = {
    "mass": MassDepth(**SIZES, share=0.6),
    "motion": MotionDepth(**SIZES, still=0.995, drifted=1.0),
    "gate": GateDepth(**SIZES, local_frames=5, gate=0.4),
    "no_tail": GateDepth(12, 3, 0, 9, local_frames=3),
}


def run(rule: AdaptiveSink, items: tuple[int, ...]) -> tuple[list[list[Tensor]], dict[tuple[int, int], list[int]]]:
    """Outputs per chunk and pass, and the depths by (layer, start)."""
    depths: dict[tuple[int, int], list[int]] = {}

    def watch(seen: Seen) -> None:
        for told in seen.chosen:
            assert isinstance(told, DepthChoice)
            depths[told.layer, told.start] = told.depth.tolist()

    cache = cache_for(CachePolicy(rule, "sink"), CHUNKS, len(items), watch=watch)
    return [[o for layers in step.out for o in layers] for step in drive(cache, CHUNKS, items)], depths


class Reference:
    """One video and layer: un-rotated keys and values of every frame, [F, H, S, D] float64."""

    def __init__(self, rule: AdaptiveSink) -> None:
        self.rule, self.keys, self.values = rule, [], []  # type: ignore[var-annotated]
        self.mass_depth, self.now, self.first = 0, rule.sink_frames, (0.0, 0.0)

    def depth(self, start: int, q: Tensor) -> int:
        rule, past = self.rule, self.rule.window_frames - CHUNK
        if isinstance(rule, MassDepth):
            return self.mass_depth
        if isinstance(rule, GateDepth):
            mean, heads = turn_frames(q, list(range(start, start + CHUNK)), GRID).mean(1), 0

            def score(head: int, frames: list[int], at: list[int]) -> float:
                keys = turn_frames(torch.cat([self.keys[f] for f in frames], 1), at, GRID)
                return float(mean[head] @ keys[head].mean(0))

            for head in range(2):
                local = list(range(start - rule.local_frames, start))
                sink = list(range(rule.sink_frames))
                heads += score(head, sink, [start - past + f for f in sink]) > score(head, local, local)
            return rule.least_frames if heads / 2 > rule.gate else rule.sink_frames
        assert isinstance(rule, MotionDepth)

        def motion(frames: range) -> float:
            each = [float((self.values[f] - self.values[f - 1]).norm() / self.values[f].norm()) for f in frames]
            return sum(each) / len(each)

        def drift(chunk: int) -> float:
            mean, first = (
                torch.cat(self.values[c : c + CHUNK], 1).mean(1).flatten() for c in (chunk, 0)
            )  # over the chunk's tokens
            return float((mean - first).norm() / first.norm())

        if self.first == (0.0, 0.0):
            self.first = motion(range(1, start)), max(drift(c) for c in range(CHUNK, start, CHUNK))
        if motion(range(start - CHUNK, start)) < rule.still * self.first[0]:
            self.now -= 1
        elif drift(start - CHUNK) > rule.drifted * self.first[1]:
            self.now += 1
        else:
            self.now += (self.now < rule.sink_frames) - (self.now > rule.sink_frames)
        self.now = min(max(self.now, rule.least_frames), rule.most_frames)
        return self.now

    def commit(self, start: int, q: Tensor, keys: Tensor) -> None:
        rule = self.rule
        if isinstance(rule, MassDepth) and start + CHUNK <= rule.window_frames < start + 2 * CHUNK:
            weights = torch.softmax(q @ keys.mT / math.sqrt(q.shape[-1]), -1).sum((0, 1)).unflatten(0, (-1, S)).sum(1)
            first = weights[: rule.most_frames].tolist()
            self.mass_depth = next(n for n in range(1, 99) if sum(first[:n]) >= rule.share * sum(first))
            self.mass_depth = max(self.mass_depth, rule.least_frames)


@pytest.mark.parametrize("name", RULES)
def test_against_a_reference_of_lists(name: str) -> None:
    rule = RULES[name]
    found, depths = run(rule, (5, 6))
    seen = set()
    for item, index in ((5, 0), (6, 1)):
        for layer in (0, 1):
            held, past = Reference(rule), rule.window_frames - CHUNK
            for chunk in range(CHUNKS):
                start = chunk * CHUNK
                own = list(range(start, start + CHUNK))
                frames = at = list(range(start))
                for step, kind in enumerate(("noisy", "less noisy", "clean")):
                    q, k, v = (x[0].double() for x in draw(f"{chunk}{kind}{layer}", (item,)))
                    if start > past and step == 0:
                        depth = held.depth(start, q)
                        assert depths[layer, start][index] == depth, (item, layer, start)
                        seen.add(depth)
                        frames = [*range(depth), *range(start - past + depth, start)]
                        at = list(range(start - past, start))
                    keys = turn_frames(torch.cat([*(held.keys[f] for f in frames), k], 1), [*at, *own], GRID)
                    values = torch.cat([*(held.values[f] for f in frames), v], 1)
                    query = turn_frames(q, own, GRID)
                    wanted = softmax_attention(query, keys, values)
                    torch.testing.assert_close(
                        found[chunk][2 * step + layer][index].double(), wanted, atol=1e-5, rtol=1e-5
                    )
                held.commit(start, query, keys)
                held.keys += k.split(S, 1)
                held.values += v.split(S, 1)
    assert len(seen) > 1, "every depth was the same: nothing was tested"


@pytest.mark.parametrize("name", RULES)
def test_frames_read_do_not_depend_on_the_depth(name: str) -> None:
    rule = RULES[name]
    assert frames_read(rule, CHUNK) == (rule.window_frames,)
    policy = CachePolicy(rule, "sink")
    assert frames_read(replace(rule, **keys_at(policy, 10, CHUNK)) if name != "gate" else rule, CHUNK)
    cache = cache_for(policy, CHUNKS)
    for step in drive(cache, CHUNKS):
        assert cache.attended_tokens == S * min(step.view.start + CHUNK, rule.window_frames)


@pytest.mark.parametrize("rule", [MassDepth(12, 4, 4, 4), MotionDepth(12, 4, 4, 4), GateDepth(12, 4, 4, 4)])
def test_one_depth_alone_is_a_sink_window(rule: AdaptiveSink) -> None:
    mine, window = (outputs(cache_for(CachePolicy(r, "sink"))) for r in (rule, SinkWindow(12, 4)))
    for a, b in zip(mine, window, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-5)


def test_even_attention_gives_the_share_of_the_most() -> None:
    rule, notes = MassDepth(), {}  # type: ignore[var-annotated]
    q = torch.zeros(2, 2, CHUNK * S, 14)
    slots = tuple(Slot("tail", f) for f in range(18)) + tuple(Slot("chunk", f) for f in range(18, 21))
    seen = Seen(0, 18, "commit", 0, q, torch.randn(2, 2, 21 * S, 14), q, q, slots, tuple(range(21)))
    rule.watch(seen, notes)
    assert notes["sink depth"][0][0].tolist() == [11, 11]
    torch.testing.assert_close(notes["sink depth"][0][1], torch.full((2,), 15 / 21))
    early = seen.keys.clone()
    early[:, :, : 2 * S] = 9.0  # all look at the first two frames
    rule.watch(replace(seen, queries=q + 9.0, keys=early), notes)
    assert notes["sink depth"][0][0].tolist() == [3, 3]


def test_a_picture_that_stands_still_loses_its_sink_and_one_that_drifts_gets_more() -> None:
    rule = MotionDepth(12, 4, 1, 8)
    for values, wanted in (("still", 1), ("drifting", 8), ("steady", 4)):
        cache = cache_for(CachePolicy(rule, "sink"), 14)
        depth = []

        def watch(seen: Seen, depth: list[int] = depth) -> None:
            depth += [int(told.depth) for told in seen.chosen]

        cache.watchers.append(watch)
        noise = torch.randn(14 * CHUNK, 1, 2, S, 14, generator=torch.Generator().manual_seed(1))
        for chunk in range(14):
            cache.begin(chunk * CHUNK)
            for memory in (cache.denoise(0), cache.commit()):
                for layer in (0, 1):
                    q, k, _ = draw(f"{chunk}{layer}")
                    frames = 10 + noise[chunk * CHUNK : chunk * CHUNK + CHUNK]
                    if values == "still" and chunk > 4:
                        frames = 10 + 0.01 * frames
                    if values == "drifting" and chunk > 4:
                        frames = -frames  # as large, elsewhere
                    memory.attend(layer, q, k, torch.cat(list(frames), 2))
        assert depth[-1] == wanted, values


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: MassDepth(sink_frames=2), "ascend"),
        (lambda: MassDepth(share=1.0), "between 0 and 1"),
        (lambda: MotionDepth(most_frames=21), "below window_frames=21"),
        (lambda: MotionDepth(drifted=0.5), "at least 1"),
        (lambda: MotionDepth(still=1.5), "between 0 and 1"),
        (lambda: GateDepth(gate=1.0), "below 1"),
        (lambda: GateDepth(local_frames=7), "at most 6"),
        (lambda: GateDepth(10, 0, 0, 3), "no sink to look at"),
        (lambda: MassDepth(most_frames=19).check(3), "at most 18"),
        (lambda: MotionDepth(12, 2, 2, 2).check(3), "first chunk"),
        (lambda: MotionDepth(10, 4, 4, 5).check(3), "two chunks"),
        (lambda: cache_for(CachePolicy(MassDepth(), "absolute"), 20), "alignment"),
    ],
)
def test_sizes_that_cannot_work_are_refused_in_a_line(make: object, words: str) -> None:
    with pytest.raises(ValueError, match=words) as told:
        make()  # type: ignore[operator]
    assert "\n" not in str(told.value)


def test_the_cache_holds_what_was_foretold() -> None:
    policy = CachePolicy(MotionDepth(**SIZES), "sink")
    cache = cache_for(policy, CHUNKS)
    for _ in drive(cache, CHUNKS):
        pass
    assert cache.capacity == 14 + 2 * 6 == policy.slots(CHUNK, 300)
    assert CONFIG.num_layers == len(cache.layers)
