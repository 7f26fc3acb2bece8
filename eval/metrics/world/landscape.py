"""Reading the pan's landscape off a video: where the camera is, and the landmarks in the order in which it met them.

All by what is seen: the caption says the camera's direction alone (videos that pan left are mirrored), what the landmarks
are, and nothing of their colours. N frames, K landmarks in view.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deepforcing.tiny.pan import (
    COLOUR_RGB,
    GROUND,
    HALF_WIDTH,
    HEIGHT,
    LANDMARKS,
    NAME,
    SPACING,
    TOPS,
    WIDTH,
    landmark_mask,
    parse_caption,
)
from eval.measure.metric import ClipInfo
from eval.measure.watch import Clip
from eval.measure.windows import FloatArray
from eval.metrics.world.regions import Blocks, check_size

MIN_CONTRAST = 0.12  # chroma distance from the sky's, about half of the faintest landmark's (blue in the day)
FOOT = 3  # rows above the ground in which every landmark is at least a pixel wide to either side
HORIZON = int(HEIGHT - GROUND)  # rows above the ground
IN_VIEW = WIDTH // SPACING - 1  # landmarks that are wholly in view in every frame: K
UNSURE = 0.5  # a colour counts where it is at most half as far from the palette's as that is from grey


@dataclass(frozen=True)
class Landscape:
    """What was found. seen: bool [N], there is a row of landmarks. phase: [N] x of one's centre, pixels modulo SPACING, NaN
    where there is none. Of the K landmarks that begin at the first one wholly in view: colour int [N, K], index into
    COLOURS, -1 where it is none of them; kind int [N, K], which height (times 3) and landmark fits best, -1 without colour.
    sky, ground: [N, 3], 0..1.
    """

    seen: NDArray[np.bool_]
    phase: FloatArray
    colour: NDArray[np.int64]
    kind: NDArray[np.int64]
    sky: FloatArray
    ground: FloatArray

    @property
    def steps(self) -> FloatArray:
        """[N] pixels by which the camera moved on since the frame before, the short way; NaN in the first and where unseen."""
        moved = -np.diff(self.phase, prepend=np.nan)
        return np.asarray((moved + SPACING / 2) % SPACING - SPACING / 2)

    @property
    def number(self) -> NDArray[np.int64]:
        """[N] how many landmarks the camera has passed since the first frame: the number of the first of the K.

        A step that was not seen counts as none.
        """
        along = first_centre(np.nan_to_num(self.phase)) + np.nan_to_num(self.steps).cumsum()
        return np.asarray(np.round((along - along[0]) / SPACING), dtype=np.int64)


def first_centre(phase: FloatArray) -> FloatArray:
    """x of the first landmark that is wholly in view: HALF_WIDTH .. HALF_WIDTH + SPACING."""
    return np.asarray(HALF_WIDTH + (phase - HALF_WIDTH) % SPACING)


class PanLandscape(Blocks):
    """Reads a video's frames.

    Raises ValueError if the decoded frames are not the world's size or the prompt is none of its captions.
    """

    def __init__(self, info: ClipInfo) -> None:
        super().__init__()
        check_size(info, NAME, HEIGHT, WIDTH)
        self._mirrored = parse_caption(info.caption)[2] == 1
        self._white = 255.0 * info.pixel_scale**2

    def look(self, sums: NDArray[np.uint64]) -> tuple[NDArray[np.generic], ...]:
        frames = sums / self._white
        return read(frames[:, :, ::-1] if self._mirrored else frames)

    def finish(self) -> Landscape:
        return Landscape(*self.found())


def find_landscape(clip: Clip) -> Landscape:
    """Raises ValueError if the frames or the caption are not the pan's."""
    found: Landscape = clip.observed(PanLandscape)
    return found


def read(frames: FloatArray) -> tuple[NDArray[np.generic], ...]:
    """The fields of Landscape for a few frames [n, Y, X, 3] of 0..1 of a camera that moves right."""
    n = len(frames)
    sky = np.median(frames[:, :2].reshape(n, -1, 3), axis=1)
    ground = frames[:, HORIZON + 1 :].reshape(n, -1, 3).mean(1)
    above = frames[:, :HORIZON]
    offset = chroma(above) - chroma(sky)[:, None, None]
    profile = np.sqrt((offset**2).sum(-1))[:, -FOOT:].mean(1)  # [n, X]
    seen = profile.max(1) >= MIN_CONTRAST
    wave = profile @ np.exp(-2j * np.pi * (np.arange(WIDTH) + 0.5) / SPACING)
    phase = -np.angle(wave) / (2 * np.pi) * SPACING % SPACING
    centres = first_centre(phase)[:, None] + SPACING * np.arange(IN_VIEW)  # [n, K]
    columns = np.floor(centres - SPACING / 2 + 0.5).astype(np.int64)[..., None] + np.arange(SPACING)
    columns = columns.clip(0, WIDTH - 1)  # [n, K, SPACING]: around each landmark
    dx = columns + 0.5 - centres[..., None]
    middle = (np.abs(dx) <= 1.0)[:, :, None, :, None]

    def around(rows: FloatArray) -> FloatArray:
        """[n, rows, X, 3] -> [n, K, rows, SPACING, 3]"""
        return np.moveaxis(rows[np.arange(n)[:, None, None], :, columns], 3, 2)

    def at_foot(rows: FloatArray) -> FloatArray:
        """[n, rows, X, 3] -> the mean colour in the middle of each landmark's foot, [n, K, 3]"""
        part = np.where(middle, around(rows[:, -FOOT:]), 0)
        return np.asarray(part.sum((2, 3)) / (FOOT * middle.sum((2, 3))))

    distance = np.sqrt(((PALETTE - chroma(at_foot(above))[..., None, :]) ** 2).sum(-1))  # [n, K, colours]
    best = distance.argmin(-1)
    sure = (distance.min(-1) <= UNSURE * np.sqrt((PALETTE[best] ** 2).sum(-1))) & seen[:, None]
    foot = at_foot(offset)
    coverage = np.einsum("nkyxc,nkc->nkyx", around(offset), foot)
    kind = best_kind(coverage, dx)
    return (
        seen,
        np.where(seen, phase, np.nan),
        np.where(sure, best, -1),
        np.where(sure, kind, -1),
        sky,
        ground,
    )


def chroma(rgb: FloatArray) -> FloatArray:
    return np.asarray(rgb - rgb.mean(-1, keepdims=True))


PALETTE = chroma(COLOUR_RGB.double().numpy())


def best_kind(coverage: FloatArray, dx: FloatArray) -> NDArray[np.int64]:
    """Which height (times 3) and landmark each coverage [n, K, rows, SPACING] is most like, [n, K]. dx: [n, K, SPACING]."""
    heights = torch.arange(coverage.shape[2]).flip(0)[:, None] + 0.5  # above the ground
    kinds = torch.arange(len(LANDMARKS)).repeat(len(TOPS))[:, None, None]
    tops = torch.tensor(TOPS).repeat_interleave(len(LANDMARKS))[:, None, None]
    drawn = landmark_mask(
        kinds, tops, torch.from_numpy(dx)[:, :, None, None], heights
    ).numpy()  # [n, K, kinds, rows, SPACING]

    def centred(picture: FloatArray) -> FloatArray:
        return np.asarray(picture - picture.mean((-2, -1), keepdims=True))

    found, drawn = centred(coverage)[:, :, None], centred(drawn)
    norm = np.sqrt((drawn**2).sum((-2, -1)))
    return np.asarray(((found * drawn).sum((-2, -1)) / norm).argmax(-1))
