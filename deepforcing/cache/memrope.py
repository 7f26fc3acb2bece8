"""MemRoPE: what leaves the window is merged into two memory frames, one that forgets slowly and one that forgets fast.

Source: arXiv 2603.12513; rules from the authors' release (THIRD_PARTY.md). With cache.alignment=slot, as published: every
slot is read at its own number, so there is no limit of length.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from deepforcing.cache.budget import share
from deepforcing.cache.policy import Needs, Pass, Past, Plan, Retention, Slot, Tokens, View

EPS = 1e-8


@dataclass(frozen=True)
class MemRope(Retention):
    """Sink, long memory, short memory, recent frames and the chunk: window_frames in all. Sizes in latent frames.

    slow, fast: how much of a memory frame what is newly evicted replaces. adaptive: merging keeps token positions apart,
    and the short memory takes up more where what comes differs more from it. As published, the frames in whose place the
    memory comes to lie are dropped without entering it, once, when the window is full for the first time; and without
    adaptive all tokens of a memory frame are equal but for their rotation. A change of prompt does nothing.
    """

    window_frames: int = 12
    sink_frames: int = 3
    slow: float = 0.01
    fast: float = 0.1
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.sink_frames < 0:
            raise ValueError(f"sink_frames={self.sink_frames} must be at least 0")
        for name in ("slow", "fast"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name}={getattr(self, name)} must be above 0 and at most 1")

    def check(self, chunk_frames: int) -> None:
        needed = self.sink_frames + 2 + chunk_frames
        if self.window_frames < needed:
            raise ValueError(
                f"window_frames={self.window_frames} must hold sink_frames={self.sink_frames}, two memory frames and the "
                f"chunk of {chunk_frames}: {needed} or more"
            )

    def capacity(self, chunk_frames: int) -> int | None:
        return self.window_frames

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        """The window; the sink keeps its share of it."""
        return {"window_frames": frames, "sink_frames": share(self.sink_frames, self.window_frames, frames)}

    def role(self, frame: int) -> str:
        return "sink" if frame < self.sink_frames else "tail"

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=True)

    def plan(self, view: View) -> Plan:
        past, first = len(view.slots), self.sink_frames
        excess = past + view.chunk - self.window_frames
        if excess <= 0:
            return Plan(tuple(range(past)))
        leaving = range(first + 2, first + 2 + excess)
        memory = Memory(self, leaving, first, merged=view.slots[first].role == "long")
        return Plan((*range(first), memory, *range(leaving.stop, past)))


@dataclass(frozen=True)
class Memory:
    """The two memory frames after one more merge. leaving: slots that are merged in. at: the slot of the long memory.
    merged: there already is one."""

    rule: MemRope
    leaving: range
    at: int
    merged: bool
    slots: ClassVar[tuple[Slot, ...]] = (Slot("long", None), Slot("short", None))
    waits: ClassVar[bool] = False

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, None]:
        rule, s = self.rule, past.slot_tokens
        new_k, new_v = (self._mean(t, s) for t in (past.keys(self.leaving, turned=False), past.values(self.leaving)))
        if not self.merged:
            return Tokens(torch.cat([new_k, new_k], 2), torch.cat([new_v, new_v], 2)), None
        (long_k, short_k), (long_v, short_v) = (
            t.chunk(2, 2)
            for t in (past.keys(range(self.at, self.at + 2), turned=False), past.values(range(self.at, self.at + 2)))
        )
        fast: float | Tensor = rule.fast
        if rule.adaptive:  # per place, from the keys, for keys and values alike: 0.1 to 5 times as fast
            distance = (new_k - short_k).norm(dim=3, keepdim=True).mean(1, keepdim=True)
            distance = distance / (distance.amax(2, keepdim=True) + EPS)
            fast = 0.1 * rule.fast + distance * (5 * rule.fast - 0.1 * rule.fast)
        keys = [merge(long_k, new_k, rule.slow), merge(short_k, new_k, fast)]
        values = [merge(long_v, new_v, rule.slow), merge(short_v, new_v, fast)]
        return Tokens(torch.cat(keys, 2), torch.cat(values, 2)), None

    def _mean(self, tokens: Tensor, s: int) -> Tensor:
        """Of the frames that leave: per place, or over all places. [B, H, S, D]."""
        frames = tokens.view(*tokens.shape[:2], len(self.leaving), s, tokens.shape[3])
        mean: Tensor = frames.mean(2) if self.rule.adaptive else frames.mean((2, 3))[:, :, None].expand(-1, -1, s, -1)
        return mean


def merge(old: Tensor, new: Tensor, share: float | Tensor) -> Tensor:
    merged: Tensor = share * new + (1 - share) * old
    return merged
