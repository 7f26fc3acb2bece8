"""Sinks whose depth is chosen anew for every video and layer, at a constant number of frames read.

A rule (adaptive_rules.py) chooses a depth S between `least_frames` and `most_frames`. What is read is the first S frames of
the video and, behind them, the newest of the others, `window_frames` in all with the chunk. So place j of what is read holds
frame j below S and frame `start - past + j` from there on: only the places from `least_frames` to `most_frames` differ from
video to video. They are copies, made at every chunk on the device (`Contested`); all other places are read as stored. The
first `most_frames` frames stay stored whatever the depth, so a sink that was shallow can be deep again.

Shapes: B batch, H heads, D head dim, S tokens per frame (slot), T tokens.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from deepforcing.cache.budget import share
from deepforcing.cache.policy import Content, Needs, Pass, Past, Plan, Retention, Slot, Tokens, View

CONTESTED = "sink"  # the role of the copies, so that alignments count them as sink; their frame is None


@dataclass(frozen=True)
class DepthChoice:
    """What an observer is told of it. layer; start: first frame of the chunk. depth: int64 [B], latent frames. signals:
    name -> float32 [B], what the rule looked at."""

    layer: int
    start: int
    depth: Tensor
    signals: dict[str, Tensor]


@dataclass(frozen=True)
class AdaptiveSink(Retention):
    """The first S frames and the newest others, `window_frames` in all; S is between `least_frames` and `most_frames`.

    Sizes in latent frames. sink_frames: the depth that a rule begins with or falls back to. Where least, most and sink are
    equal this reads what SinkWindow reads. Alignment "sink" or "slot": they are the same here, one continuous time line;
    absolute positions are refused, because a copy has no frame of its own. A change of prompt leaves the cache as it is. No
    published system does this.
    """

    window_frames: int = 21
    sink_frames: int = 10
    least_frames: int = 3
    most_frames: int = 15

    waits: ClassVar[bool] = False  # whether the rule needs the chunk's queries

    def __post_init__(self) -> None:
        least, s, most, w = self.least_frames, self.sink_frames, self.most_frames, self.window_frames
        if not 0 <= least <= s <= most:
            raise ValueError(
                f"least_frames={least}, sink_frames={s} and most_frames={most} must be at least 0 and "
                "ascend, as 3, 10 and 15 do"
            )
        if most >= w:
            raise ValueError(f"most_frames={most} must be below window_frames={w}; 15 of 21 are the preset's")

    def check(self, chunk_frames: int) -> None:
        if self.most_frames + chunk_frames > self.window_frames:
            raise ValueError(
                f"most_frames={self.most_frames} and the current chunk of {chunk_frames} do not fit into "
                f"window_frames={self.window_frames}; most_frames can be at most {self.window_frames - chunk_frames}"
            )

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        """The window; the three depths keep their shares of it."""
        keys = ("least_frames", "sink_frames", "most_frames")
        sizes = {key: min(share(getattr(self, key), self.window_frames, frames), frames - chunk_frames) for key in keys}
        return {"window_frames": frames, **sizes}

    def capacity(self, chunk_frames: int) -> int | None:
        return self.window_frames + 2 * (self.most_frames - self.least_frames)

    def role(self, frame: int) -> str:
        return "sink" if frame < self.most_frames else "tail"

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=True, reads=self.window_frames)

    def plan(self, view: View) -> Plan:
        kept = [i for i, slot in enumerate(view.slots) if slot.frame is not None]
        past = self.window_frames - view.chunk  # places to read beside the chunk
        if len(kept) <= past:
            return Plan(tuple(kept))
        least, most = self.least_frames, self.most_frames
        first, tail = kept[:most], kept[most:]
        tail = tail[-(past - least) :] if past > least else []
        newest = past - most  # tail frames that are always read
        if most == least:
            return Plan((*first, *tail))
        at = {view.slots[i].frame: i for i in (*first, *tail)}
        deep, late = range(least, most), range(view.start - past + least, view.start - past + most)
        made = Contested(self, tuple(at[f] for f in deep), tuple(at[f] for f in late))
        stored: tuple[int | Content, ...] = (*first[:least], made, *first[least:], *tail)
        end = len(stored) - 1 + most - least  # in slots
        return Plan(stored, (*range(most), *range(end - newest, end)))

    @abstractmethod
    def depth(self, past: Past, chunk: Pass | None) -> tuple[Tensor, dict[str, Tensor]]:
        """int64 [B] between least_frames and most_frames, and what the rule looked at, float32 [B] each. past.view.slots: the
        first `most_frames` frames and the newest ones, some of them twice (copies of the chunk before, without a frame)."""
        ...


@dataclass(frozen=True)
class Contested:
    """Copies for the places that either the sink or the tail has. deep, late: the frames that stand there if the sink is deep
    or not, as indices into View.slots; place i is of the sink where its depth is above least_frames + i."""

    rule: AdaptiveSink
    deep: tuple[int, ...]
    late: tuple[int, ...]

    @property
    def waits(self) -> bool:
        return self.rule.waits

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot(CONTESTED, None),) * len(self.deep)

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, DepthChoice]:
        depth, signals = self.rule.depth(past, chunk)
        place = torch.arange(len(self.deep), device=depth.device).repeat_interleave(past.slot_tokens)
        sink = (self.rule.least_frames + place < depth[:, None])[:, None, :, None]
        keys = torch.where(sink, raw_keys(past, self.deep), raw_keys(past, self.late))
        values = torch.where(sink, values_of(past, self.deep), values_of(past, self.late))
        return Tokens(keys, values), DepthChoice(past.layer, past.view.start, depth, signals)


def raw_keys(past: Past, slots: tuple[int, ...]) -> Tensor:
    """Un-rotated, [B, H, len(slots) * S, D]. slots: ascending indices into View.slots."""
    return torch.cat([past.keys(part, turned=False) for part in neighbours(slots)], 2)


def values_of(past: Past, slots: tuple[int, ...]) -> Tensor:
    return torch.cat([past.values(part) for part in neighbours(slots)], 2)


def neighbours(indices: tuple[int, ...]) -> list[range]:
    """As ranges without gaps: the copies lie between frames that follow each other."""
    ends = [i for i, (a, b) in enumerate(pairwise(indices), 1) if b != a + 1]
    return [range(indices[a], indices[b - 1] + 1) for a, b in pairwise([0, *ends, len(indices)])]


def slots_of(view: View, frames: range) -> tuple[int, ...]:
    """Indices of these latent frames into View.slots. All must be stored."""
    at = {slot.frame: i for i, slot in enumerate(view.slots)}
    return tuple(at[frame] for frame in frames)
