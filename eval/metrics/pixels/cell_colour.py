"""How far the colours have moved since the first window, place by place: what a mean over the picture cannot see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.measure.metric import ClipInfo, Value
from eval.measure.watch import Clip, Frame, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window
from eval.metrics.pixels.colour import srgb_to_lab

CELLS = 4  # a side: 16 in all


@dataclass(frozen=True)
class Cells:
    """Over each `grain` frames (the last ones may be fewer), the mean RGB of every cell, gamma-encoded, 0..255.

    colours: float32 [N / grain, cells, 3]. frames: [N / grain], how many they are the mean of.
    """

    colours: NDArray[np.float32]
    frames: NDArray[np.int_]


class CellMeans:
    """Looks at the picture cut into CELLS x CELLS equal cells, or as many as it has decoded pixels."""

    def __init__(self, info: ClipInfo) -> None:
        self._grain = info.grain
        pixels = info.width // info.pixel_scale, info.height // info.pixel_scale
        self._size = (min(CELLS, pixels[0]), min(CELLS, pixels[1]))
        self._kept = bytearray()
        self._sum, self._frames = np.zeros((self._size[0] * self._size[1], 3)), 0

    def __call__(self, frame: Frame) -> None:
        cells = cv2.resize(frame.rgb.astype(np.float32), self._size, interpolation=cv2.INTER_AREA)
        self._sum += cells.reshape(-1, 3)
        self._frames += 1
        if self._frames % self._grain == 0:
            self._keep(self._grain)

    def _keep(self, frames: int) -> None:
        self._kept += (self._sum / frames).astype(np.float32).tobytes()
        self._sum[:] = 0

    def finish(self) -> Cells:
        rest = self._frames % self._grain
        if rest:
            self._keep(rest)
        colours = np.frombuffer(bytes(self._kept), np.float32).reshape(-1, *self._sum.shape)
        frames = np.full(len(colours), self._grain)
        frames[-1] = rest or self._grain
        return Cells(colours, frames)


@dataclass(frozen=True)
class CellColour(WindowMetric):
    """Mean over 4 x 4 cells of the change of each cell's colour since the first window, in CIELAB (CIE 1976, D65).

    A cell's colour is its mean over pixels and a window's frames in gamma-encoded RGB, turned into CIELAB. The change's
    length is cell_colour_drift, Delta E; two parts of it are what people look for in long videos: cell_saturation_drift is
    the change of chroma, C* - C*_first, signed (positive: more colourful), and cell_hue_drift the length of the change of
    hue, Delta H* = 2 sqrt(C* C*_first) |sin(Delta h / 2)|, in which pale colours weigh little. All 0 in the first window by
    construction. Things that move change cells as drift does: read it beside a real video. Formulas: CIE 15:2004; the grid
    is ours.
    """

    name: ClassVar[str] = "cell_colour"
    version: ClassVar[int] = 1
    observes: ClassVar[tuple[Observation, ...]] = (CellMeans,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("cell_colour_drift", "mean of cells, Delta E 1976", False, "distance of cells' colours from the first window's"),
        Value("cell_saturation_drift", "mean of cells, Delta C*", None, "change of cells' chroma since the first window"),
        Value("cell_hue_drift", "mean of cells, Delta H*", False, "distance of cells' hues from the first window's"),
    )  # fmt: skip

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        lab = np.stack([srgb_to_lab(of / 255) for of in window_cells(clip, windows)])
        chroma = np.hypot(lab[..., 1], lab[..., 2])
        moved = lab - lab[:1]
        more = chroma - chroma[:1]
        # Delta H* squared is what of the distance in a* and b* is no change of chroma; rounding may leave less than 0.
        turned = np.maximum(moved[..., 1] ** 2 + moved[..., 2] ** 2 - more**2, 0.0)
        return {
            "cell_colour_drift": np.sqrt((moved**2).sum(-1)).mean(1),
            "cell_saturation_drift": more.mean(1),
            "cell_hue_drift": np.sqrt(turned).mean(1),
        }


def window_cells(clip: Clip, windows: Sequence[Window]) -> list[FloatArray]:
    """Of each window, the mean colour of every cell over its frames, [cells, 3] in 0..255."""
    cells: Cells = clip.observed(CellMeans)
    grain = clip.info.grain
    parts = [slice(window.start // grain, -(-window.end // grain)) for window in windows]
    return [np.average(cells.colours[part], axis=0, weights=cells.frames[part]) for part in parts]
