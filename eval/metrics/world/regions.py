"""Finding coloured regions in frames of the embedded worlds. n frames of Y x X decoded pixels."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from deepforcing.tiny.sprites import pixel_centres
from eval.measure.metric import ClipInfo
from eval.measure.watch import Frame
from eval.measure.windows import FloatArray

BLOCK = 64  # frames that are looked at together


def check_size(info: ClipInfo, world: str, height: int, width: int) -> None:
    """Raises ValueError if the decoded frames are not the world's size."""
    size = (info.height // info.pixel_scale, info.width // info.pixel_scale)
    if size != (height, width):
        raise ValueError(f"decoded frames are {size} pixels; the {world} world's are {height} x {width}")


def pooled(frame: Frame) -> NDArray[np.uint64]:
    """Sums over the pixels of the file that are one decoded pixel, [Y, X, 3] of 0..255 * pixel_scale^2."""
    scale = frame.pixel_scale
    height, width = frame.rgb.shape[0] // scale, frame.rgb.shape[1] // scale
    rows = frame.rgb.reshape(height, scale, width * scale * 3).sum(1, dtype=np.uint32)
    return np.asarray(rows.reshape(height, width, scale, 3).sum(2, dtype=np.uint64))


class Blocks(ABC):
    """Looks at a video's frames BLOCK at a time; what it keeps of a frame is a few numbers."""

    def __init__(self) -> None:
        self._waiting: list[NDArray[np.uint64]] = []
        self._found: list[tuple[NDArray[np.generic], ...]] = []

    def __call__(self, frame: Frame) -> None:
        self._waiting.append(pooled(frame))
        if len(self._waiting) == BLOCK:
            self._look_at_waiting()

    @abstractmethod
    def look(self, sums: NDArray[np.uint64]) -> tuple[NDArray[np.generic], ...]:
        """What is found in a few frames, `pooled` [n, Y, X, 3]: arrays whose first axis is n."""

    def found(self) -> list[Any]:
        """The arrays that `look` found, of all frames [N, ...]."""
        if self._waiting:
            self._look_at_waiting()
        return [np.concatenate(parts) for parts in zip(*self._found, strict=True)]

    def _look_at_waiting(self) -> None:
        sums, self._waiting = np.stack(self._waiting), []
        self._found.append(self.look(sums))


def stacked(masks: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """[n, Y, X] as one tall image with an empty row below each frame: one OpenCV call serves all frames."""
    return np.pad(masks, ((0, 0), (0, 1), (0, 0))).reshape(-1, masks.shape[2]).astype(np.uint8)


def unstacked(tall: NDArray[np.integer[Any]], like: NDArray[np.bool_]) -> NDArray[np.integer[Any]]:
    _, height, width = like.shape
    return tall.reshape(-1, height + 1, width)[:, :height]


def grow(masks: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Masks grown by one pixel to all eight sides, [n, Y, X]."""
    grown = np.asarray(cv2.dilate(stacked(masks), np.ones((3, 3), np.uint8)), np.uint8)
    return np.asarray(unstacked(grown, masks) > 0)


def largest_region(masks: NDArray[np.bool_], weights: FloatArray) -> NDArray[np.bool_]:
    """In each frame the connected region of largest total weight; all False where a mask is empty. [n, Y, X]."""
    count, labels = cv2.connectedComponents(stacked(masks), connectivity=8)
    label = unstacked(np.asarray(labels), masks)
    totals = np.bincount(label.ravel(), weights=np.where(masks, weights, 0).ravel(), minlength=count)
    best = totals[label].max((1, 2))  # weights are positive inside a mask, and label 0 (outside) totals 0
    return np.asarray(masks & (totals[label] == best[:, None, None]))


def shape_correlations(
    coverage: FloatArray,
    x: FloatArray,
    y: FloatArray,
    shape_mask: Callable[[int, Tensor, Tensor], Tensor],
    shapes: int,
    reach: float,
) -> FloatArray:
    """Pearson correlation of each coverage [n, Y, X] with each shape drawn at its centre, x, y [n]: [n, shapes].

    shape_mask: the world's, of shape 0 .. shapes - 1 at dx, dy. reach: pixels from the centre that are compared.
    """
    column, row = pixel_centres(*coverage.shape[1:])
    dx = column - torch.from_numpy(np.asarray(x, dtype=np.float32))[:, None, None]
    dy = row - torch.from_numpy(np.asarray(y, dtype=np.float32))[:, None, None]
    near = ((dx**2 + dy**2).sqrt() <= reach).numpy()
    count = np.maximum(near.sum((1, 2)), 1)

    def centred(picture: FloatArray) -> FloatArray:
        mean = np.where(near, picture, 0).sum((1, 2)) / count
        return np.where(near, picture - mean[:, None, None], 0)

    found = centred(coverage)
    columns = []
    for shape in range(shapes):
        drawn = centred(shape_mask(shape, dx, dy).numpy())
        norm = np.sqrt((found**2).sum((1, 2)) * (drawn**2).sum((1, 2)))
        columns.append(np.divide((found * drawn).sum((1, 2)), norm, out=np.full(len(norm), np.nan), where=norm > 0))
    return np.stack(columns, -1)


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


def hue_distance(a: FloatArray, b: FloatArray) -> FloatArray:
    """Distance round the circle of two hues, turns in 0..0.5."""
    return np.asarray(np.abs((a - b + 0.5) % 1 - 0.5))
