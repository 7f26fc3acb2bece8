"""From `python -m experiments.X words ...` to an exit status.

0: done; 1: done, but for what was said; 2: wrong words, or work that failed; 128 + n: ended by signal n.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from experiments.command.conf import help_text
from experiments.command.terminal import closed, say, say_quietly, take_every_character

if TYPE_CHECKING:
    from omegaconf import DictConfig

Task = Callable[["DictConfig"], int | None]
Check = Callable[["DictConfig", bool], object]
FAILED = 2


class Ended(KeyboardInterrupt):
    """The process was asked to end by another signal than Ctrl-C's: everything that gives way to Ctrl-C gives way to it."""

    def __init__(self, number: int) -> None:
        self.number = number


def command(config_name: str, check: Check | None = None) -> Callable[[Task], Callable[[], None]]:
    """Decorator: make `main()` out of a task on conf/<config_name>.yaml; the task may return an exit status.

    check: what the task itself looks at first, called with a config and whether the task will run on this machine. Before
    a sweep begins it sees every point: a mistake in the last one is told before the first one's long work.
    """

    def decorate(task: Task) -> Callable[[], None]:
        def work(arguments: list[str]) -> int | None:
            from experiments.command.compose import run  # Hydra

            return run(task, config_name, arguments, check)

        return program(work, lambda: help_text(config_name))

    return decorate


def program(work: Callable[[list[str]], int | None], help_of: Callable[[], str]) -> Callable[[], None]:
    """`main()` of a command that reads its words by itself. work: gets them, gives an exit status."""

    def main() -> None:
        take_every_character()
        if any(a in ("-h", "--help") for a in sys.argv[1:]):
            status: int | None = guarded(lambda: print(help_of()))
        else:
            try:
                with ending_by_signals():
                    status = guarded(lambda: work(sys.argv[1:]))
            except KeyboardInterrupt as end:  # a sweep ends too
                number = end.number if isinstance(end, Ended) else int(signal.SIGINT)
                what = {int(signal.SIGINT): "interrupted", int(signal.SIGTERM): "told to end"}.get(number, "hung up")
                say_quietly(f"{what}: what is finished stays; run the same command again to go on")
                status = 128 + number
        if status:
            sys.exit(status)

    return main


def guarded(work: Callable[[], int | None]) -> int:
    """The work's exit status; FAILED after one line on stderr for whatever went wrong."""
    from experiments.command.words import refusal

    try:
        status = work() or 0
        sys.stdout.flush()
        return status
    except Exception as error:
        if isinstance(error, BrokenPipeError) and closed(sys.stdout):  # the reader, as in `| head`, has what it wanted
            return FAILED
        say(refusal(error))
    return FAILED


@contextmanager
def ending_by_signals() -> Iterator[None]:
    """SIGTERM (a scheduler, `kill`) and SIGHUP (a closed terminal) end the block as Ctrl-C does, and not at once: workers
    are ended first, and how to go on is said. A signal that is ignored (nohup) stays so."""

    def end(number: int, frame: FrameType | None) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)  # one is enough
        raise Ended(number)

    before = {}
    try:
        for number in (signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) == signal.SIG_DFL:
                before[number] = signal.signal(number, end)
    except ValueError:  # not the main thread: a notebook's or a test's
        pass
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
