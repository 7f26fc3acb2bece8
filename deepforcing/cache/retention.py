"""Retention by whole frames: decided from frame numbers alone, once for all layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from deepforcing.cache.budget import share
from deepforcing.cache.policy import Pass, Past, Plan, Retention, Slot, Tokens, View


@dataclass(frozen=True)
class KeepAll(Retention):
    """Nothing is ever dropped; memory and time grow with the video."""

    def capacity(self, chunk_frames: int) -> int | None:
        return None

    def plan(self, view: View) -> Plan:
        return Plan(tuple(range(len(view.slots))))


@dataclass(frozen=True)
class SinkWindow(Retention):
    """The first `sink_frames` for ever, and the most recent ones, `window_frames` in all with the current chunk.

    sink_frames = 0 is Self Forcing's sliding window. Sizes in latent frames.
    """

    window_frames: int = 21
    sink_frames: int = 0

    def __post_init__(self) -> None:
        if self.window_frames < 1 or self.sink_frames < 0:
            raise ValueError(
                f"window_frames={self.window_frames} must be at least 1 and sink_frames={self.sink_frames} at least 0"
            )
        if self.sink_frames >= self.window_frames:
            raise ValueError(
                f"sink_frames={self.sink_frames} must be below window_frames={self.window_frames}; "
                "the paper uses 10 of 21"
            )

    def check(self, chunk_frames: int) -> None:
        if chunk_frames > self.window_frames:
            raise ValueError(
                f"window_frames={self.window_frames} must hold the current chunk of {chunk_frames} latent frames"
            )
        if self.sink_frames + chunk_frames > self.window_frames:
            raise ValueError(
                f"sink_frames={self.sink_frames} and the current chunk of {chunk_frames} do not fit into "
                f"window_frames={self.window_frames}; sink_frames can be at most {self.window_frames - chunk_frames}"
            )

    def capacity(self, chunk_frames: int) -> int | None:
        return self.window_frames

    def role(self, frame: int) -> str:
        return "sink" if frame < self.sink_frames else "tail"

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        """The window; the sink keeps its share of it, at least a frame where there is one."""
        sink = share(self.sink_frames, self.window_frames, frames)
        return {"window_frames": frames, "sink_frames": max(min(sink, frames - chunk_frames), min(self.sink_frames, 1))}

    def plan(self, view: View) -> Plan:
        stored = self._newest(len(view.slots), view.chunk)
        if view.frames == view.chunk:
            return Plan(stored)
        # Denoised together with later chunks: fewer fit beside them.
        return Plan(stored, self._newest(len(stored), view.frames))

    def _newest(self, past: int, frames: int) -> tuple[int, ...]:
        """Which of so many slots fit into the window beside `frames`: the sink and the newest."""
        excess = max(0, past + frames - self.window_frames)
        sinks = min(self.sink_frames, past)
        return (*range(sinks), *range(sinks + excess, past))


@dataclass(frozen=True)
class SinkRecent(Retention):
    """The first `sink_frames` for ever, and the newest `recent_frames` of the others, beside the current chunk."""

    sink_frames: int = 0
    recent_frames: int = 0

    def capacity(self, chunk_frames: int) -> int | None:
        return self.sink_frames + self.recent_frames + chunk_frames

    def role(self, frame: int) -> str:
        return "sink" if frame < self.sink_frames else "tail"

    def plan(self, view: View) -> Plan:
        sinks, past = min(self.sink_frames, len(view.slots)), len(view.slots)
        return Plan((*range(sinks), *range(max(sinks, past - self.recent_frames), past)))


@dataclass(frozen=True)
class Copies:
    """Whole frames once more, beside the stored ones, so that they can be read at a place of their own.

    sources: indices into View.slots, in any order. frames: the latent frames that these are.
    """

    role: str
    sources: tuple[int, ...]
    frames: tuple[int | None, ...]
    waits: ClassVar[bool] = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        return tuple(Slot(self.role, frame) for frame in self.frames)

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, None]:
        one = [range(i, i + 1) for i in self.sources]
        keys = torch.cat([past.keys(i, turned=False) for i in one], 2)
        return Tokens(keys, torch.cat([past.values(i) for i in one], 2)), None
