"""Chosen tokens that move together: where each is read, turned from scratch in float64."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from driver import CHUNK, GRID, S, cache_for, compression, drive
from naive import turn_frames

from deepforcing.cache.alignment import first_tail_frame
from deepforcing.cache.policy import CachePolicy

RULE = compression()


@pytest.mark.parametrize("per_head", [False, True])
def test_the_newest_comes_right_before_the_tail_and_distances_stay(per_head: bool) -> None:
    cache = cache_for(CachePolicy(replace(RULE, per_head=per_head), "one_shift"), batch=2)
    shifts: set[int] = set()
    for step in drive(cache, items=(3, 4)):
        view = step.view
        tops = [i for i, slot in enumerate(view.slots) if slot.role == "top"]
        if not tops:
            continue
        # What stands before the chunk was made before its pass, so the buffers still hold it as it was read.
        tokens = torch.tensor([cache.places[i] * S + t for i in tops for t in range(S)])
        for layer in (0, 1):
            store = cache.layers[layer]
            for video in (0, 1):
                for head in (0, 1):
                    frames, places, _ = store.origin[:, video, head if per_head else 0, tokens].tolist()
                    shift = first_tail_frame(view) - 1 - max(frames)
                    assert shift >= 0
                    shifts.add(shift)
                    for token, frame, place in zip(tokens.tolist(), frames, places, strict=True):
                        one = torch.zeros(1, 1, S, store.raw.shape[-1])
                        one[0, 0, place] = store.raw[video, head, token]
                        want = turn_frames(one, [frame + shift], GRID)[0, 0, place]
                        torch.testing.assert_close(store.k[video, head, token].double(), want, atol=2e-5, rtol=1e-5)
    assert len(shifts) > 1  # 0 alone would be own frames


def test_a_chunk_that_is_chosen_from_itself_is_refused() -> None:
    rule = compression(recent_frames=CHUNK - 1, every_pass=True)
    with pytest.raises(ValueError, match="recent_frames=2 must hold the chunk of 3 latent frames"):
        CachePolicy(rule, "one_shift").check(CHUNK, 30)
    CachePolicy(rule, "sink").check(CHUNK, 30)
