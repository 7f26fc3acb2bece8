"""Where chosen tokens say that they come from, against lists that follow every token by frame and place."""

from __future__ import annotations

from typing import Any

import pytest
from driver import ALIGNMENTS, CHUNK, S, Selections, cache_for, compression, drive

from deepforcing.cache.policy import CachePolicy


@pytest.mark.parametrize(
    ("recent", "options"),
    [(4, {}), (3, {"queries": "denoising", "per_head": True}), (2, {"every_pass": True}), (1, {"every_pass": True})],
)  # fewer recent frames than a chunk has: some of the chunk's own tokens are chosen (the released code alone)
def test_origins_are_those_of_the_tokens(recent: int, options: dict[str, Any]) -> None:
    rule = compression(recent_frames=recent, **options)
    heads = 2 if rule.per_head else 1
    past: dict[tuple[int, int], list[tuple[int, int]]] = {
        (layer, head): [] for layer in (0, 1) for head in range(heads)
    }
    chosen, seen, own = Selections(), 0, 0
    for step in drive(cache_for(CachePolicy(rule, ALIGNMENTS["release"]), watch=chosen)):
        start = step.view.start
        fresh = [(start + f, p) for f in range(CHUNK) for p in range(S)]
        for choice in chosen[seen:]:
            assert choice.start == start
            for head in range(heads):
                held = past[choice.layer, head]
                picked = [(held + fresh)[i] for i in choice.indices[0, head].tolist()]
                assert [tuple(token) for token in choice.origin[:, 0, head].T.tolist()] == picked
                own += len(set(picked) & set(fresh))
                kept = (rule.budget_frames - rule.sink_frames - max(recent, CHUNK)) * S
                after = held[len(held) - max(recent - CHUNK, 0) * S :]
                past[choice.layer, head] = [*held[: rule.sink_frames * S], *picked[:kept], *after]
        seen = len(chosen)
        for tokens in past.values():
            tokens += fresh
    assert seen > 4
    assert (own > 0) == (recent < CHUNK)
