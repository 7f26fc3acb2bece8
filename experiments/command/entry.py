"""From `python -m experiments.X words ...` to an exit status.

0: done; 1: done, but for what was said; 2: wrong words, or work that failed; 128 + n: ended by signal n.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from experiments.command.conf import help_text
from experiments.command.terminal import closed, full, say, say_quietly, take_every_character

if TYPE_CHECKING:
    from omegaconf import DictConfig

Task = Callable[["DictConfig"], int | None]
Check = Callable[["DictConfig", bool], object]
FAILED = 2
SAME_WISH = 1.0  # seconds


class Ended(KeyboardInterrupt):
    """The process was asked to end by a signal: everything that gives way to Ctrl-C gives way to it."""

    def __init__(self, number: int) -> None:
        self.number = number


class Signals:
    """Which signal asked for the end, if one did. Libraries may take the exception for a failure of their own.

    What comes within a second of it is the same wish: an impatient finger, or a terminal that hangs up and ends.
    """

    asked: int | None = None
    at = 0.0

    def end(self, number: int, frame: FrameType | None = None) -> None:
        if self.asked is not None and time.monotonic() < self.at + SAME_WISH:
            return
        self.asked, self.at = number, time.monotonic()
        raise Ended(number)


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
        let_threads_sleep()
        give_back_less()
        if any(a in ("-h", "--help") for a in sys.argv[1:]):
            status = guarded(lambda: print(help_of()), nothing_lost=True)
        else:
            signals = Signals()
            try:
                with ending_by(signals):
                    status = guarded(lambda: work(sys.argv[1:]), signals)
            except KeyboardInterrupt:  # a sweep ends too
                number = signals.asked or int(signal.SIGINT)
                what = {int(signal.SIGINT): "interrupted", int(signal.SIGTERM): "told to end"}.get(number, "hung up")
                say_quietly(f"{what}: what is finished stays; run the same command again to go on")
                status = 128 + number
        if status:
            sys.exit(status)

    return main


def let_threads_sleep() -> None:
    """What `make` sets, unless the user has set either: threads that spin for long cost several times the work where cores
    are shared, and those that sleep at once are slow to wake. OpenMP reads it when torch is imported, which is later."""
    if not {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & set(os.environ):
        os.environ.update(OMP_WAIT_POLICY="PASSIVE", GOMP_SPINCOUNT="20000")


def give_back_less() -> None:
    """Unless the user has set either: glibc hands what a chunk frees back to the system and asks for it again in the next one,
    thousands of page faults a chunk, up to 6 % of its processor time. Up to 256 MB stay; of blocks over 32 MB
    none does (scoring keeps these too: eval/allocator.py)."""
    limits = {
        "MALLOC_TRIM_THRESHOLD_": (-1, 1 << 28),
        "MALLOC_MMAP_THRESHOLD_": (-3, 1 << 25),
    }  # mallopt's names in malloc.h
    if sys.platform == "linux" and not limits.keys() & set(os.environ):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is None:
            return
        for name, (number, size) in limits.items():
            mallopt(number, size)
            os.environ[name] = str(size)  # workers read it when they start


def guarded(work: Callable[[], int | None], signals: Signals | None = None, nothing_lost: bool = False) -> int:
    """The work's exit status; FAILED after one line on stderr for whatever went wrong. Raises Ended where a signal did.

    nothing_lost: whether it is no failure if the reader leaves.
    """
    from experiments.command.words import refusal

    try:
        status = work() or 0
        sys.stdout.flush()
        return status
    except Exception as error:
        if signals is not None and signals.asked is not None:
            raise Ended(signals.asked) from None
        if isinstance(error, BrokenPipeError) and closed(sys.stdout):  # the reader, as in `| head`, has what it wanted
            return 0 if nothing_lost else FAILED
        say("the output cannot be written: the disk is full" if full(error) else refusal(error))
    return FAILED


@contextmanager
def ending_by(signals: Signals) -> Iterator[None]:
    """SIGTERM (a scheduler, `kill`), SIGHUP (a closed terminal) and Ctrl-C end the block, and not the process at once:
    workers are ended first, and how to go on is said. A signal that is ignored (nohup) stays so."""
    before = {}
    try:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            if signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler):
                before[number] = signal.signal(number, signals.end)
    except ValueError:  # not the main thread: a notebook's or a test's
        pass
    try:
        yield
    finally:
        for (
            number,
            handler,
        ) in before.items():  # at exit another signal ends at once; Python's own handler has a traceback
            signal.signal(number, handler if signals.asked is None else signal.SIG_DFL)
