"""Consecutive frames of a video on their way through the metrics, converted once however many metrics look at them.

b frames, H and W pixels of the file.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from pathlib import Path
from typing import Any, TypeVar, cast

import av
import numpy as np
import torch
from av.video.reformatter import VideoReformatter
from numpy.typing import NDArray
from torch import Tensor

from deepforcing.video import iter_decoded
from deepforcing.yuv import frame_to_rgb
from eval.measure.windows import Window
from eval.networks import backend, batches

Made = TypeVar("Made")
FRAMES = 32  # at most so many are decoded ahead: two seconds at 16 a second
CPU = 5 * 2**23  # bytes of a batch as float32: more leaves the caches of a CPU before the next metric reads it


class Batch:
    """b consecutive decoded frames. What is computed from them is kept with them, and goes when they go."""

    def __init__(self, decoded: Sequence[av.VideoFrame]) -> None:
        self._decoded = decoded
        self._kept: dict[Hashable, Any] = {}

    def __len__(self) -> int:
        return len(self._decoded)

    def kept(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """make(), once: the second metric that asks under the same key gets what the first one got."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast(Made, self._kept[key])

    @property
    def colours(self) -> NDArray[np.uint8]:
        """uint8 [b, H, W, 3] RGB by deepforcing.yuv, exact to the rounding: what the weight-free metrics measure."""
        return self.kept("colours", lambda: np.stack([frame_to_rgb(frame) for frame in self._decoded]))

    def colour(self, index: int) -> NDArray[np.uint8]:
        """One of `colours`, for those that look at few."""
        return self.kept(("colour", index), lambda: frame_to_rgb(self._decoded[index]))

    @property
    def frames(self) -> NDArray[np.uint8]:
        """uint8 [b, H, W, 3] RGB as FFmpeg converts it: the very bytes that decord and OpenCV give VBench."""

        def convert() -> NDArray[np.uint8]:
            reformat = VideoReformatter().reformat  # one for all: to set it up costs as much as a small frame
            return np.stack([np.asarray(reformat(f, format="rgb24").to_ndarray(), np.uint8) for f in self._decoded])

        return self.kept("frames", convert)

    def bytes_on(self, device: torch.device) -> Tensor:
        """`frames` as uint8 [b, 3, H, W] on a device. In memory the channels are last, as they were decoded."""
        return self.kept(("bytes", device), lambda: torch.from_numpy(self.frames).to(device).permute(0, 3, 1, 2))

    def floats_on(self, device: torch.device, layout: torch.memory_format = torch.contiguous_format) -> Tensor:
        """`frames` as float32 [b, 3, H, W] in 0..255 on a device, in a layout."""
        return self.kept(
            ("floats", device, layout), lambda: self.bytes_on(device).contiguous(memory_format=layout).float()
        )


def frames_at_once(height: int, width: int, device: torch.device) -> int:
    """The size of a batch: FRAMES on a GPU and where networks are compiled, for batches of one size; fewer on a CPU."""
    if device.type != "cpu" or backend.in_use is not None:
        return FRAMES
    return min(FRAMES, max(batches.FRAMES, CPU // (height * width * 12)))


def cut(path: Path, clips: Sequence[Window], at_once: int = FRAMES) -> Iterator[tuple[int, Batch]]:
    """A video decoded once, as batches of at most `at_once` that no clip begins or ends inside of, with their first index.

    Raises ValueError as upright_frames does.
    """
    borders = {border for clip in clips for border in (clip.start, clip.end)}
    held: list[av.VideoFrame] = []
    start = 0
    for frame in upright_frames(path):
        if held and (len(held) == at_once or start + len(held) in borders):
            yield start, Batch(held)
            start, held = start + len(held), []
        held.append(frame)
    if held:
        yield start, Batch(held)


def upright_frames(path: Path) -> Iterator[av.VideoFrame]:
    """Raises ValueError as iter_decoded does, and for a video that players turn: OpenCV and decord, which VBench reads with,
    turn it too, and its pixels here would lie on their side.
    """
    for frame in iter_decoded(path):
        if frame.rotation % 360:
            raise ValueError(f"{path} is stored turned by {frame.rotation % 360} degrees; encode it once more, upright")
        yield frame
