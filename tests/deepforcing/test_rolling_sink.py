"""Rolling Sink against the published buffer, written out: slots that are overwritten after each clean pass."""

from __future__ import annotations

import pytest
import torch
from driver import CHUNK, GRID, S, cache_for, draw, drive
from naive import softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.cache.rolling_sink import RollingSink
from deepforcing.rollout.rules import Chunkwise, Rolling
from deepforcing.rollout.schedule import Schedule

CHUNKS = 12  # the longest window plays its 9 frames backwards, forwards and backwards again
ITEMS = (3, 4)


def own_frames(chunk: int, name: str, layer: int) -> list[tuple[Tensor, Tensor]]:
    _, k, v = draw(f"{chunk}{name}{layer}", ITEMS)
    return [(k[:, :, i : i + S], v[:, :, i : i + S]) for i in range(0, CHUNK * S, S)]


def attended(q: Tensor, start: int, frames: list[tuple[Tensor, Tensor]], positions: list[int]) -> Tensor:
    keys = turn_frames(torch.cat([k for k, _ in frames], 2), positions, GRID)
    queries = turn_frames(q, list(range(start, start + CHUNK)), GRID)
    return softmax_attention(queries, keys, torch.cat([v for _, v in frames], 2))


@pytest.mark.parametrize("commit_frames", [None, 3, 6, 12, 15])
@pytest.mark.parametrize("window", [9, 12])
def test_every_pass_equals_the_published_buffer(window: int, commit_frames: int | None) -> None:
    cache = cache_for(CachePolicy(RollingSink(window), "slot", commit_frames=commit_frames), CHUNKS, batch=2)
    buffer: dict[int, list[tuple[Tensor, Tensor]]] = {0: [], 1: []}  # the window's slots, oldest first
    history: dict[int, list[tuple[Tensor, Tensor]]] = {0: [], 1: []}  # every real frame
    length = window - CHUNK
    to_and_fro = [*range(length), *reversed(range(length))]
    for step in drive(cache, CHUNKS, ITEMS):
        start = step.view.start
        for layer in (0, 1):
            past = buffer[layer][-length:]
            for i, name in enumerate(("noisy", "less noisy", "clean")):
                q, _, _ = draw(f"{start // CHUNK}{name}{layer}", ITEMS)
                own = own_frames(start // CHUNK, name, layer)
                read, first = past + own, start - len(past)
                if name == "clean" and commit_frames is not None:
                    read = (history[layer] + own)[-commit_frames:]
                    first = start + CHUNK - len(read)
                want = attended(q, start, read, list(range(first, start + CHUNK)))
                torch.testing.assert_close(step.out[i][layer].double(), want, atol=2e-5, rtol=1e-5)
            history[layer] += own
            buffer[layer] = past + own
            if start >= window:  # the chunk before gives way
                for slot, frame in zip((-6, -5, -4), range(start - CHUNK, start), strict=True):
                    buffer[layer][slot] = history[layer][to_and_fro[frame % (2 * length)]]
        assert cache.attended_tokens == (min(start, length) + CHUNK) * S
    assert cache.layers[0].v.shape[2] <= (2 * window - CHUNK + (commit_frames or 0)) * S


def test_the_frames_that_the_release_replays() -> None:
    """By its own printout for a window of 21: after the chunk at 21 the frames 17, 16, 15 stand at 18, 19, 20; and so on."""
    schedule = [RollingSink().replayed(frame, 3) for frame in range(18, 57, 3)]
    backwards = [(17, 16, 15), (14, 13, 12), (11, 10, 9), (8, 7, 6), (5, 4, 3), (2, 1, 0)]
    forwards = [tuple(reversed(frames)) for frames in reversed(backwards)]
    assert schedule == [*backwards, *forwards, (17, 16, 15)]


@pytest.mark.parametrize(("window", "chunk"), [(20, 3), (6, 3), (2, 1), (3, 2), (0, 3), (-9, 3)])
def test_windows_that_cannot_work_are_refused(window: int, chunk: int) -> None:
    with pytest.raises(ValueError, match=f"window_frames={window} must be whole chunks of {chunk}"):
        CachePolicy(RollingSink(window), "slot").check(chunk, 60)


def test_it_never_ends_and_counts_what_it_keeps() -> None:
    policy = CachePolicy(RollingSink(), "slot")
    assert policy.max_frames(3) is None
    assert [policy.slots(3, total) for total in (9, 21, 30, 39, 42, 3000)] == [9, 21, 30, 39, 39, 39]
    assert CachePolicy(RollingSink(), "absolute").max_frames(3) == 1023


def test_rules_that_compute_frames_again_or_plan_again_refuse_it() -> None:
    policy, schedule = CachePolicy(RollingSink(), "slot", name="rolling_sink"), Schedule((1000, 750, 500, 250), 5.0)
    Chunkwise().check_schedule(policy, 3, 60)
    Chunkwise("recache").check(policy, schedule, 3, 60)
    with pytest.raises(ValueError, match=r"use generator\.on_switch=nothing"):
        Chunkwise("recache").check_schedule(policy, 3, 60)
    Chunkwise("recache").check_schedule(CachePolicy(SinkWindow(21, 3)), 3, 60)
    with pytest.raises(ValueError, match="makes slots anew"):
        Rolling().check(policy, schedule, 3, 60)
