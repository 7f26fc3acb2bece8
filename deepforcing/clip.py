"""The image or clip that a video begins with: read, and checked against what the video will be, before weights are.

An image is one latent frame, a clip of 4(n-1)+1 frames is n, and a video can begin with whole chunks of them. Nothing is
resized, cut or converted to another frame rate: a file that does not fit is refused with what would.
"""

from __future__ import annotations

import contextlib
import mmap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import av
import numpy as np

from deepforcing.frame_times import unevenness
from deepforcing.generator import GeneratorSpec
from deepforcing.video import sha256_file
from deepforcing.yuv import Frames, frame_to_rgb

if TYPE_CHECKING:
    from av.container import InputContainer

IMAGES = ("png_pipe", "jpeg_pipe")  # FFmpeg's names of formats, found from the content, whatever the file is called
ANIMATED = ("apng", "gif")
PIXELS = ("rgb24", "gbrp", "yuv420p", "yuv422p", "yuv444p", "yuvj420p", "yuvj422p", "yuvj444p")  # 8 bits, three colours
UNEVEN = 2  # levels by which an enlarged pixel's parts may differ from their mean; H.264 leaves 0.1, 0.9 of pure noise
UNREADABLE = "start_from={} cannot be read as an image or a video: {}"


@dataclass(frozen=True, eq=False)
class Clip:
    """A video's given beginning. frames: uint8 [4(n-1)+1, H, W, 3], the model's own pixels. sha256: the file's."""

    name: str
    sha256: str
    frames: Frames
    latent_frames: int

    def of(self, sample: str) -> dict[str, Any]:
        """What the sample's record says of its beginning."""
        return {
            "file": self.name,
            "sha256": self.sha256,
            "frames": len(self.frames),
            "latent_frames": self.latent_frames,
        }


def read_clip(path: str | Path, spec: GeneratorSpec, total_frames: int) -> Clip:
    """Read a png, jpg or mp4 for a video of `total_frames` latent frames to begin with.

    Raises ValueError, in one line that says what would be right, for a generator that cannot begin with given frames, a
    file that is missing, damaged or nothing of the kind, and for another size, frame rate or length than fits.
    """
    path = Path(path).expanduser()
    spec.check_start()
    if not path.is_file():
        raise ValueError(f"start_from={path} is not there" if not path.exists() else f"start_from={path} is not a file")
    if path.stat().st_size == 0:
        raise ValueError(f"start_from={path} is empty")
    with _opened(path) as container:
        frames = _check_header(path, container, spec)
    latent_frames = check_length(f"start_from={path}", frames, spec, total_frames)
    pixels = np.empty((frames, spec.model.geometry.height, spec.model.geometry.width, 3), np.uint8)
    times: list[float] = []
    with _opened(path) as container:
        for frame in container.decode(video=0):
            if len(times) < frames:
                pixels[len(times)] = _pixels(path, frame, spec.model.pixel_scale)
            times.append(frame.time or 0.0)
    if len(times) != frames:
        raise ValueError(f"start_from={path} is damaged: it announces {frames} frames and holds {len(times)}")
    if fault := unevenness(times, spec.model.geometry.fps):
        raise ValueError(
            f"start_from={path} has no even frame rate ({fault}), the model makes {spec.model.geometry.fps} frames a second: "
            f"convert it first, for example with ffmpeg -i {path.name} -vf fps={spec.model.geometry.fps} OUT.mp4"
        )
    return Clip(path.name, sha256_file(path), pixels, latent_frames)


def check_length(what: str, frames: int, spec: GeneratorSpec, total_frames: int) -> int:
    """Latent frames of `frames` pixel frames. Raises ValueError unless they are whole chunks, fewer than the video's."""
    g, chunk = spec.model.geometry, spec.chunk_frames
    period, shortest = g.temporal_stride * chunk, g.pixel_frames(chunk)
    if frames < shortest or (frames - shortest) % period:
        fit = ", ".join(str(shortest + i * period) for i in range(4))
        says = "is a single frame" if frames == 1 else f"has {frames} frames"
        below = frames - (frames - shortest) % period
        advice = f"cut it, for example to its last {below}" if frames > shortest else ""
        if frames == 1:
            advice = "an image starts a frame-wise generator, such as causal_forcing_framewise"
        raise ValueError(
            f"{what} {says}, but generator {spec.name} makes chunks of {chunk} latent frames, so a clip must have "
            f"{fit} ... frames{f': {advice}' if advice else ''}"
        )
    latent_frames = (frames - 1) // g.temporal_stride + 1
    if latent_frames >= total_frames:
        enough = g.seconds(latent_frames + chunk)
        raise ValueError(
            f"{what} lasts {g.seconds(latent_frames):.2f} s, and the video that begins with it is to last "
            f"{g.seconds(total_frames):.2f} s in all: ask for at least seconds={enough:.2f}"
        )
    return latent_frames


