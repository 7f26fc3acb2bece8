"""Participative Compression against a token-by-token reference: plain lists, one per video, layer and head."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
import torch
from driver import Selections
from naive import softmax_attention, turn
from torch import Tensor

from deepforcing.cache.alignment import NAMED
from deepforcing.cache.compression import FrameCompression, ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.scorers import QueryKey, Random, ValueAware
from deepforcing.wan.config import WanConfig

CONFIG = WanConfig(dim=40, num_heads=2, num_layers=2)
HEADS, D, GRID, S, CHUNK = 2, 20, (1, 2), 2, 3


def compression(**changes: object) -> ParticipativeCompression:
    sizes = {"window_frames": 12, "sink_frames": 3, "budget_frames": 9, "recent_frames": 4, **changes}
    return ParticipativeCompression(**sizes)  # type: ignore[arg-type]


@dataclass
class Token:
    frame: int
    place: int
    k: Tensor  # [D] without rotary embedding
    v: Tensor
    position: int  # temporal position at which it is read
    role: str
    chosen: int = 0  # times


@dataclass
class Reference:
    """One video, one layer, one group of heads that choose together."""

    rule: ParticipativeCompression
    alignment: str
    heads: list[int]
    tokens: list[list[Token]] = field(default_factory=list)  # per head; the same frames and places in each
    past_queries: Tensor | None = None  # [heads, L, D], rotated
    picked: list[list[int]] = field(default_factory=list)
    gap: float = float("inf")

    def turned(self, tokens: list[Token]) -> Tensor:
        k = torch.stack([t.k for t in tokens])
        position, place = (torch.tensor([getattr(t, a) for t in tokens]) for a in ("position", "place"))
        return turn(k, position, place // GRID[1], place % GRID[1])

    def attend(self, start: int, q: Tensor, k: Tensor, v: Tensor, first: bool, commit: bool) -> Tensor:
        """q, k, v: [heads, CHUNK * S, D]; returns like them, float64."""
        self.tokens = self.tokens or [[] for _ in self.heads]
        role = [("sink" if start + i // S < self.rule.sink_frames else "tail") for i in range(CHUNK * S)]
        own = [
            [Token(start + i // S, i % S, k[h, i], v[h, i], start + i // S, role[i]) for i in range(CHUNK * S)]
            for h in range(len(self.heads))
        ]
        frame, place = torch.arange(CHUNK * S) // S + start, torch.arange(CHUNK * S) % S
        q = turn(q, frame, place // GRID[1], place % GRID[1])
        if first and self.slots() + CHUNK > self.rule.window_frames:
            self.compress(q, own)
        if first:
            self.align(start)
        out = []
        for h in range(len(self.heads)):
            visible = self.tokens[h] + own[h]
            out.append(softmax_attention(q[h], self.turned(visible), torch.stack([t.v for t in visible])))
        if commit:
            for h in range(len(self.heads)):
                self.tokens[h] = self.tokens[h] + own[h]
            past = self.rule.recent_frames - CHUNK
            both = q if self.past_queries is None else torch.cat([self.past_queries, q], 1)
            self.past_queries = both[:, -past * S :] if past else None
        return torch.stack(out)

    def slots(self) -> int:
        """Frames' worth of tokens, those counted that the reuse limit hides."""
        tops = sum(t.role == "top" for t in self.tokens[0])
        top_slots = self.rule.budget_frames - self.rule.sink_frames - self.rule.recent_frames if self.picked else 0
        return (len(self.tokens[0]) - tops) // S + top_slots

    def compress(self, q: Tensor, own: list[list[Token]]) -> None:
        rule = self.rule
        scoring = {
            "denoising": [q],
            "past": [self.past_queries],
            "both": [x for x in (self.past_queries, q) if x is not None],
        }[rule.queries]
        queries = torch.cat(scoring, 1)  # type: ignore[arg-type]
        everything = [self.tokens[h] + own[h] for h in range(len(self.heads))]
        total = len(everything[0])
        scores = torch.zeros(total, dtype=torch.float64)
        for h in range(len(self.heads)):
            keys = self.turned(everything[h])
            sizes = torch.stack([t.v.abs().sum() for t in everything[h]])
            for i in range(queries.shape[1]):  # query by query: no sum is taken out of the product
                logits = keys @ queries[h, i]
                if isinstance(rule.scorer, ValueAware):
                    scores += torch.softmax(logits / D**0.5, 0) * sizes
                else:
                    scores += logits
        count = (rule.budget_frames - rule.sink_frames - rule.recent_frames) * S
        free = [
            i
            for i in range(rule.sink_frames * S, total - rule.recent_frames * S)
            if rule.reuse_limit is None or everything[0][i].chosen < rule.reuse_limit
        ]
        if isinstance(
            rule, FrameCompression
        ):  # the tokens of a frame stand side by side: every one counts as their sum
            scores = torch.stack([scores[i // S * S : i // S * S + S].sum() for i in range(total)])
        best: list[int] = []
        for _ in range(min(count, len(free))):
            best.append(max((i for i in free if i not in best), key=lambda i: float(scores[i])))
        rest = [float(scores[i]) for i in free if i not in best]
        if best and rest:
            self.gap = min(self.gap, float(scores[best[-1]]) - max(rest))
        self.picked.append(sorted(best))
        for h in range(len(self.heads)):
            sink = everything[h][: rule.sink_frames * S]
            top = [replace(everything[h][i], role="top", chosen=everything[h][i].chosen + 1) for i in sorted(best)]
            recent = everything[h][total - rule.recent_frames * S : total - CHUNK * S]
            self.tokens[h] = sink + top + recent

    def align(self, start: int) -> None:
        for tokens in self.tokens:
            tail = [t for t in tokens if t.role == "tail"]
            tops = [t for t in tokens if t.role == "top"]
            sinks = [t for t in tokens if t.role == "sink"]
            begin = min([t.frame for t in tail], default=start)
            for i, t in enumerate(tops):
                t.position = t.frame if self.alignment in ("absolute", "sink") else begin - len(tops) // S + i // S
            shift = 0
            if self.alignment != "absolute":
                shift = begin - len(tops) // S - len(sinks) // S
            for t in sinks:
                t.position = t.frame + shift


def draw(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q, k, v = torch.randn(3, 2, HEADS, CHUNK * S, D, generator=generator)
    return q, k, v


def compare(rule: ParticipativeCompression, alignment: str, chunks: int = 9) -> tuple[Selections, dict]:
    """Drive cache and reference with the same numbers (batch 2) and hold them against each other, pass by pass."""
    cache = KVCache(
        CachePolicy(rule, NAMED[alignment]),
        CONFIG,
        GRID,
        CHUNK,
        chunks * CHUNK,
        batch=2,
        watch=(chosen := Selections()),
    )
    groups = [[0], [1]] if rule.per_head else [[0, 1]]
    reference = {
        (layer, item, g): Reference(rule, alignment, heads)
        for layer in (0, 1)
        for item in (0, 1)
        for g, heads in enumerate(groups)
    }
    for chunk in range(chunks):
        start = chunk * CHUNK
        cache.begin(start)
        for p in range(3):
            for layer in (0, 1):
                q, k, v = draw(chunk * 100 + p * 10 + layer)
                memory = cache.commit() if p == 2 else cache.denoise(p)
                got = memory.attend(layer, q, k, v)
                for (its_layer, item, _), ref in reference.items():
                    if its_layer == layer:
                        part = [x[item, ref.heads].double() for x in (q, k, v)]
                        want = ref.attend(start, *part, first=p == 0, commit=p == 2)
                        torch.testing.assert_close(got[item, ref.heads].double(), want, atol=2e-5, rtol=1e-5)
    return chosen, reference


RULES = {
    "both": compression(),
    "denoising": compression(queries="denoising"),
    "past": compression(queries="past", recent_frames=5),
    "past_longer_than_a_chunk": compression(queries="past", recent_frames=7, budget_frames=11),
    "recent_is_the_chunk": compression(recent_frames=3),
    "no_sink": compression(sink_frames=0),
    "one_top_slot": compression(budget_frames=8),
    "every_chunk": compression(budget_frames=12),
    "per_head": compression(per_head=True),
    "reuse3": compression(reuse_limit=3),
    "reuse1": compression(reuse_limit=1),
    "value_aware": compression(scorer=ValueAware()),
    "value_aware_per_head": compression(scorer=ValueAware(), per_head=True),
    "frames": FrameCompression(**vars(compression())),
    "frames_per_head": FrameCompression(**vars(compression(per_head=True))),
    "frames_value_aware": FrameCompression(**vars(compression(scorer=ValueAware(), reuse_limit=3))),
    "per_head_reuse1": compression(per_head=True, reuse_limit=1, queries="denoising"),
}


@pytest.mark.parametrize("alignment", ["absolute", "sink", "unified"])
@pytest.mark.parametrize("name", RULES)
def test_every_pass_equals_the_reference(name: str, alignment: str) -> None:
    rule = RULES[name]
    selections, reference = compare(rule, alignment)
    # The chosen tokens are the reference's, for every layer, video and group of heads.
    assert selections
    compressions = len(selections) // 2
    for (layer, item, g), ref in reference.items():
        mine = [s.indices[item, g].tolist() for s in selections if s.layer == layer]
        assert len(mine) == compressions
        assert mine == ref.picked
        assert ref.gap > 1e-4  # clear choices: the test does not hang on rounding
    assert compressions >= 3


@pytest.mark.parametrize("per_head", [False, True])
@pytest.mark.parametrize("limit", [1, 2])
def test_exhausted_candidates_leave_invisible_places(per_head: bool, limit: int) -> None:
    """More places than tokens that may still be chosen: what is over the limit is not attended (reference: absent)."""
    rule = compression(sink_frames=2, budget_frames=12, recent_frames=4, reuse_limit=limit, per_head=per_head)
    selections, reference = compare(rule, "absolute", 12)
    places = 6 * S
    assert any(len(picked) < places for ref in reference.values() for picked in ref.picked)
    assert any(len(picked) == places for ref in reference.values() for picked in ref.picked)
    assert {s.indices.shape[-1] for s in selections} == {places}  # sizes stay fixed: no sync, one shape


@pytest.mark.parametrize("limit", [1, 2, 4])
def test_no_token_is_chosen_more_often_than_the_limit(limit: int) -> None:
    """And without a limit some token is chosen more often than that."""

    def most(reuse_limit: int | None) -> int:
        rule = compression(reuse_limit=reuse_limit)
        selections = Selections()
        cache = KVCache(CachePolicy(rule, "unified"), CONFIG, GRID, CHUNK, 60, watch=selections)
        counts: Counter[tuple[int, int]] = Counter()
        favourite = torch.randn(D)
        for start in range(0, 60, CHUNK):
            cache.begin(start)
            _, k, v = (x[:1] for x in draw(start))
            q = favourite.expand(1, HEADS, CHUNK * S, D) * 1.0  # the same queries for ever: the same favourites
            origin = cache.layers[0].origin
            assert origin is not None
            frame, place = origin[:2, 0, 0, cache.tokens(cache.before)].tolist()
            before = [*zip(frame, place, strict=True), *((start + i // S, i % S) for i in range(CHUNK * S))]
            done = len(selections)
            cache.commit().attend(0, q, k, v)
            for selection in selections[done:]:
                counts.update(before[i] for i in selection.indices[0, 0].tolist())
        return max(counts.values())

    assert most(limit) == limit
    assert most(None) > limit


def test_heads_choose_different_tokens() -> None:
    selections, _ = compare(RULES["per_head"], "unified", 6)
    assert all(s.indices.shape[1] == HEADS for s in selections)
    assert any(not torch.equal(s.indices[:, 0], s.indices[:, 1]) for s in selections)
    selections, _ = compare(RULES["both"], "unified", 6)
    assert all(s.indices.shape[1] == 1 for s in selections)


@pytest.mark.parametrize("queries", ["denoising", "past", "both"])
def test_who_scores_matters(queries: str) -> None:
    """The three choices of scoring queries give three selections."""
    chosen = [
        torch.stack([s.indices for s in compare(compression(queries=q, recent_frames=5), "absolute", 6)[0]])
        for q in ("denoising", "past", "both")
        if q != queries
    ]
    assert not torch.equal(*chosen)


def select(scorer: object, seed: int = 0) -> Tensor:
    rule = compression(scorer=scorer)
    selections = Selections()
    cache = KVCache(CachePolicy(rule, "unified"), CONFIG, GRID, CHUNK, 24, watch=selections)
    for start in range(0, 24, CHUNK):
        cache.begin(start)
        for layer in (0, 1):
            cache.commit().attend(layer, *(x[:1] for x in draw(start + layer + seed)))
    return torch.stack([s.indices for s in selections])


def test_random_choice_is_reproducible_and_not_that_of_the_scores() -> None:
    torch.manual_seed(1)
    a = select(Random(0))
    torch.manual_seed(2)
    assert torch.equal(a, select(Random(0)))  # no global state
    assert torch.equal(a, select(Random(0), seed=50))  # whatever the tokens hold
    assert not torch.equal(a, select(Random(1)))
    assert not torch.equal(a, select(QueryKey()))
    assert not torch.equal(a[0], a[1])  # layers differ
    assert not torch.equal(a[0], a[2])  # chunks differ


def test_scores_are_the_sum_of_dot_products() -> None:
    q, k, _ = draw(0)
    got = QueryKey().score(q, k, 0)
    want = torch.einsum("bhld,bhtd->bht", q.double(), k.double()) / (D**0.5 * HEADS)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got.double(), want, atol=1e-5, rtol=1e-5)


def test_the_papers_cycle_of_lengths() -> None:
    """S = 10, N = 16, R = 4 in a window of 21: 21, then 16 and 19 in turn; compression at 21, 27, 33 ..."""
    selections = Selections()
    cache = KVCache(CachePolicy(ParticipativeCompression(), "unified"), CONFIG, GRID, CHUNK, 48, watch=selections)
    lengths = []
    for start in range(0, 48, CHUNK):
        cache.begin(start)
        cache.commit().attend(0, *(x[:1] for x in draw(start)))
        assert cache.attended_tokens % S == 0
        lengths.append(cache.attended_tokens // S)
    assert lengths == [3, 6, 9, 12, 15, 18, 21, 16, 19, 16, 19, 16, 19, 16, 19, 16]
    assert [s.start for s in selections] == [21, 27, 33, 39, 45]
    assert {s.indices.shape[-1] for s in selections} == {2 * S}
