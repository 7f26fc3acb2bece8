"""Participative Compression (paper, section 4.3, algorithm 1): retention by single tokens, chosen per layer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import pad

from deepforcing.cache.budget import share
from deepforcing.cache.observe import Selection
from deepforcing.cache.policy import Needs, Pass, Past, Plan, Retention, Slot, Tokens, View
from deepforcing.cache.scorers import QueryKey, Scorer


@dataclass(frozen=True)
class ParticipativeCompression(Retention):
    """When the window is full: sink + the best tokens + the recent frames, `budget_frames` in all. Latent frames.

    window_frames: the cache fills up to this before it is compressed. sink_frames S, budget_frames N, recent_frames R
    (the current chunk counts among them): the N - S - R frames' worth of tokens between are chosen by `scorer`.
    queries: which queries score: the chunk being denoised ("denoising"), the clean past among the R recent frames
    ("past"), or both. Selection happens at the first denoising step of a chunk and holds for its other steps and for
    the commit. per_head: every head chooses for itself. reuse_limit: how often a token may be chosen (None: always).
    every_pass: recent queries are those of the last R frames over all passes, not only commits; differs from the paper
    for R > 2 chunks only (the released code).
    """

    window_frames: int = 21
    sink_frames: int = 10
    budget_frames: int = 16
    recent_frames: int = 4
    queries: Literal["denoising", "past", "both"] = "both"
    scorer: Scorer = field(default_factory=QueryKey)
    per_head: bool = False
    reuse_limit: int | None = None
    every_pass: bool = False

    def __post_init__(self) -> None:
        s, n, r, w = self.sink_frames, self.budget_frames, self.recent_frames, self.window_frames
        if s < 0 or r < 1:
            raise ValueError(f"sink_frames={s} must be at least 0 and recent_frames={r} at least 1")
        if s >= w:
            raise ValueError(f"sink_frames={s} must be below window_frames={w}; the paper uses 10 of 21")
        if n > w:
            raise ValueError(f"budget_frames={n} must not exceed window_frames={w}; the paper compresses 21 to 16")
        if r + s > n:
            raise ValueError(
                f"recent_frames={r} and sink_frames={s} do not fit into budget_frames={n}; "
                "the paper uses 4 + 10 of 16, which leaves 2 frames for the chosen tokens"
            )
        if self.queries not in ("denoising", "past", "both"):
            raise ValueError(f"queries={self.queries!r} must be 'denoising', 'past' or 'both'")
        if self.reuse_limit is not None and self.reuse_limit < 1:
            raise ValueError(f"reuse_limit={self.reuse_limit} must be at least 1, or null for no limit")

    def check(self, chunk_frames: int) -> None:
        if self.recent_frames < chunk_frames and not self.every_pass:
            raise ValueError(
                f"recent_frames={self.recent_frames} must hold the current chunk of {chunk_frames} latent frames"
            )
        if self.sink_frames + max(chunk_frames, self.recent_frames) > self.budget_frames:
            raise ValueError(
                f"sink_frames={self.sink_frames} and the current chunk of {chunk_frames} do not fit into "
                f"budget_frames={self.budget_frames}"
            )
        if self.queries == "past" and self.recent_frames == chunk_frames:
            raise ValueError(
                f"queries='past' needs clean frames among the recent ones: recent_frames={self.recent_frames} is all "
                f"current chunk; use {chunk_frames + 1} or more"
            )
        if self.gap is not None and self.recent_frames < chunk_frames:
            raise ValueError(
                f"recent_frames={self.recent_frames} must hold the current chunk of {chunk_frames} latent frames: while it is "
                "denoised its tokens have no denoising gap to be chosen by"
            )

    @property
    def gap(self) -> int | None:
        """See Needs.gap: only some scorers ask for it."""
        gap: int | None = getattr(self.scorer, "before_last", None)
        return gap

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        """Compressed at every chunk, so that all passes read the same: the window is the budget (the preset, 21 to 16, reads
        16 and 19 in turn). The sink keeps its share of the budget, chosen tokens have the rest, a frame's worth at least."""
        sink = min(share(self.sink_frames, self.budget_frames, frames), frames - self.recent_frames - 1)
        if sink < min(self.sink_frames, 1):
            raise ValueError(
                f"a sink, a frame's worth of chosen tokens and recent_frames={self.recent_frames} need "
                f"{self.recent_frames + 2} latent frames"
            )
        return {"window_frames": frames, "budget_frames": frames, "sink_frames": sink}

    def capacity(self, chunk_frames: int) -> int | None:
        return self.window_frames

    def role(self, frame: int) -> str:
        return "sink" if frame < self.sink_frames else "tail"

    def needs(self, chunk_frames: int) -> Needs:
        past = max(self.recent_frames - chunk_frames, 0)
        return Needs(
            raw=True, origins=True, per_head=self.per_head, queries=past, every_pass=self.every_pass, gap=self.gap
        )

    def pick(self, scores: Tensor, count: int, slot_tokens: int) -> Tensor:
        """Which `count` of the candidates stay: int64 [B, G, count], ascending. scores: [B, G, T], T in whole slots."""
        return scores.topk(count, dim=2).indices.sort(2).values

    def plan(self, view: View) -> Plan:
        past, sinks = len(view.slots), self.sink_frames
        if past + view.chunk <= self.window_frames:
            return Plan(tuple(range(past)))
        count = self.budget_frames - sinks - self.recent_frames
        recent = max(self.recent_frames - view.chunk, 0)
        # recent < chunk happens in the released code only: the chunk then overwrites the end of the chosen tokens.
        slots = count - max(view.chunk - self.recent_frames, 0)
        top = Top(self, past, view.chunk, count, (Slot("top", None),) * slots)
        return Plan((*range(sinks), top, *range(past - recent, past)))


