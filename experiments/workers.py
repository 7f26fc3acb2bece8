"""Worker processes that end with the command that started them, however it ends.

Every worker holds the reading end of a pipe whose other end is the command's alone. It is closed when the command stops,
and by the system when the command dies: then the worker ends at once. What is finished stays, as after kill -9.
"""

from __future__ import annotations

import multiprocessing as mp
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.sharedctypes import Synchronized
from typing import Any

from rich.progress import Progress

counted: Callable[[], None] | None = None  # in a worker; only inheritance may hand over what it holds


@dataclass(frozen=True)
class Ticker:
    """Counts workers' steps for the bar in the main process."""

    count: Synchronized[int]

    def __call__(self) -> None:
        with self.count.get_lock():
            self.count.value += 1

    @property
    def steps(self) -> int:
        """Read without the lock, which a worker that was killed may hold for ever."""
        return int(self.count.get_obj().value)


def tick() -> None:
    """One more step is done."""
    if counted is not None:
        counted()


def begin_worker(ticker: Ticker, lifeline: Connection) -> None:
    global counted
    counted = ticker
    os.environ["OMP_NUM_THREADS"] = "1"  # torch comes later, with the work
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(1)
    threading.Thread(target=end_with, args=(lifeline,), daemon=True).start()


def end_with(lifeline: Connection) -> None:
    """End this process when nobody holds the other end any more."""
    lifeline.poll(None)
    os._exit(1)


@contextmanager
def ignoring_interrupts() -> Iterator[None]:
    """Processes started inside ignore Ctrl-C, which reaches the whole group: one process stops, and ends the others."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def workers(jobs: int) -> Iterator[tuple[ProcessPoolExecutor, Ticker]]:
    """So many processes and their ticker; whatever ends the block early ends them at once."""
    context = mp.get_context("spawn")
    ticker = Ticker(context.Value("q", 0))
    reader, writer = context.Pipe(duplex=False)
    with ProcessPoolExecutor(jobs, context, begin_worker, (ticker, reader)) as pool:
        with (
            ignoring_interrupts()
        ):  # the processes start here, all of them: the pool does not watch those that start later
            starting = [pool.submit(int) for _ in range(jobs)]
        try:
            wait(starting)
            yield pool, ticker
        except BaseException:
            writer.close()
            pool.shutdown(cancel_futures=True)
            raise
    writer.close()


def follow(bar: Progress, name: str, total: int, futures: Sequence[Future[Any]], ticker: Ticker) -> None:
    """Show the workers' ticks until all have finished; the first failure is raised here."""
    task = bar.add_task(name, total=total)
    ticker.count.value = 0
    unfinished = set(futures)
    while unfinished:
        finished, unfinished = wait(unfinished, timeout=0.1, return_when=FIRST_EXCEPTION)
        bar.update(task, completed=ticker.steps)
        for future in finished:
            try:
                future.result()
            except BrokenProcessPool:
                raise ChildProcessError(
                    "a worker process was ended from outside (by the system, for want of memory?); what is finished "
                    "stays: run the same command again to go on, with fewer processes (jobs=1)"
                ) from None
    bar.update(task, completed=total)
