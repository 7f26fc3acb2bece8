"""A signal that comes while the last chunks of a video are still being written."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest

from deepforcing.video import VideoWriter
from deepforcing.writer_thread import WriterThread


def test_told_to_end_while_the_last_chunks_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file is left, not even a partial one, and the thread has ended."""
    join, told = threading.Thread.join, []

    def interrupted(thread: threading.Thread, timeout: float | None = None) -> None:
        if thread.name == "video writer" and not told:
            told.append(thread)
            raise KeyboardInterrupt
        join(thread, timeout)

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    video = WriterThread(VideoWriter(tmp_path / "a.mp4", 16, 16, fps=16)).__enter__()
    for _ in range(3):
        video.write(np.zeros((4, 16, 16, 3), np.uint8))
    with pytest.raises(KeyboardInterrupt):
        video.__exit__(None, None, None)
    assert not list(tmp_path.iterdir())
    assert not told[0].is_alive()