@dataclass(frozen=True)
class FrameCompression(ParticipativeCompression):
    """The same by whole frames: those whose tokens have the largest scores in sum. Every layer chooses for itself, and with
    per_head every head. Not published: what single tokens add to the choice of frames."""

    def pick(self, scores: Tensor, count: int, slot_tokens: int) -> Tensor:
        of_frames = scores.reshape(*scores.shape[:2], -1, slot_tokens).sum(3)
        frames = of_frames.topk(count // slot_tokens, dim=2).indices.sort(2).values
        within = torch.arange(slot_tokens, device=scores.device)
        return (frames[..., None] * slot_tokens + within).flatten(2)


@dataclass(frozen=True)
class Top:
    """The slots of the chosen tokens. past: slots to choose from, with the chunk's; count: frames' worth of tokens.

    Shapes: B batch, G heads if they choose for themselves, else 1, T tokens of past and chunk in temporal order.
    """

    rule: ParticipativeCompression
    past: int
    chunk: int
    count: int
    slots: tuple[Slot, ...]
    waits: ClassVar[bool] = True  # for the chunk's queries

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, Selection]:
        assert chunk is not None
        rule, s = self.rule, past.slot_tokens
        first, last = rule.sink_frames * s, (self.past + self.chunk - rule.recent_frames) * s
        count, start = self.count * s, past.view.start
        scores = self._scores(past, chunk)
        if not rule.per_head:
            scores = scores.sum(1, keepdim=True)
        candidates = scores[:, :, first:last]
        slots = range(rule.sink_frames, min(self.past, self.past + self.chunk - rule.recent_frames))
        keys, values, origin = past.keys(slots, turned=False), past.values(slots), past.origin(slots)
        if last > self.past * s:  # some of the chunk's own are candidates (recent < chunk)
            own = slice(0, last - self.past * s)
            keys = torch.cat([keys, chunk.raw_keys[:, :, own]], 2)
            values = torch.cat([values, chunk.values[:, :, own]], 2)
            place = torch.arange(own.stop, device=keys.device)
            fresh = torch.stack([start + place // s, place % s, torch.zeros_like(place)])[:, None, None]
            origin = torch.cat([origin, fresh.expand(-1, *origin.shape[1:3], -1)], 3)
        reuse = origin[2]
        if rule.reuse_limit is not None:
            candidates = candidates.masked_fill(reuse >= rule.reuse_limit, float("-inf"))
        chosen = rule.pick(candidates, count, s)
        visible = None
        if rule.reuse_limit is not None and 2 * count > last - first:
            # Fewer new candidates than places: the limit may leave too few, and what is over it must not be seen.
            visible = reuse.gather(2, chosen) < rule.reuse_limit
        index = chosen[..., None].expand(keys.shape[0], keys.shape[1], -1, keys.shape[3])
        origin = origin.gather(3, chosen.expand(3, -1, -1, -1))
        origin[2] += 1
        gap = None if rule.gap is None else past.gap(slots).gather(2, chosen)
        tokens = Tokens(keys.gather(2, index), values.gather(2, index), origin, visible, gap)
        return tokens, Selection(past.layer, start, chosen + first, scores, origin[:2])

    def _scores(self, past: Past, chunk: Pass) -> Tensor:
        """float32 [B, H, T]."""
        scorer, queries = self.rule.scorer, self._queries(past, chunk)
        key = past.layer * 1_000_003 + past.view.start
        keys = past.keys(range(self.past))
        if getattr(scorer, "apart", False):
            scores = torch.cat([scorer.score(queries, k, key) for k in (keys, chunk.keys)], 2)
        else:
            scores = scorer.score(queries, torch.cat([keys, chunk.keys], 2), key)
        weigh: Callable[[Tensor], Tensor] | None = getattr(scorer, "weigh", None)
        if weigh is not None:
            scores = scores * torch.cat([weigh(v) for v in (past.values(range(self.past)), chunk.values)], 2)
        if self.rule.gap is not None:
            scores = scores * pad(past.gap(range(self.past)), (0, chunk.keys.shape[2]))
        return scores

    def _queries(self, past: Past, chunk: Pass) -> Tensor:
        """Rotated queries that score: of the chunk, of the clean past among the recent frames, or both."""
        which, before = self.rule.queries, past.queries
        q = chunk.queries[:, :, -self.rule.recent_frames * past.slot_tokens :]
        if which == "denoising" or before is None:
            return q
        return before if which == "past" else torch.cat([before, q], 2)
