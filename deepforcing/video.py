"""Videos on disk: a writer that streams chunk by chunk, a reader that decodes once, both in constant memory.

Shapes: N frames, H and W pixels.

Colour. Files are 8 bit 4:2:0, BT.601 matrix, limited range, tagged so (primaries and transfer are those of sRGB). 601
rather than 709 because the readers that ignore tags assume 601 at the sizes written here. Conversion: yuv.py.

Encoder. x264's psychovisual tuning, adaptive quantisation and macroblock tree trade fidelity for looks, the last two
unequally over a frame and over time. Videos here are measured, so they are off.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, NamedTuple

import av
import numpy as np

from deepforcing.frame_times import duration, spans, unevenness
from deepforcing.yuv import BT709, LIMITED, SMPTE170M, SRGB, Frames, frame_to_rgb, rgb_to_planes

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer
    from torch import Tensor

_X264 = {
    "crf": "12",
    "preset": "veryfast",
    # chromaloc=1: a chroma sample sits in the middle of its 2 x 2 pixels, where the average below puts it.
    "x264-params": "psy=0:aq-mode=0:mbtree=0:chromaloc=1",
}


# The only containers that are opened, whatever a file is called: FFmpeg reads lists of other files too (ffconcat, playlists),
# so that somebody else's "video" would show any file of this machine.
CONTAINERS = {"format_whitelist": "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi"}
NO_VIDEO = "{} is no mp4, mov, mkv, webm or avi, whatever its name says"


class VideoInfo(NamedTuple):
    """What a file says of itself. fps: frames a second; width, height: pixels."""

    frames: int
    fps: float
    width: int
    height: int


class VideoWriter:
    """Stream RGB frames into an H.264 mp4, chunk by chunk; the file appears under its name only when it is whole.

    path: ends in .mp4, in a directory that exists. width, height: pixels of the frames given to `write`. fps: frames a
    second. pixel_scale: every pixel is written as pixel_scale x pixel_scale pixels.

        with VideoWriter(path, 832, 480, fps=16) as video:
            for chunk in chunks:
                video.write(chunk)

    Inside the block frames go to `<stem>.partial.mp4` beside the file, which is overwritten if a killed run left one;
    leaving the block closes, fsyncs and renames it. After an exception, in the block or here, it is removed instead.
    Equal frames give equal bytes whatever the chunking. Two writers must not share a path (see runs.RunDir.claim).

    Raises ValueError for sizes that 4:2:0 cannot hold, frames of the wrong shape or with NaN, or no frames at all, and
    OSError, naming the file, when the disk is full or not writable.
    """

    def __init__(self, path: str | Path, width: int, height: int, fps: int, pixel_scale: int = 1) -> None:
        self.path = Path(path)
        self.frames = 0
        self._partial = self.path.with_name(f"{self.path.stem}.partial{self.path.suffix}")
        self._width, self._height, self._fps, self._scale = width, height, fps, pixel_scale
        if self.path.suffix != ".mp4":
            raise ValueError(f"{self.path}: the name of a video must end in .mp4")
        for name, value in (("width", width), ("height", height), ("fps", fps), ("pixel_scale", pixel_scale)):
            if type(value) is not int or value < 1:
                raise ValueError(f"{name}={value!r} must be a whole number of at least 1")
        for name, value in (("width", width), ("height", height)):
            if value * pixel_scale % 2:
                raise ValueError(
                    f"{name} {value} x pixel_scale {pixel_scale} = {value * pixel_scale} pixels is odd, "
                    "H.264 in yuv420p needs even sizes; use an even pixel_scale or an even size"
                )

    def __enter__(self) -> VideoWriter:
        try:
            self._file = _File(self._partial)
        except OSError as error:
            raise _cannot_write(self.path, error) from error
        try:
            # bitexact: no encoder version and no time in the container.
            self._container = av.open(self._file, "w", format="mp4", container_options={"fflags": "+bitexact"})
            self._stream = self._container.add_stream("libx264", rate=self._fps, options=dict(_X264))
            self._stream.width, self._stream.height = self._width * self._scale, self._height * self._scale
            self._stream.pix_fmt = "yuv420p"
            context = self._stream.codec_context
            context.thread_count = 1  # the bytes depend on the number of threads
            context.color_range, context.colorspace = LIMITED, SMPTE170M
            context.color_primaries, context.color_trc = BT709, SRGB
        except BaseException:
            self._discard()
            raise
        return self

    def write(self, frames: Tensor | Frames) -> None:
        """Append frames: a float tensor [N, 3, H, W] in 0..1 (clipped to it) or a uint8 array [N, H, W, 3]."""
        rgb = self._to_uint8(frames)
        try:
            for planes in rgb_to_planes(rgb, self._scale):
                frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
                frame.pts = self.frames
                self._container.mux(self._stream.encode(frame))
                self.frames += 1
        except (OSError, av.error.FFmpegError) as error:
            raise self._fault(error) from error

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None:
            self._discard()
            return
        try:
            if not self.frames:
                raise ValueError(f"{self.path}: no frames were written")
            self._container.mux(self._stream.encode(None))
            self._container.close()
            self._file.finish()
            os.replace(self._partial, self.path)
            sync_directory(self.path.parent)
        except (OSError, av.error.FFmpegError) as fault:
            self._discard()
            raise self._fault(fault) from fault
        except BaseException:
            self._discard()
            raise

    def _to_uint8(self, frames: Tensor | Frames) -> Frames:
        if isinstance(frames, np.ndarray):
            expected: tuple[int, ...] = (self._height, self._width, 3)
            if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != expected:
                raise ValueError(
                    f"frames are {frames.dtype} {frames.shape}, expected uint8 [N, H, W, 3] = (N, *{expected})"
                )
            return frames
        expected = (3, self._height, self._width)
        if not frames.is_floating_point() or frames.ndim != 4 or tuple(frames.shape[1:]) != expected:
            raise ValueError(
                f"frames are {frames.dtype} {tuple(frames.shape)}, expected floats [N, 3, H, W] = (N, *{expected})"
            )
        from deepforcing.frames import finite, levels

        if frames.numel() and not bool(finite(frames)):
            raise ValueError(
                f"NaN or Inf in frames {self.frames} to {self.frames + len(frames) - 1} of {self.path.name}"
            )
        array: Frames = levels(frames).cpu().numpy()
        return array

    def _fault(self, error: Exception) -> OSError:
        # FFmpeg reports a failed write as it likes, or late; the file knows what the system said first.
        return _cannot_write(self.path, self._file.error or error)

    def _discard(self) -> None:
        self._file.discard()
        if hasattr(self, "_container"):
            with contextlib.suppress(Exception):  # the fault that led here is the one to report
                self._container.close()
        with contextlib.suppress(OSError):
            self._partial.unlink(missing_ok=True)


def probe(path: str | Path) -> VideoInfo:
    """Frame count, frame rate and size from the file's header; frames are counted where it has no count (mkv, webm).

    Raises ValueError, naming the file, if it is no video, and if its frames had to be counted and end before it does.
    """
    with _opened(path) as container:
        stream = _stream(path, container)
        frames = stream.frames
        if not frames:
            shown, told = spans(container, stream), duration(container, stream)
            frames, end = len(shown), max((stop for _, stop in shown), default=0.0)
            if frames and end < told - (end - shown[0][0]) / frames / 2:
                raise ValueError(
                    f"{path} is damaged: its frames end at {end:.2f} s, and it says that it has {told:.2f} s"
                )
        return VideoInfo(frames, float(stream.average_rate or 0), stream.width, stream.height)


def uneven(path: str | Path) -> str | None:
    """How the times at which a file shows its frames differ from its frame rate, see frame_times.unevenness.

    Only the times of packets are read, nothing is decoded. Raises ValueError as `iter_decoded` does.
    """
    with _opened(path) as container:
        stream = _stream(path, container)
        starts = [start for start, _ in spans(container, stream)]
        return unevenness(starts, float(stream.average_rate or 0))


def iter_decoded(path: str | Path) -> Iterator[av.VideoFrame]:
    """The frames as they are coded, one by one, from one pass over the file.

    Raises ValueError, naming the file, when it is missing, not a video, corrupt, or ends before its last frame.
    """
    with _opened(path) as container:
        stream = _stream(path, container)
        count = hidden = 0
        for packet in container.demux(stream):
            hidden += packet.is_discard
            for frame in packet.decode():
                if frame.is_corrupt:
                    raise ValueError(f"{path} is damaged: parts of frame {count} are missing")
                count += 1
                yield frame
        if count and hidden and count + hidden == stream.frames:
            raise ValueError(
                f"{path} was cut without being encoded anew: its edit list hides {hidden} of its {stream.frames} frames, "
                "which readers treat differently; encode it once more"
            )
        if count == 0 or count < stream.frames:
            raise ValueError(f"{path} is damaged: {count} of its {stream.frames} frames can be decoded")


def iter_frames(path: str | Path, batch: int = 16) -> Iterator[Frames]:
    """Decode a video once, yielding uint8 [up to batch, H, W, 3]: memory does not grow with length.

    Raises ValueError as iter_decoded does.
    """
    if batch < 1:
        raise ValueError(f"batch={batch} must be at least 1")
    frames: list[Frames] = []
    for frame in iter_decoded(path):
        frames.append(frame_to_rgb(frame))
        if len(frames) == batch:
            yield np.stack(frames)
            frames = []
    if frames:
        yield np.stack(frames)


def read_video(path: str | Path) -> tuple[Frames, float]:
    """All frames, uint8 [N, H, W, 3], and frames a second. Raises ValueError as iter_frames does."""
    info = probe(path)
    return np.concatenate(list(iter_frames(path, batch=256))), info.fps


def sha256_file(path: str | Path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_directory(path: Path) -> None:
    """Make renames in a directory last through a power cut, on file systems that can."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems cannot, and lose nothing by it
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


