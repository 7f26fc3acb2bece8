"""Finding the embedded world's sprite in a video, frame by frame, without knowing its caption.

The world's texture is grey and its sprites are colourful, so the sprite is looked for in chroma (a colour minus its
mean over R, G, B): a pixel's contrast is its chroma distance from the frame's median chroma. N frames of SIZE x SIZE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from deepforcing.tiny.sprites import HUES
from deepforcing.tiny.world import RING, SHAPES, SIZE, angular_speed, parse_caption, shape_mask
from eval.measure.metric import ClipInfo
from eval.measure.watch import Clip
from eval.measure.windows import FloatArray
from eval.metrics.world.regions import Blocks, check_size, grow, hue, hue_distance, largest_region, shape_correlations

MIN_CONTRAST = 0.12  # about half of the faintest sprite that the world draws (0.26)
CORE = 0.4  # a sprite's pixels have at least this share of the frame's highest contrast
PURE = 0.9  # pixels with this share of the sprite's highest contrast show its colour unmixed
AREA = (14.0, 64.0)  # pixels covered: half of the smallest (cross, 28) to twice the largest shape (disc, 32)
REACH = 5.0  # pixels from the sprite's centre that are compared with a shape
MIN_RADIUS = 0.25 * RING  # nearer to the middle than this, the angle is not defined


@dataclass(frozen=True)
class Sprite:
    """What was found in each frame. The sprite is the connected region (8 neighbours) with the largest total contrast.

    seen: bool [N], there is one of plausible area; the other fields are NaN where it is False. rgb: [N, 3] its unmixed
    colour, 0..1. x, y: [N] centre of its coverage, pixels. match: [N, 3], Pearson correlation of its coverage with each of
    the world's shapes drawn at its centre.

    Of pixels that no sprite and no other coloured thing touches, over each `grain` frames (the last ones may be fewer):
    background: [N / grain, SIZE, SIZE, 3] sum of their values, of 0..`white`; times: [N / grain, SIZE, SIZE] in how many
    frames they are such.
    """

    seen: NDArray[np.bool_]
    rgb: FloatArray
    x: FloatArray
    y: FloatArray
    match: FloatArray
    background: NDArray[np.unsignedinteger]
    times: NDArray[np.unsignedinteger]
    white: int

    @property
    def angle(self) -> FloatArray:
        """[N] radians around the middle, 0 right, growing clockwise on the screen; NaN near the middle."""
        dx, dy = self.x - SIZE / 2, self.y - SIZE / 2
        return np.where(np.hypot(dx, dy) >= MIN_RADIUS, np.arctan2(dy, dx), np.nan)

    @property
    def hue(self) -> FloatArray:
        """[N] HSV hue of its colour, turns in 0..1."""
        return hue(self.rgb)


class TinySprite(Blocks):
    """Looks for the sprite in a video's frames.

    Raises ValueError if the decoded frames are not the world's size.
    """

    def __init__(self, info: ClipInfo) -> None:
        super().__init__()
        self._scale, self._grain = info.pixel_scale, info.grain
        check_size(info, "tiny", SIZE, SIZE)
        self._frames = 0
        self._background: list[NDArray[np.unsignedinteger]] = []
        self._times: list[NDArray[np.unsignedinteger]] = []
        self._kinds = np.min_scalar_type(self._white * self._grain), np.min_scalar_type(self._grain)

    def look(self, sums: NDArray[np.uint64]) -> Located:
        found, untouched = located((sums / np.float32(self._white)).astype(np.float32))
        for values, mask in zip(sums.astype(self._kinds[0]), untouched, strict=True):
            if self._frames % self._grain == 0:
                self._background.append(np.zeros_like(values))
                self._times.append(np.zeros(mask.shape, self._kinds[1]))
            self._background[-1] += np.where(mask[..., None], values, values.dtype.type(0))
            self._times[-1] += mask
            self._frames += 1
        return found

    @property
    def _white(self) -> int:
        return 255 * self._scale**2

    def finish(self) -> Sprite:
        seen, rgb, x, y, match = self.found()
        background, times = np.stack(self._background), np.stack(self._times)
        return Sprite(seen, rgb, x, y, match, background, times, self._white)


def find_sprite(clip: Clip) -> Sprite:
    """The sprite in every frame. Raises ValueError if the decoded frames are not the world's size."""
    found: Sprite = clip.observed(TinySprite)
    return found


class Located(NamedTuple):
    """The fields of Sprite of the same names."""

    seen: NDArray[np.bool_]
    rgb: FloatArray
    x: FloatArray
    y: FloatArray
    match: FloatArray


def located(frames: NDArray[np.float32]) -> tuple[Located, NDArray[np.bool_]]:
    """The sprite in each of a few frames [n, SIZE, SIZE, 3] of 0..1, and where nothing coloured is, bool [n, SIZE, SIZE].

    Its coverage, 0..1, is the share of each pixel that it covers: the projection of the pixel's chroma on the line from
    background to sprite.
    """
    n = len(frames)
    chroma = frames - frames.mean(-1, keepdims=True)
    offset = chroma - np.median(chroma.reshape(n, -1, 3), axis=1)[:, None, None]
    contrast = np.sqrt((offset**2).sum(-1))
    core = contrast >= np.maximum(MIN_CONTRAST, CORE * contrast.max((1, 2)))[:, None, None]
    region = largest_region(core, contrast)
    peak = np.where(region, contrast, 0).max((1, 2))
    pure = region & (contrast >= PURE * peak[:, None, None])
    pixels = np.maximum(pure.sum((1, 2)), 1)[:, None]
    rgb = np.where(pure[..., None], frames, 0).sum((1, 2)) / pixels
    direction = np.where(pure[..., None], offset, 0).sum((1, 2)) / pixels
    length = np.maximum((direction**2).sum(-1), 1e-12)
    coverage = np.einsum("nyxc,nc->nyx", offset, direction) / length[:, None, None]
    coverage = np.where(grow(region), coverage.clip(0, 1), 0)
    area = coverage.sum((1, 2))
    seen = (area >= AREA[0]) & (area <= AREA[1])
    axis = np.arange(SIZE) + 0.5
    weight = np.where(seen, area, np.nan)
    x, y = coverage.sum(1) @ axis / weight, coverage.sum(2) @ axis / weight
    found = Located(
        seen=seen,
        rgb=np.where(seen[:, None], rgb, np.nan),
        x=x,
        y=y,
        match=np.where(seen[:, None], shape_correlations(coverage, x, y, shape_mask, len(SHAPES), REACH), np.nan),
    )
    return found, ~grow(core)


def hue_error(clip: Clip) -> FloatArray:
    """[N] distance of the sprite's hue from the hue that the caption names, turns in 0..0.5; NaN without a sprite."""
    return hue_distance(find_sprite(clip).hue, np.asarray(HUES[parse_caption(clip.info.caption)[1]]))


def caption_speed(prompt: str) -> float:
    """Radians a frame that the caption's sprite turns by, positive clockwise on the screen."""
    return float(angular_speed(torch.tensor([parse_caption(prompt)])))
