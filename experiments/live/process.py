"""The tracker's side, a process of its own: lines from standard input into a W&B run, the newest where several wait.

The first line is {root, project, group, name, config}, the others are what is logged. It ends with its input, and at the latest
FINISH_SECONDS later, whatever the server does. WANDB_MODE=online sends at once; without it files are written offline, for
`wandb sync`.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import threading
from pathlib import Path
from typing import IO, Any

from experiments.live.settings import FINISH_SECONDS, quiet


class Newest:
    """What was read last and has not been taken; lines between are dropped, not kept waiting."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.told: dict[str, Any] | None = None
        self.ended = False

    def read(self, lines: IO[str], seconds: float) -> None:
        """All lines, in a thread; then the process has so many seconds."""
        for text in lines:
            with contextlib.suppress(ValueError), self.changed:  # a line that was cut off
                self.told = json.loads(text)
                self.changed.notify()
        with self.changed:
            self.ended = True
            self.changed.notify()
        clock = threading.Timer(seconds, os._exit, (1,))
        clock.daemon = True
        clock.start()

    def take(self) -> dict[str, Any] | None:
        """Waits; None after the last."""
        with self.changed:
            self.changed.wait_for(lambda: self.told is not None or self.ended)
            told, self.told = self.told, None
            return told


def follow(lines: IO[str], wandb: Any, seconds: float = FINISH_SECONDS) -> None:
    first = json.loads(lines.readline())
    newest = Newest()
    threading.Thread(target=newest.read, args=(lines, seconds), daemon=True).start()
    mode = "online" if os.environ.get("WANDB_MODE") == "online" else "offline"
    session = wandb.init(
        project=first.get("project"), group=first.get("group"), name=first.get("name"), config=first.get("config"),
        job_type="live", settings=quiet(wandb, Path(first["root"]), mode),
    )  # fmt: skip
    while (told := newest.take()) is not None:
        session.log(told)
    session.finish()


def main() -> None:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        follow(sys.stdin, importlib.import_module("wandb"))
    except Exception as error:
        print(f"no live progress in W&B: {' '.join(str(error).split())[:300]}", file=sys.stderr)


if __name__ == "__main__":
    main()
