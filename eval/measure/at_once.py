"""Several clips at work at once on a CPU, each in a thread of its own with a share of torch's threads.

The threads of one network wait for each other after every layer and idle where a layer is too small for all of them; clips
have nothing to do with each other.
"""

from __future__ import annotations

import ctypes
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TypeVar

import torch

from eval.networks import backend
from eval.networks.batches import both_ways

Item = TypeVar("Item")
Result = TypeVar("Result")
MOST = 4  # clips
ROOM = 2**31  # bytes of correlations of all clips: of the full networks, what grows fastest with a frame


def clips_at_once(height: int, width: int, device: torch.device) -> int:
    """1 on a GPU, which has its own way to be busy, and where networks are compiled for one thread's calls."""
    if device.type != "cpu" or backend.in_use is not None:
        return 1
    return max(1, min(MOST, torch.get_num_threads(), ROOM // both_ways(height, width)))


def clips_ahead(height: int, width: int, device: torch.device) -> int:
    """Clips that are encoded once more, each in a thread, before they are asked for: a GPU has processors left for it."""
    return clips_at_once(height, width, device) if device.type == "cpu" else MOST


def in_order(work: Callable[[Item], Result], items: Iterable[Item], at_once: int) -> Generator[Result]:
    """work(item) of each item, in order, `at_once` of them in the making, with one more item taken and waiting.

    Items are made in the caller's thread. An exception of `work` is raised in its turn, by its own kind. Then, and where
    the caller closes this, as Ctrl-C makes it, what is in the making is interrupted and nothing begun.
    """
    if at_once == 1:
        yield from map(work, items)
        return
    threads = torch.get_num_threads()
    shares = [max(1, threads // at_once + (n < threads % at_once)) for n in range(at_once)]
    busy: set[int] = set()  # threads

    def take_share() -> None:
        torch.get_num_threads()  # the first question of a thread gives it the process's number, also after it was set
        torch.set_num_threads(shares.pop())

    def working(item: Item) -> Result:
        busy.add(threading.get_ident())
        try:
            return work(item)
        finally:
            busy.discard(threading.get_ident())

    pool = ThreadPoolExecutor(at_once, initializer=take_share)
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(working, item))
            if len(waiting) > at_once:
                waiting[0].result()  # stays in the list while it is waited for, to be interrupted too
                yield waiting.popleft().result()
        while waiting:
            waiting[0].result()
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
        while left := [future for future in waiting if not future.done()]:  # again, for one may just have begun
            for thread in list(busy):
                interrupt(thread)
            wait(left, timeout=0.5)
        pool.shutdown()
        torch.set_num_threads(threads)  # what a worker sets is also what threads that begin later have


def interrupt(thread: int) -> None:
    """KeyboardInterrupt in another thread, after the operation that it is in. Waiting for it to look at a flag between two
    metrics was found to take half a minute with the full networks."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(KeyboardInterrupt))
