"""What a piece of work takes: seconds, processor seconds, memory."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import torch

Result = TypeVar("Result")


class Clock:
    """Wall and processor seconds (all threads of this process) spent inside its blocks, added up, also of several threads."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0.0
        self._lock = threading.Lock()

    @contextmanager
    def running(self) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            yield
        finally:
            with self._lock:
                self.wall += time.perf_counter() - wall
                self.cpu += time.process_time() - cpu

    def around(self, work: Callable[..., Result]) -> Callable[..., Result]:
        def timed(*args: Any, **kwargs: Any) -> Result:
            with self.running():
                return work(*args, **kwargs)

        return timed

    def told(self) -> dict[str, float]:
        return {"seconds": self.wall, "cpu_seconds": self.cpu}


def forget_peak(device: torch.device) -> None:
    """Begin the peak anew, where the system allows it (Linux)."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif (place := Path("/proc/self/clear_refs")).exists():
        place.write_text("5")


def peak(device: torch.device) -> int:
    """Bytes held at most since forget_peak: the GPU allocator's, or the resident set's."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    line = next(x for x in status.read_text().splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) * 1024
