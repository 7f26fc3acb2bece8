"""Clips encoded once more and decoded again, in memory: the pixels that VBench-Long scores.

VBench-Long writes every clip of a video to a file by torchvision.io.write_video before it scores any: libx264 through
PyAV at FFmpeg's defaults (crf 23, preset medium), yuv420p, a whole number of frames a second. The frames here are the
very bytes that decord and OpenCV read from such a file. n frames, H and W pixels of the video.

What the bytes depend on beside the frames:

* The number of slices in a picture, which is the number of processors, but at most H / 64: x264 works on a picture's
  slices at once. So VBench-Long's scores move with the machine (by 3e-5 of flickering at 480 x 832), and so do these,
  the same way. At 480 x 832 all machines with seven processors or more agree.
* x264's own code for AVX-512. Its macroblock tree (core 165, of PyAV 18) gives other bytes from call to call, even on
  one thread: flickering moves by up to 2e-4 at 64 x 96, 3e-6 at 480 x 832. The code for AVX2 always gives what the
  plain C code gives, and is as fast; so it is chosen here where there is a choice. VBench-Long itself does not repeat
  its own scores on such processors.
* PyAV's own defaults. Earlier ones asked for 1 Mbit/s where nobody said a rate (its change 1782 ended that), which crf 23
  has no say against: numbers published with them are of other bytes than these, which are those of the PyAV here.
"""

from __future__ import annotations

import functools
import io
import itertools
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import cast

import av
import numpy as np
from numpy.typing import NDArray

from eval.measure.batch import FRAMES, Batch
from eval.measure.windows import Window


def reencoded(
    clips: Iterable[NDArray[np.uint8]], fps: int, ahead: int = 1, at_once: int = FRAMES
) -> Generator[list[Batch]]:
    """Each clip, uint8 [n, H, W, 3] RGB (Batch.frames), as batches of its second generation, `at_once` frames each.

    `clips` is iterated in another thread, and up to `ahead` clips beyond what was taken from here are encoded at once in
    others: encoding goes on while networks look at frames. What goes wrong there is raised here, by its own kind.
    """
    end = object()

    def again(given: Future[object]) -> object:
        frames = given.result()
        if frames is end:
            return end
        batches = list(decoded(encode(cast(NDArray[np.uint8], frames), fps), at_once))
        for batch in batches:
            _ = batch.frames  # converted in that thread too, and kept
        return batches

    source = iter(clips)
    taking, encoding = ThreadPoolExecutor(1), ThreadPoolExecutor(ahead)

    def begin() -> Future[object]:
        return encoding.submit(again, taking.submit(next, source, end))

    try:
        waiting = deque(begin() for _ in range(ahead))
        while (batches := waiting.popleft().result()) is not end:
            waiting.append(begin())
            yield cast(list[Batch], batches)
    finally:
        for pool in (taking, encoding):
            pool.shutdown(cancel_futures=True)


def reencode(frames: NDArray[np.uint8], fps: int, threads: int = 0) -> list[Batch]:
    """One clip, uint8 [n, H, W, 3] RGB, once through the encoder.

    threads: 0 for one a processor, as VBench-Long has it. Raises ValueError for sizes that 4:2:0 cannot hold, which
    VBench-Long cannot encode either, and for a frame rate that is no whole number above 0.
    """
    return list(decoded(encode(frames, fps, threads)))


def encode(frames: Iterable[NDArray[np.uint8]], fps: int, threads: int = 0) -> bytes:
    """The mp4 file that VBench-Long writes for a clip; arguments and errors as of `reencode`."""
    encoder = Encoder(fps, threads)
    for image in frames:
        encoder.add(image)
    return encoder.finish()


class Encoder:
    """`encode` for frames that come one by one, uint8 [H, W, 3] RGB: what it holds is coded already."""

    def __init__(self, fps: int, threads: int = 0) -> None:
        if type(fps) is not int or fps < 1:
            raise ValueError(f"fps={fps!r} must be a whole number of at least 1 (VBench-Long cuts the fraction off)")
        self._file = io.BytesIO()
        self._container = av.open(self._file, "w", format="mp4")
        self._stream = self._container.add_stream("libx264", rate=fps, options=_assembly())
        self._stream.pix_fmt = "yuv420p"
        self._stream.codec_context.thread_count = threads
        self.frames = 0

    def add(self, image: NDArray[np.uint8]) -> None:
        height, width = image.shape[:2]
        if height % 2 or width % 2:
            raise ValueError(
                f"frames of {width} x {height} pixels cannot be encoded once more, as VBench-Long does: H.264 in yuv420p "
                "needs even sizes; crop them"
            )
        if not self.frames:
            self._stream.width, self._stream.height = width, height
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        self.frames += 1

    def finish(self) -> bytes:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        return self._file.getvalue()


def clip_frames(batches: Iterable[Batch], clips: Sequence[Window]) -> Iterator[NDArray[np.uint8]]:
    """The frames of each clip, uint8 [n, H, W, 3] RGB, out of a video's batches; one clip and one batch are held.

    Clips begin one after the other and may overlap. Raises ValueError if the video ends inside a clip.
    """
    source, held, first = iter(batches), deque[NDArray[np.uint8]](), 0
    for clip in clips:
        while first + len(held) < clip.end:
            batch = next(source, None)
            if batch is None:
                raise ValueError(f"the video ends after {first + len(held)} of {clips[-1].end} frames")
            held.extend(batch.frames)
        while first < clip.start:
            held.popleft()
            first += 1
        yield np.stack(list(itertools.islice(held, clip.end - clip.start)))


def decoded(file: bytes, at_once: int = FRAMES) -> Iterator[Batch]:
    """The frames of such a file, a batch of `at_once` at a time."""
    with av.open(io.BytesIO(file), "r") as container:
        frames = container.decode(container.streams.video[0])
        while batch := list(itertools.islice(frames, at_once)):
            yield Batch(batch)


@functools.cache
def _assembly() -> dict[str, str]:
    """Options that keep x264 off its code for AVX-512; every processor that has AVX-512 has AVX2."""
    processor = Path("/proc/cpuinfo")
    return {"x264-params": "asm=avx2"} if processor.exists() and "avx512" in processor.read_text() else {}
