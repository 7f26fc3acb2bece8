"""Alignments: at which temporal position each cached slot is read. Pure functions of the view.

With the chunk at its absolute frames, "re-aligned" means that the past is counted back from where the kept tail begins.
Until the first token is dropped every alignment here gives the absolute positions.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from deepforcing.cache.policy import Alignment, View

if TYPE_CHECKING:
    from torch import Tensor


def first_tail_frame(view: View) -> int:
    """The first frame of the contiguous tail before the chunk; the chunk's start when there is no tail."""
    return next((s.frame for s in view.slots if s.role == "tail" and s.frame is not None), view.start)


@dataclass(frozen=True)
class Absolute:
    """Every token at the frame it came from (Self Forcing, StreamingLLM-style sinks, LongLive)."""

    relative: bool = False
    turns: ClassVar[bool] = False  # so un-rotated keys need not be stored

    def positions(self, view: View) -> list[int | None]:
        return [slot.frame for slot in view.slots]


@dataclass(frozen=True)
class SinkAligned:
    """Deep Sink (paper, section 4.2): the sink sits right before the rest of the cache; the rest keeps its frames."""

    relative: bool = True

    def positions(self, view: View) -> list[int | None]:
        sinks = sum(slot.role == "sink" for slot in view.slots)
        tops = sum(slot.role == "top" for slot in view.slots)
        begin = first_tail_frame(view) - tops - sinks
        return [begin + i if slot.role == "sink" else slot.frame for i, slot in enumerate(view.slots)]


@dataclass(frozen=True)
class Unified:
    """Deep Forcing as in the paper (section 4.3): sink, top-C and recent tokens form one continuous time line.

    The kept top-C tokens fill whole slots in temporal order and are read at their slot's position.
    """

    relative: bool = True

    def positions(self, view: View) -> list[int | None]:
        leading = sum(slot.role != "tail" for slot in view.slots)
        begin = first_tail_frame(view) - leading
        return [begin + i if slot.role != "tail" else slot.frame for i, slot in enumerate(view.slots)]


@dataclass(frozen=True)
class OneShift(SinkAligned):
    """Chosen tokens move together, so far that the newest comes right before the tail; they keep their distances.

    Paper, section 4.3, with its one number delta_top read as one for all chosen tokens of a layer, a video, and a head that
    chooses for itself. It is settled when they are chosen. The sink sits before them, as in Deep Sink.
    """

    def token_shift(self, frames: Tensor, view: View) -> Tensor:
        """frames: int64 [B, G, C], where the chosen tokens come from. Gives [B, G, 1], never below 0."""
        return first_tail_frame(view) - 1 - frames.amax(2, keepdim=True)


@dataclass(frozen=True)
class BySlot:
    """Everything re-indexed by slot, ending right before the chunk (LongLive's "infinity" variant, Infinity-RoPE).

    Those systems count slots from 0 and put the queries after them; only differences matter, so this is the same.
    """

    relative: bool = True

    def positions(self, view: View) -> list[int | None]:
        return [view.start - len(view.slots) + i for i in range(len(view.slots))]


@dataclass(frozen=True)
class ReleaseSink:
    """The released Deep Forcing code: the sink moves at each drop, by a first step that is hard-wired, the rest stays.

    first step = 21 - capacity_frames (the literal 21), later steps follow the chunk's start; top-C tokens keep their own
    frames (the release's unification never runs). capacity_frames: the release's budget with compression, where that is
    below sink + recent frames too (it then keeps more than its budget, and the sink comes that much too late for ever);
    21 for its sink-only model, whose first step is 0: a hole of one chunk stays between sink and tail.
    Source: the release at ea9961aa (THIRD_PARTY.md). Deviation: the release turns stored keys in place again and again,
    which adds rounding in bfloat16; this does not.
    """

    capacity_frames: int = 16
    relative: bool = False  # the release reads its tail from the 1024-entry table

    def positions(self, view: View) -> list[int | None]:
        if view.first_drop is None or view.last_drop is None:
            return [slot.frame for slot in view.slots]
        shift = 21 - self.capacity_frames + view.last_drop - view.first_drop
        return [
            slot.frame + shift if slot.role == "sink" and slot.frame is not None else slot.frame for slot in view.slots
        ]


NAMED: dict[str, Alignment] = {
    "absolute": Absolute(),
    "sink": SinkAligned(),
    "unified": Unified(),
    "one_shift": OneShift(),
    "slot": BySlot(),
}


def find_alignment(name: str) -> Alignment:
    """The alignment called `name` (see CachePolicy). Raises ValueError that lists the known ones."""
    module, _, attribute = name.rpartition(".")
    if module:
        try:
            found: Alignment | Callable[[], Alignment] = getattr(importlib.import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            raise ValueError(f"cache.alignment={name!r} cannot be imported: {error}") from error
        made = found() if isinstance(found, type) else found
        if not (hasattr(made, "relative") and hasattr(made, "positions")):
            raise ValueError(f"cache.alignment={name!r} is no Alignment: it needs `relative` and `positions(view)`")
        return made
    if name not in NAMED:
        raise ValueError(f"cache.alignment={name!r} is unknown; choose one of {', '.join(NAMED)}")
    return NAMED[name]