def _check_header(path: Path, container: InputContainer, spec: GeneratorSpec) -> int:
    """Format, size and frame rate; returns the number of frames that the file announces. Raises ValueError."""
    g, scale, kind = spec.model.geometry, spec.model.pixel_scale, container.format.name
    if kind in ANIMATED:
        raise ValueError(f"start_from={path} is an animated image ({kind}): give one png or jpg image, or an mp4")
    if kind not in IMAGES and "mp4" not in kind.split(","):
        raise ValueError(f"start_from={path} is neither a png, a jpg nor an mp4 (its format is {kind}): convert it")
    if not container.streams.video:
        raise ValueError(f"start_from={path} has no video stream")
    stream = container.streams.video[0]
    if not stream.width:  # FFmpeg knew the format and could not decode the picture
        raise ValueError(UNREADABLE.format(path, "invalid data"))
    if (stream.height, stream.width) != (g.height * scale, g.width * scale):
        blocks = f", every pixel as {scale} x {scale}, as its own videos are written" if scale > 1 else ""
        raise ValueError(
            f"start_from={path} is {stream.width} x {stream.height} pixels (width x height), model {spec.model.name} takes "
            f"{g.width * scale} x {g.height * scale}{blocks}: resize or crop it first"
        )
    if kind in IMAGES:
        return 1
    fps = float(stream.average_rate or 0)
    if abs(fps - g.fps) > 0.01:
        raise ValueError(
            f"start_from={path} has {fps:g} frames a second, the model makes {g.fps}: convert it first, for example "
            f"with ffmpeg -i {path.name} -r {g.fps} OUT.mp4"
        )
    return stream.frames or sum(1 for packet in container.demux(stream) if packet.size)


def _pixels(path: Path, frame: av.VideoFrame, scale: int) -> Frames:
    """uint8 [H, W, 3]; every scale x scale block as its mean. Raises ValueError for what would not be the picture shown."""
    name = frame.format.name
    if name not in PIXELS:
        raise ValueError(
            f"start_from={path} holds {name} pixels (grey, transparency, palettes and more than 8 bits are not taken): "
            "save it as plain 8-bit RGB"
        )
    if frame.rotation:
        raise ValueError(f"start_from={path} is to be shown turned by {frame.rotation} degrees: save it upright")
    rgb = frame_to_rgb(frame)
    if scale == 1:
        return rgb
    height, width = rgb.shape[0] // scale, rgb.shape[1] // scale
    blocks = rgb.reshape(height, scale, width, scale, 3).astype(np.float32)
    means = blocks.mean((1, 3), keepdims=True)
    uneven = float(np.abs(blocks - means).mean())
    if uneven > UNEVEN:
        raise ValueError(
            f"start_from={path} has more detail than the model: it must show {width} x {height} pixels, each as {scale} x "
            f"{scale} equal ones (they differ by {uneven:.1f} levels of 255)"
        )
    pooled: Frames = np.rint(means[:, 0, :, 0]).astype(np.uint8)
    return pooled


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    """The file's content, decoded strictly: by default FFmpeg fills what is damaged with grey or with its neighbours.

    A map instead of the file, because it has no name: FFmpeg would go by it, and see patterns in it.
    """
    try:
        with (
            open(path, "rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
            av.open(content, "r") as container,
        ):
            for stream in container.streams.video:
                stream.codec_context.options = {"err_detect": "explode+crccheck+bitstream+buffer"}
            yield container
    except av.error.FFmpegError as error:
        raise ValueError(UNREADABLE.format(path, error.strerror)) from error