class _File:
    """The file under the muxer. Remembers the first error: FFmpeg does not always pass it on."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "wb")  # noqa: SIM115 (closed by finish or discard)
        self._discarded = False
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        if self._discarded:  # closing a muxer writes the index: of a file that goes away, for nothing
            return len(data)
        try:
            return self._file.write(data)
        except OSError as error:
            self.error = self.error or error
            raise

    def seek(self, offset: int, whence: int = 0) -> int:
        return 0 if self._discarded else self._file.seek(offset, whence)

    def tell(self) -> int:
        return 0 if self._discarded else self._file.tell()

    def finish(self) -> None:
        """Everything on the disk, or an OSError."""
        if self.error:
            raise self.error
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()

    def discard(self) -> None:
        self._discarded = True
        with contextlib.suppress(OSError):  # what is still buffered may not fit the disk
            self._file.close()


def _cannot_write(path: Path, error: Exception) -> OSError:
    number = getattr(error, "errno", None)
    reason = getattr(error, "strerror", None) or str(error)
    return OSError(number, f"cannot write the video: {reason}", str(path))


@contextlib.contextmanager
def _opened(path: str | Path) -> Iterator[InputContainer]:
    """Open for reading and turn every fault of the file, then and later, into a ValueError that names it."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"{path} is not there" if not path.exists() else f"{path} is not a file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    try:
        with av.open(str(path.absolute()), container_options=CONTAINERS) as container:
            yield container
    except av.error.ArgumentError as error:
        raise ValueError(NO_VIDEO.format(path)) from error
    except av.error.FFmpegError as error:
        raise ValueError(f"{path} cannot be decoded as a video: {error.strerror}") from error


def _stream(path: str | Path, container: InputContainer) -> VideoStream:
    """The video itself, not the picture on the cover. Raises ValueError if there is none that can be decoded."""
    stream = container.streams.best("video")
    if stream is None or not isinstance(stream, av.VideoStream):
        raise ValueError(f"{path} has no video stream")
    if stream.codec_context is None or not stream.width:
        raise ValueError(
            f"{path} has a video stream that cannot be decoded here (its codec is unknown, or it is damaged)"
        )
    return stream
