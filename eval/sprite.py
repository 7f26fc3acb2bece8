"""Finding the embedded world's sprite in a video, frame by frame, without knowing its caption.

The world's texture is grey and its sprites are colourful, so the sprite is looked for in chroma (a colour minus its
mean over R, G, B): a pixel's contrast is its chroma distance from the frame's median chroma. N frames of SIZE x SIZE.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from deepforcing.tiny.world import HUES, RING, SIZE, angular_speed, parse_caption
from eval.metric import Clip, FloatArray, Frame, Look, Video

MIN_CONTRAST = 0.12  # about half of the faintest sprite that the world draws (0.26)
CORE = 0.4  # a sprite's pixels have at least this share of the frame's highest contrast
PURE = 0.9  # pixels with this share of the sprite's highest contrast show its colour unmixed
AREA = (14.0, 64.0)  # pixels covered: half of the smallest (cross, 28) to twice the largest shape (disc, 32)
MIN_RADIUS = 0.25 * RING  # nearer to the middle than this, the angle is not defined


@dataclass(frozen=True)
class Sprite:
    """What was found in each frame. The sprite is the connected region (8 neighbours) with the largest total contrast.

    seen: bool [N], there is one of plausible area; the other fields are NaN where it is False, `coverage` is 0 there.
    rgb: [N, 3] its unmixed colour, 0..1. x, y: [N] centre of its coverage, pixels. coverage: [N, SIZE, SIZE], 0..1, the
    share of each pixel that it covers (projection of the pixel's chroma on the line from background to sprite).
    background: bool [N, SIZE, SIZE], pixels that no sprite and no other coloured thing touches, in every frame.
    """

    seen: NDArray[np.bool_]
    rgb: FloatArray
    x: FloatArray
    y: FloatArray
    coverage: FloatArray
    background: NDArray[np.bool_]

    @property
    def angle(self) -> FloatArray:
        """[N] radians around the middle, 0 right, growing clockwise on the screen; NaN near the middle."""
        dx, dy = self.x - SIZE / 2, self.y - SIZE / 2
        return np.where(np.hypot(dx, dy) >= MIN_RADIUS, np.arctan2(dy, dx), np.nan)

    @property
    def hue(self) -> FloatArray:
        """[N] HSV hue of its colour, turns in 0..1."""
        return hue(self.rgb)


def tiny_frames(video: Video) -> Look:
    """The frame averaged back to decoded pixels, float32 [SIZE, SIZE, 3] in 0..1.

    Raises ValueError if the decoded frames are not the world's size.
    """
    scale = video.pixel_scale
    size = (video.height // scale, video.width // scale)
    if size != (SIZE, SIZE):
        raise ValueError(f"decoded frames are {size} pixels; the tiny world's are {SIZE} x {SIZE}")

    def look(frame: Frame) -> NDArray[np.float32]:
        rows = frame.rgb.reshape(SIZE, scale, SIZE * scale * 3).sum(1, dtype=np.uint32)
        cells = rows.reshape(SIZE, SIZE, scale, 3).sum(2)
        return np.asarray(cells / np.float32(255 * scale**2), dtype=np.float32)

    return look


@functools.lru_cache(maxsize=1)
def find_sprite(clip: Clip) -> Sprite:
    """The sprite in every frame; kept for the last clip asked for, since several metrics want it.

    Raises ValueError if the decoded frames are not the world's size.
    """
    frames = clip.observed(tiny_frames)
    n = clip.frames
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
    return Sprite(
        seen=seen,
        rgb=np.where(seen[:, None], rgb, np.nan),
        x=coverage.sum(1) @ axis / weight,
        y=coverage.sum(2) @ axis / weight,
        coverage=np.where(seen[:, None, None], coverage, 0),
        background=~grow(core),
    )


def stacked(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """[N, SIZE, SIZE] as one tall image with an empty row below each frame: one OpenCV call serves all frames."""
    return np.pad(masks, ((0, 0), (0, 1), (0, 0))).reshape(-1, SIZE).astype(np.uint8)


def grow(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks grown by one pixel to all eight sides, [N, SIZE, SIZE]."""
    grown = np.asarray(cv2.dilate(stacked(masks), np.ones((3, 3), np.uint8)))
    return np.asarray(grown.reshape(-1, SIZE + 1, SIZE)[:, :SIZE] > 0)


def largest_region(masks: NDArray[np.bool_], weights: FloatArray) -> NDArray[np.bool_]:
    """In each frame the connected region of largest total weight; all False where a mask is empty. [N, SIZE, SIZE]."""
    count, labels = cv2.connectedComponents(stacked(masks), connectivity=8)
    label = np.asarray(labels).reshape(-1, SIZE + 1, SIZE)[:, :SIZE]
    totals = np.bincount(label.ravel(), weights=np.where(masks, weights, 0).ravel(), minlength=count)
    best = totals[label].max((1, 2))  # weights are positive inside a mask, and label 0 (outside) totals 0
    return np.asarray(masks & (totals[label] == best[:, None, None]))


def hue(rgb: FloatArray) -> FloatArray:
    """HSV hue in turns 0..1 of colours [..., 3]; NaN for greys."""
    high, low = rgb.max(-1), rgb.min(-1)
    spread = np.where(high > low, high - low, np.nan)
    red, green, blue = rgb[..., 0], rgb[..., 1], rgb[..., 2]
    sextant = np.where(
        high == red,
        (green - blue) / spread,
        np.where(high == green, (blue - red) / spread + 2, (red - green) / spread + 4),
    )
    return np.asarray(sextant / 6 % 1)


def hue_error(clip: Clip) -> FloatArray:
    """[N] distance of the sprite's hue from the hue that the caption names, turns in 0..0.5; NaN without a sprite."""
    difference = find_sprite(clip).hue - HUES[parse_caption(clip.video.prompt)[1]]
    return np.asarray(np.abs((difference + 0.5) % 1 - 0.5))


def caption_speed(prompt: str) -> float:
    """Radians a frame that the caption's sprite turns by, positive clockwise on the screen."""
    return float(angular_speed(torch.tensor([parse_caption(prompt)])))
