"""Seconds of the parts of a chunk, without making a GPU wait for the clock."""

from __future__ import annotations

import time
from typing import Any, cast

import torch


class Laps:
    """Stretches of one chunk: (name, beginning, end), moments of the CPU's clock or events of a GPU."""

    def __init__(self, pairs: list[tuple[str, Any, Any]]) -> None:
        self.pairs = pairs

    def seconds(self) -> dict[str, float]:
        """By name; waits for the GPU to reach the last of them."""
        total: dict[str, float] = {}
        for name, begin, end in self.pairs:
            if isinstance(end, float):
                took = end - begin
            else:
                end.synchronize()
                took = begin.elapsed_time(end) / 1e3
            total[name] = total.get(name, 0.0) + took
        total.pop("wait", None)
        return total


class Stopwatch:
    """Seconds per named stretch. On a GPU by events on the current stream: nothing is waited for before they are read."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.pairs: list[tuple[str, Any, Any]] = []
        self.last: dict[int, Any] = {}
        self._mark()

    def _mark(self) -> tuple[Any, Any]:
        """The stream's last moment, or this one if it has none, and this one."""
        stream, now = 0, cast("Any", time.perf_counter())
        if self.device.type == "cuda":
            stream, now = torch.cuda.current_stream(self.device).cuda_stream, torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            now.record()
        before, self.last[stream] = self.last.get(stream, now), now
        return before, now

    def lap(self, name: str) -> None:
        self.pairs.append((name, *self._mark()))

    def take(self) -> Laps:
        """The laps since the last call; on a CPU the time until the next lap counts from its return."""
        laps, self.pairs = Laps(self.pairs), []
        if self.device.type != "cuda":
            self._mark()
        return laps
