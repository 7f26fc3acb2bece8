"""Video files as other programs make them: other containers, codecs and frame times, a cover, sound beside the picture."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

CODECS = {
    ".mp4": "libx264",
    ".m4v": "libx264",
    ".mov": "libx264",
    ".mkv": "libx264",
    ".webm": "libvpx",
    ".avi": "mpeg4",
    ".gif": "gif",
}


def moving(frames: int, height: int = 48, width: int = 64, seed: int = 0) -> NDArray[np.uint8]:
    """Coloured blocks that go round, uint8 [N, H, W, 3]."""
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8, width // 8, 3), dtype=np.uint8)
    picture = blocks.repeat(8, 0).repeat(8, 1)
    return np.stack([np.roll(picture, t, axis=1) for t in range(frames)])


def write_video(
    path: Path,
    frames: NDArray[np.uint8],
    fps: int = 16,
    codec: str | None = None,
    milliseconds: Sequence[int] | None = None,
    cover: bool = False,
) -> Path:
    """milliseconds: when each frame is shown; index / fps if None. cover: a picture as a stream of its own comes first."""
    clock = Fraction(1, fps) if milliseconds is None else Fraction(1, 1000)
    with av.open(str(path), "w") as container:
        if cover:
            picture = container.add_stream("mjpeg", rate=1)
            picture.width, picture.height, picture.pix_fmt = 16, 16, "yuvj420p"
            picture.disposition = av.stream.Disposition.attached_pic
        codec = codec or CODECS[path.suffix]
        stream = container.add_stream(codec, rate=fps, options={"crf": "12"} if codec == "libx264" else {})
        stream.height, stream.width = frames.shape[1:3]
        stream.pix_fmt = "rgb8" if codec == "gif" else "yuv420p"
        stream.codec_context.time_base = clock
        if cover:
            thumb = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24").reformat(
                format="yuvj420p"
            )
            container.mux(picture.encode(thumb))
            container.mux(picture.encode(None))
        for index, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24")
            frame.pts, frame.time_base = index if milliseconds is None else milliseconds[index], clock
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def packed(source: Path, path: Path) -> Path:
    """The very same coded frames in another container."""
    with av.open(str(source)) as read, av.open(str(path), "w") as container:
        stream = container.add_stream_from_template(read.streams.video[0])
        for packet in read.demux(read.streams.video[0]):
            if packet.dts is not None:
                packet.stream = stream
                container.mux(packet)
    return path
