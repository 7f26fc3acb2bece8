"""Infinity-RoPE: a short window read at slot numbers for ever, flushed when the prompt changes, cut where it should.

Source: arXiv 2511.20649; rules from the authors' release (THIRD_PARTY.md). The published runs use sink-trained weights.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from deepforcing.cache.policy import Content, Needs, Pass, Past, Plan, Slot, Tokens, View
from deepforcing.cache.retention import SinkWindow

CUT = 45  # the published distance, in positions, over which a cut looks back


@dataclass(frozen=True)
class FlushedWindow(SinkWindow):
    """A sink window that a new prompt empties but for the first slot and the newest `flush_frames`. Sizes in latent frames.

    With window_frames 6, sink_frames 1 and chunks of 3 that is what the next chunk would have dropped anyway. Whatever
    lies in the first sink_frames slots stays from then on, as published. release: a flush before the window is full
    keeps the end of the buffer instead, which holds nothing yet, and attends to it (the release, on its first video).
    """

    window_frames: int = 6
    sink_frames: int = 1
    flush_frames: int = 2
    release: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.flush_frames < 0:
            raise ValueError(f"flush_frames={self.flush_frames} must be at least 0")

    def check(self, chunk_frames: int) -> None:
        super().check(chunk_frames)
        if 1 + self.flush_frames + chunk_frames > self.window_frames:
            raise ValueError(
                f"flush_frames={self.flush_frames}, the first frame and the chunk of {chunk_frames} do not fit into "
                f"window_frames={self.window_frames}"
            )

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=True)

    def plan(self, view: View) -> Plan:
        past = len(view.slots)
        if not view.switched or (past <= 1 + self.flush_frames and not self.release):
            return super().plan(view)
        if self.release and past < self.window_frames:
            held = range(self.window_frames - self.flush_frames, past)  # buffer slots at its end that hold something
            empty: tuple[Content, ...] = (Nothing(self.flush_frames - len(held)),)
            return Plan((0, *held, *empty))
        return Plan((0, *range(past - self.flush_frames, past)))


@dataclass(frozen=True)
class Nothing:
    """Slots of zeros, which are attended to like others."""

    count: int
    waits: ClassVar[bool] = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot("tail", None),) * self.count

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, None]:
        one = past.values(range(1))
        zeros = one.new_zeros(*one.shape[:2], self.count * past.slot_tokens, one.shape[3])
        return Tokens(zeros, zeros), None


@dataclass(frozen=True)
class InfinityRope:
    """Everything at its slot's number, the chunk behind the past. In the first chunk after a cut: the chunk at 45, the past
    at its slots' numbers before it."""

    relative: bool = True
    cuts: ClassVar[bool] = True

    def positions(self, view: View) -> list[int | None]:
        return [view.start - self.chunk_slot(view) + i for i in range(len(view.slots))]

    def chunk_slot(self, view: View) -> int:
        """The position of the chunk's queries, counted from the first slot's."""
        return CUT if view.cut else len(view.slots)


@dataclass(frozen=True)
class InfinityRopeRelease(InfinityRope):
    """As released: once the video is longer than the window its queries stay at the window's end, also where a flush has
    left the cache shorter: their own keys, at their slots' numbers, then lie before them."""

    window_frames: int = 6

    def chunk_slot(self, view: View) -> int:
        if view.cut or view.start < self.window_frames:
            return super().chunk_slot(view)
        return self.window_frames - view.chunk

    def chunk_shift(self, view: View) -> int:
        """From the chunk's queries to its keys."""
        return 0 if view.cut else len(view.slots) - self.chunk_slot(view)
