"""Relax Forcing against a reference that keeps every frame in lists, video by video, and chooses with Python numbers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
from driver import CHUNK, CONFIG, GRID, S, cache_for, draw, drive
from naive import softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import CachePolicy, Needs
from deepforcing.cache.relax_forcing import FrameChoice, RelaxForcing
from deepforcing.wan.config import WanConfig

ITEMS = (5, 6)
CHUNKS = 11
RULES = {
    "default": RelaxForcing(),
    "evicts": RelaxForcing(window_frames=14),
    "smallest": RelaxForcing(window_frames=8),
    "s3h2t2": RelaxForcing(18, 3, 2, 2, candidates=6, redundancy=1.0),
    "no_sink": RelaxForcing(15, sink_frames=0),
    "no_tail": RelaxForcing(15, tail_frames=0),
    "no_history": RelaxForcing(15, history_frames=0),
    "even": RelaxForcing(15, history_frames=3, choose="even"),
    "only": RelaxForcing(15, history_frames=3, choose="even", only=1),
}


@dataclass
class Reference:
    """One video: the un-rotated keys and the values of the stored frames in both layers."""

    rule: RelaxForcing
    item: int
    absolute: bool
    frames: list[int] = field(default_factory=list)
    held: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)  # (layer, frame): k, v [H, S, D]

    def direction(self, frames: list[int]) -> Tensor:
        tokens = torch.stack([self.held[0, f][0][h, i] for f in frames for h in (0, 1) for i in range(S)]).double()
        return tokens.mean(0) / tokens.mean(0).norm()

    def history(self, middle: list[int], sink: list[int], tail: list[int]) -> list[int]:
        rule = self.rule
        if rule.choose == "even":
            inner = [int((len(middle) - 1) * (i + 1) / (rule.history_frames + 1)) for i in range(rule.history_frames)]
            return [middle[i] for i in inner] if rule.only is None else [middle[inner[rule.only]]]
        half, last = len(middle) // 2, len(middle) - 1
        wanted = min(rule.candidates, len(middle) - half)
        spread = [half]
        if wanted > 1:
            spread = list(dict.fromkeys(int(half + i * (last - half) / wanted) for i in range(wanted + 1)))[:-1]
        scored = []
        for spot in spread:
            mine, score = self.direction([middle[spot]]), 0.0
            if sink:
                score += float(mine @ self.direction(sink))
            if tail:
                score -= rule.redundancy * float(mine @ self.direction(tail))
            scored.append((score, middle[spot]))
        return sorted(frame for _, frame in sorted(scored, reverse=True)[: rule.history_frames])

    def read(self, start: int) -> tuple[list[int], list[int], list[int] | None]:
        """Frames read and their positions, and which of them were chosen."""
        rule, s = self.rule, self.rule.sink_frames
        while len(self.frames) + CHUNK > rule.window_frames:
            del self.frames[s]
        p = len(self.frames)
        if p <= s + 1 + rule.tail_frames:
            return list(self.frames), list(self.frames), None
        sink, middle, tail = self.frames[:s], self.frames[s : p - rule.tail_frames], self.frames[p - rule.tail_frames :]
        chosen = self.history(middle, sink, tail)
        read = sink + chosen + tail
        return read, read if self.absolute else list(range(start - len(read), start)), chosen


@pytest.mark.parametrize("alignment", ["slot", "absolute"])
@pytest.mark.parametrize("name", RULES)
def test_every_pass_and_choice_equals_the_reference(name: str, alignment: str) -> None:
    rule, choices = RULES[name], []

    def watch(seen: Seen) -> None:
        choices.extend(seen.chosen)

    cache = cache_for(CachePolicy(rule, alignment), CHUNKS, batch=2, watch=watch)
    size = cache.layers[0].k.shape[2]
    references = [Reference(rule, item, alignment == "absolute") for item in ITEMS]
    differ = 0
    for step in drive(cache, CHUNKS, ITEMS):
        start = step.view.start
        told: list[FrameChoice] = [c for c in choices if c.start == start]
        for row, ref in enumerate(references):
            frames, positions, chosen = ref.read(start)
            assert cache.attended_tokens == (len(frames) + CHUNK) * S
            if chosen and rule.history_frames:
                (choice,) = told  # one per chunk, by the first layer
                assert [choice.frames[i] for i in choice.chosen[row].tolist()] == chosen
            own = range(start, start + CHUNK)
            for layer in (0, 1):
                for i, kind in enumerate(("noisy", "less noisy", "clean")):
                    q, k, v = (x[0] for x in draw(f"{start // CHUNK}{kind}{layer}", (ref.item,)))
                    for j, frame in enumerate(own):
                        ref.held[layer, frame] = k[:, j * S : j * S + S], v[:, j * S : j * S + S]
                    read = [ref.held[layer, frame] for frame in [*frames, *own]]
                    keys = turn_frames(torch.cat([a for a, _ in read], 1)[None], [*positions, *own], GRID)
                    values = torch.cat([b for _, b in read], 1)[None]
                    want = softmax_attention(turn_frames(q[None], list(own), GRID), keys, values)
                    torch.testing.assert_close(step.out[i][layer][row : row + 1].double(), want, atol=2e-5, rtol=1e-5)
            ref.frames += own
        differ += any(not torch.equal(c.chosen[0], c.chosen[1]) for c in told)
        assert cache.layers[0].k.shape[2] == size
    assert (differ > 0) == (rule.choose == "score" and name not in ("smallest", "no_history"))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window_frames": 7}, "window_frames=7 leaves nothing to choose from .* use 8 or more"),
        ({"window_frames": 8, "sink_frames": 3}, "use 9 or more"),
        ({"window_frames": -1}, "window_frames=-1"),
        ({"sink_frames": -1}, "sink_frames=-1 must be at least 0"),
        ({"tail_frames": -2}, "tail_frames=-2 must be at least 0"),
        ({"history_frames": -1}, "history_frames=-1 must be at least 0"),
        ({"history_frames": 5}, "candidates=4 must be at least 1 and as many as history_frames=5"),
        ({"history_frames": 0, "candidates": 0}, "candidates=0 must be at least 1"),
        ({"choose": "evenly"}, "choose='evenly' must be"),
        ({"only": 0}, "only=0 is the number of one of history_frames=1"),
        ({"only": 1, "choose": "even"}, "only=1 is"),
        ({"only": -1, "choose": "even"}, "only=-1 is"),
    ],
)
def test_sizes_that_cannot_work_are_refused(changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words) as caught:
        CachePolicy(replace(RelaxForcing(), **changes), "slot").check(3, 60)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("frames", [24, 60, 123, 600])
def test_the_plan_counts_the_reservoir_and_the_frames_read_from_it(frames: int) -> None:
    policy = CachePolicy(RelaxForcing(), "slot")
    cache = cache_for(policy, frames // 3)
    layers = [buffer for layer in cache.layers for buffer in (layer.k, layer.v, layer.raw, layer.origin)]
    held = sum(buffer.numel() * buffer.element_size() for buffer in layers if buffer is not None)
    assert policy.bytes(CONFIG, S, CHUNK, frames, 4) == held
    assert cache.layers[0].v.shape[2] == {24: 25, 60: 61, 123: 121, 600: 121}[frames] * S
    assert cache.layers[0].k.shape[2] == 7 * S  # keys are turned only where they are read
    assert policy.max_frames(3) is None


def test_what_is_not_read_is_not_kept_turned() -> None:
    """Wan 1.3B at 480p, bfloat16: two tensors of 121 frames, one of 7, and origins; three of 121 where commits read others."""
    wan, frame = WanConfig(), 1536 * 30 * 1560 * 2
    origins = 3 * 8 * 30 * 121 * 1560
    assert CachePolicy(RelaxForcing(), "slot").bytes(wan, 1560, 3, 600, 2) == (2 * 121 + 7) * frame + origins
    with_commits = CachePolicy(RelaxForcing(), "slot", commit_frames=6).bytes(wan, 1560, 3, 600, 2)
    assert with_commits == 3 * 121 * frame + origins
    cache = cache_for(CachePolicy(RelaxForcing(), "slot"))
    cache.begin(0)
    with pytest.raises(ValueError, match="stores more than it reads"):
        cache.keys(0)


@dataclass(frozen=True)
class ReadsMore(RelaxForcing):
    """Says that it reads less than it does."""

    def needs(self, chunk_frames: int) -> Needs:
        return replace(super().needs(chunk_frames), reads=6)


def test_a_retention_that_reads_more_than_it_says_is_named() -> None:
    cache = cache_for(CachePolicy(ReadsMore(), "slot"))
    with pytest.raises(ValueError, match=r"ReadsMore\.plan reads 4 slots beside the chunk's 3; its Needs\.reads is 6"):
        for _ in drive(cache):
            pass
