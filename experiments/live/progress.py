"""The rollout's side: short lines into a pipe. What has no room there is dropped, and a reader that is gone is not missed."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

EVERY = 1.0  # seconds
ROOM = 60_000  # bytes that an empty pipe takes at once (64 KiB on Linux)


@contextlib.contextmanager
def live(tracker: str | None, folder: Path, about: dict[str, Any], chunks: int) -> Iterator[Callable[[], None]]:
    """A function to be called after every chunk. tracker None: it does nothing. folder: where wandb's files go, in wandb/.
    about: name, group, config. chunks: in all.

    Costs the rollout a process that is started and a line a second. Raises nothing for the tracker's sake.
    """
    if tracker is None:
        yield lambda: None
        return
    try:
        process = subprocess.Popen(
            [sys.executable, "-m", "experiments.live.process"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL,
            cwd=Path(__file__).parents[2], start_new_session=True,  # Ctrl-C ends the rollout, and by the pipe's end the other
        )  # fmt: skip
    except OSError:
        yield lambda: None
        return
    assert process.stdin is not None
    pipe = process.stdin.fileno()
    os.set_blocking(pipe, False)
    began = last = time.monotonic()
    done = 0

    def told() -> None:
        nonlocal done, last
        done, now = done + 1, time.monotonic()
        if now - last >= EVERY or done == chunks:
            last = now
            write(
                pipe, {"live/chunks": done, "live/share": done / chunks, "live/seconds_per_chunk": (now - began) / done}
            )

    first = {"root": str(folder.absolute()), **about}
    write(pipe, first if len(line(first)) <= ROOM else {**first, "config": {}})
    try:
        yield told
    finally:
        with contextlib.suppress(OSError):
            process.stdin.close()


def line(told: dict[str, Any]) -> bytes:
    return json.dumps(told).encode() + b"\n"


def write(pipe: int, told: dict[str, Any]) -> None:
    with contextlib.suppress(OSError):  # full: the next line has the same numbers, later; closed: nobody reads
        os.write(pipe, line(told))
