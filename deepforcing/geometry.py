"""Sizes: resolution, frame rate, strides -> tokens per latent frame, frames <-> seconds, chunks.

The only home of numbers such as 1560 tokens per latent frame: they follow from here and are typed nowhere else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from deepforcing.limits import LONGEST_SECONDS, within


@dataclass(frozen=True)
class Geometry:
    """Shape of one video in pixels, latents and tokens.

    height, width: pixels of a decoded frame. fps: pixel frames per second. spatial_stride, temporal_stride: of the
    codec (Wan VAE: 8 and 4). patch: latent pixels per token along height and width. latent_channels: of one latent.
    n latent frames decode to temporal_stride * (n - 1) + 1 pixel frames: the first latent frame stands alone.
    """

    height: int = 480
    width: int = 832
    fps: int = 16
    spatial_stride: int = 8
    temporal_stride: int = 4
    patch: int = 2
    latent_channels: int = 16

    def __post_init__(self) -> None:
        within(1, 64, spatial_stride=self.spatial_stride, temporal_stride=self.temporal_stride, patch=self.patch)
        within(1, 1024, latent_channels=self.latent_channels)
        within(1, 240, fps=self.fps)
        unit = self.spatial_stride * self.patch
        for name, size in (("height", self.height), ("width", self.width)):
            if size <= 0 or size % unit:
                low = max(unit, size // unit * unit)
                raise ValueError(
                    f"{name}={size} is not a positive multiple of {unit} pixels; try {low} or {low + unit}"
                )
        within(unit, 8192, height=self.height, width=self.width)

    @property
    def latent_height(self) -> int:
        return self.height // self.spatial_stride

    @property
    def latent_width(self) -> int:
        return self.width // self.spatial_stride

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of tokens in one latent frame."""
        return self.latent_height // self.patch, self.latent_width // self.patch

    @property
    def tokens_per_frame(self) -> int:
        rows, columns = self.grid
        return rows * columns

    def pixel_frames(self, latent_frames: int) -> int:
        return self.temporal_stride * (latent_frames - 1) + 1

    def seconds(self, latent_frames: int) -> float:
        return self.pixel_frames(latent_frames) / self.fps

    def latent_frames(self, seconds: float, chunk_frames: int) -> int:
        """Latent frames of the whole chunks that come nearest to `seconds`, at least one chunk.

        The field's convention: "5 s" is 21 latent frames (5.06 s), "60 s" is 240 (59.8 s).
        """
        if not seconds > 0 or not math.isfinite(seconds):
            raise ValueError(f"seconds={seconds} must be a positive number")
        if seconds > LONGEST_SECONDS:
            raise ValueError(f"seconds={seconds:g} must be at most {LONGEST_SECONDS}, a day")
        exact = (seconds * self.fps - 1) / self.temporal_stride + 1
        return max(1, round(exact / chunk_frames)) * chunk_frames
