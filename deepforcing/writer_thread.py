"""A video writer in a thread of its own: encoding runs beside the next chunk, the bytes are the same."""

from __future__ import annotations

import queue
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING

from deepforcing.video import VideoWriter

if TYPE_CHECKING:
    from torch import Tensor

    from deepforcing.yuv import Frames

DEPTH = 2  # chunks that wait at most: memory stays flat when encoding is the slower


class WriterThread:
    """A VideoWriter whose `write` returns before the frames are encoded. What goes wrong in the thread is raised by the next
    `write`, or at the block's end; either way no file appears.

        with WriterThread(VideoWriter(path, 832, 480, fps=16)) as video:
            for chunk in chunks:
                video.write(chunk)

    seconds: what each `write` took in the thread; whole after the block.
    """

    def __init__(self, writer: VideoWriter) -> None:
        self.writer = writer
        self.seconds: list[float] = []
        self._waiting: queue.Queue[Tensor | Frames | None] = queue.Queue(DEPTH)
        self._error: BaseException | None = None
        self._dropping = False
        self._thread = threading.Thread(target=self._work, name="video writer", daemon=True)

    @property
    def frames(self) -> int:
        """Written so far."""
        return self.writer.frames

    def __enter__(self) -> WriterThread:
        self.writer.__enter__()
        self._thread.start()
        return self

    def write(self, frames: Tensor | Frames) -> None:
        """As VideoWriter.write, later; waits while DEPTH chunks are ahead. The frames must not change afterwards."""
        if self._error is not None:
            raise self._error
        self._waiting.put(frames)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._dropping = kind is not None
        try:
            self._end()
        except BaseException as told:  # to end, while the last chunks are written
            self._dropping = True
            self._end()
            self.writer.__exit__(type(told), told, told.__traceback__)
            raise
        if kind is None and self._error is not None:
            self.writer.__exit__(type(self._error), self._error, self._error.__traceback__)
            raise self._error
        self.writer.__exit__(kind, error, trace)

    def _end(self) -> None:
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (frames := self._waiting.get()) is not None:
            if (
                self._dropping or self._error is not None
            ):  # taken off the queue all the same, or `write` would wait for ever
                continue
            began = time.perf_counter()
            try:
                self.writer.write(frames)
            except BaseException as fault:
                self._error = fault
            self.seconds.append(time.perf_counter() - began)
