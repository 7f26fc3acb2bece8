"""Tokens chosen by how far their clean prediction was from the outcome (DeCoPrune's score), against plain loops."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import pytest
import torch
from driver import Selections, compression
from torch import Tensor

from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.gaps import denoising_gap
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.quantised import rtn
from deepforcing.cache.scorers import DenoisingGap
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.rules import Chunkwise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.weights import random_wan

CONFIG = WanConfig(
    dim=28, ffn_dim=32, freq_dim=16, in_dim=3, out_dim=3, num_heads=2, num_layers=2, text_dim=10, text_len=4,
    prediction="x0",
)  # fmt: skip
MODEL = random_wan(CONFIG)
TEXTS = MODEL.encode_text(torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(8)))
LATER = MODEL.encode_text(torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(9)))
GRID, S, CHUNK, TOTAL = (2, 3), 6, 3, 36
SCHEDULE = Schedule((1000, 750, 500, 250))
RULE = compression(scorer=DenoisingGap())


def naive_gap(early: Tensor, final: Tensor) -> list[float]:
    """Of one frame [C, 4, 6] each, token by token."""
    gaps = []
    for row, column in product(range(GRID[0]), range(GRID[1])):
        pixels = [(c, 2 * row + y, 2 * column + x) for c in range(3) for y in (0, 1) for x in (0, 1)]
        gaps.append(sum(float(early[at] - final[at]) ** 2 for at in pixels) / len(pixels))
    return gaps


def test_the_gap_of_every_token() -> None:
    generator = torch.Generator().manual_seed(3)
    early, final = (torch.randn(2, CHUNK, 3, 4, 6, generator=generator) for _ in range(2))
    want = [[g for f in range(CHUNK) for g in naive_gap(early[b, f], final[b, f])] for b in (0, 1)]
    torch.testing.assert_close(denoising_gap(early, final, GRID), torch.tensor(want))


def roll(
    policy: CachePolicy, given: Tensor | None = None, **options: Any
) -> tuple[dict[int, Tensor], Selections, Tensor]:
    """Naive gaps by latent frame, [B, S] each, what was chosen, and the latents."""
    passes: dict[int, list[Tensor]] = {}
    times: dict[int, list[float]] = {}
    chosen = Selections()
    cache = policy.new_cache(CONFIG, GRID, CHUNK, TOTAL, 2, watch=chosen)
    noise = KeyedNoise([(0, "p"), (1, "p")])

    def watch(start: int, t: Tensor, prediction: Tensor) -> None:
        if prediction.shape[1] == CHUNK:  # not what is computed again
            passes.setdefault(start, []).append(prediction)
            times.setdefault(start, []).append(float(t[0, 0]))

    made = list(
        chunkwise(MODEL, TEXTS, cache, SCHEDULE, noise, TOTAL, (4, 6), given, watch=watch, **options)
    )  # fmt: skip
    gaps = {}
    levels = [*SCHEDULE.timesteps, 0.0]
    for chunk in made:
        only = given is not None and chunk.start < given.shape[1]
        assert times[chunk.start] == (levels[2::2] if only else levels)
        early = passes[chunk.start][0 if only else 2]
        for f in range(CHUNK):
            gaps[chunk.start + f] = torch.tensor([naive_gap(early[b, f], chunk.latents[b, f]) for b in (0, 1)])
    return gaps, chosen, torch.cat([chunk.latents for chunk in made], 1)


def naive_choices(
    gaps: dict[int, Tensor], video: int, rule: ParticipativeCompression, again: int = 0
) -> dict[int, Any]:
    """By chunk: the tokens (frame, place) that stay between sink and recent ones. again: at this chunk the prompt changes and
    the newest frames come in the place of all that were chosen."""
    s, w, n, r = rule.sink_frames, rule.window_frames, rule.budget_frames, rule.recent_frames
    past: list[list[tuple[int, int]]] = []
    found = {}
    for start in range(0, TOTAL, CHUNK):
        if again and start == again:
            frames = range(start - len(past) + s, start)
            past = [*past[:s], *([(f, p) for p in range(S)] for f in frames)]
        if len(past) + CHUNK > w:
            end = len(past) + CHUNK - r
            candidates = [token for slot in past[s:end] for token in slot]
            count = (n - s - r) * S
            best = sorted(
                sorted(range(len(candidates)), key=lambda i: -gaps[candidates[i][0]][video, candidates[i][1]])[:count]
            )
            found[start] = [candidates[i] for i in best]
            past = [*past[:s], *(found[start][i : i + S] for i in range(0, count, S)), *past[end:]]
        past += [[(start + f, p) for p in range(S)] for f in range(CHUNK)]
    return found


def check(chosen: Selections, gaps: dict[int, Tensor], rule: ParticipativeCompression, again: int = 0) -> None:
    assert {c.start for c in chosen} == set(naive_choices(gaps, 0, rule, again))
    for choice, video in product(chosen, (0, 1)):
        want = naive_choices(gaps, video, rule, again)[choice.start]
        for group in choice.origin[:, video].unbind(1):
            assert [tuple(token) for token in group.T.tolist()] == want
    starts = {c.start for c in chosen}
    assert len(starts) >= 4
    assert naive_choices(gaps, 0, rule, again) != naive_choices(gaps, 1, rule, again)


@pytest.mark.parametrize(
    ("rule", "store"),
    [
        (RULE, None),
        (replace(RULE, per_head=True, recent_frames=3, queries="denoising"), None),
        (replace(RULE, sink_frames=0, window_frames=11), rtn(8, 6)),
    ],
)
def test_every_layer_keeps_the_tokens_of_the_largest_gaps(rule: ParticipativeCompression, store: Any) -> None:
    policy = CachePolicy(rule, "unified") if store is None else CachePolicy(rule, "unified", store=store)
    gaps, chosen, _ = roll(policy)
    check(chosen, gaps, rule)


def test_given_chunks_are_denoised_once_for_their_gap() -> None:
    given = torch.randn(2, 9, 3, 4, 6, generator=torch.Generator().manual_seed(5))
    gaps, chosen, latents = roll(CachePolicy(RULE, "unified"), given)
    assert torch.equal(latents[:, :9], given)
    check(chosen, gaps, RULE)


@pytest.mark.parametrize("keep", [True, False])
def test_frames_computed_again_keep_their_gaps(keep: bool) -> None:
    on_switch = "recache" if keep else "recache_sink"
    rule = RULE if keep else replace(RULE, sink_frames=0)
    gaps, chosen, _ = roll(CachePolicy(rule, "slot"), switches={24: LATER}, on_switch=on_switch)
    check(chosen, gaps, rule, again=24)


def test_a_video_does_not_depend_on_what_other_policies_ask_for() -> None:
    """A cache that keeps gaps and does not choose by them makes the same video."""
    plain = roll(CachePolicy(compression(window_frames=36), "unified"))[2]
    assert torch.equal(roll(CachePolicy(compression(window_frames=36, scorer=DenoisingGap()), "unified"))[2], plain)


@pytest.mark.parametrize("per_head", [False, True])
def test_bytes_are_those_held(per_head: bool) -> None:
    policy = CachePolicy(replace(RULE, per_head=per_head), "unified")
    cache = policy.new_cache(CONFIG, GRID, CHUNK, TOTAL, 2)
    for _ in chunkwise(MODEL, TEXTS, cache, SCHEDULE, KeyedNoise([(0, "p"), (1, "p")]), TOTAL, (4, 6)):
        pass
    assert policy.bytes(CONFIG, S, CHUNK, TOTAL, 4, 2) == cache.held


def test_a_commit_without_is_refused() -> None:
    cache = CachePolicy(RULE, "unified").new_cache(CONFIG, GRID, CHUNK, TOTAL)
    cache.begin(0)
    with pytest.raises(ValueError, match=r"before the commit of every chunk tell it .*cache\.gaps\.tell"):
        cache.commit()


def test_what_cannot_have_gaps_is_refused() -> None:
    policy = CachePolicy(RULE, "unified", "mine")
    for schedule in (
        Schedule((1000,)),
        Schedule((1000,), first_chunk_steps=(1000, 500)),
        Schedule((1000, 500), first_chunk_steps=(1000,)),
    ):
        with pytest.raises(
            ValueError, match=r"^cache 'mine' .* before_last=1 denoising step\(s\) before the last, .* chunks in 1:"
        ):
            Chunkwise().check(policy, schedule, CHUNK, TOTAL)
    Chunkwise().check(policy, Schedule((1000, 500)), CHUNK, TOTAL)
    with pytest.raises(ValueError, match="before_last=0 must be at least 1"):
        DenoisingGap(0)
    with pytest.raises(
        ValueError, match=r"recent_frames=2 must hold .* has no denoising gap|recent_frames=2 .*no denoising gap"
    ):
        CachePolicy(replace(RULE, recent_frames=2, every_pass=True)).check(CHUNK, TOTAL)
