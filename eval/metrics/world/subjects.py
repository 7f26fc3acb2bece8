"""Finding the crowd's two subjects in a video, frame by frame, by the hues that the caption names.

A coloured pixel belongs to the subject whose named hue is within half of the distance to the next colour. So where they
pass one another, what is seen of the one behind is told from the one in front. N frames; of subjects 0 is the one in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from deepforcing.tiny.crowd import (
    HEIGHT,
    LOOP,
    NAME,
    PERIOD,
    SHAPES,
    START,
    WIDTH,
    parse_caption,
    places,
    shape_mask,
)
from deepforcing.tiny.sprites import HUES
from eval.measure.metric import ClipInfo
from eval.measure.watch import Clip
from eval.measure.windows import FloatArray
from eval.metrics.world.regions import (
    Blocks,
    check_size,
    grow,
    hue,
    hue_distance,
    largest_region,
    shape_correlations,
)

MIN_CONTRAST = 0.12  # chroma distance from the frame's median, about half of the faintest subject's
CORE = 0.6  # a subject's pixels have at least this share of its own highest contrast: no half-covered edges
PURE = 0.9  # pixels with this share of the subject's highest contrast show its colour unmixed
SAME_HUE = 0.5 / len(HUES)  # turns: half-way to the next colour of the vocabulary
AREA = (31.0, 115.0)  # pixels covered: half of the smallest (cross, 62) to 1.6 times the largest shape (disc, 72)
REACH = 7.0  # pixels from the centre that are compared with a shape
HALF = 5.7  # pixels from a subject's middle to its edge, at most
SPECK = 8  # connected coloured pixels that an empty stage may have: a ninth of a subject


@dataclass(frozen=True)
class Subjects:
    """What was found. whole: bool [N, 2], a subject of plausible area is in view and touches neither the frame's sides nor
    the other one; rgb [N, 2, 3] its unmixed colour, 0..1, x [N, 2] its centre, pixels, and match [N, 2, 3], Pearson
    correlation of its coverage with each shape drawn there, are NaN where it is not. empty: bool [N], nothing is in view.
    """

    whole: NDArray[np.bool_]
    rgb: FloatArray
    x: FloatArray
    match: FloatArray
    empty: NDArray[np.bool_]


class CrowdSubjects(Blocks):
    """Looks for the subjects in a video's frames.

    Raises ValueError if the decoded frames are not the world's size or the prompt is none of its captions.
    """

    def __init__(self, info: ClipInfo) -> None:
        super().__init__()
        check_size(info, NAME, HEIGHT, WIDTH)
        classes = parse_caption(info.caption)
        self._hues = HUES[classes[1]], HUES[classes[3]]
        self._white = np.float32(255 * info.pixel_scale**2)

    def look(self, sums: NDArray[np.uint64]) -> tuple[NDArray[np.generic], ...]:
        return located((sums / self._white).astype(np.float32), self._hues)

    def finish(self) -> Subjects:
        return Subjects(*self.found())


def find_subjects(clip: Clip) -> Subjects:
    """Raises ValueError if the frames or the caption are not the crowd's."""
    found: Subjects = clip.observed(CrowdSubjects)
    return found


def located(frames: NDArray[np.float32], hues: tuple[float, float]) -> tuple[NDArray[np.generic], ...]:
    """The fields of Subjects for a few frames [n, Y, X, 3] of 0..1."""
    n = len(frames)
    chroma = frames - frames.mean(-1, keepdims=True)
    offset = chroma - np.median(chroma.reshape(n, -1, 3), axis=1)[:, None, None]
    contrast = np.sqrt((offset**2).sum(-1))
    coloured = contrast >= MIN_CONTRAST
    shade = hue(frames)
    regions = []
    for named in hues:
        own = coloured & (hue_distance(shade, np.asarray(named)) <= SAME_HUE)
        peak = np.where(own, contrast, 0).max((1, 2), keepdims=True)
        regions.append(largest_region(own & (contrast >= CORE * peak), contrast))
    fields = [
        of_subject(frames, offset, contrast, region, other)
        for region, other in zip(regions, regions[::-1], strict=True)
    ]
    whole, rgb, x, match = (np.stack(part, 1) for part in zip(*fields, strict=True))
    return whole, rgb, x, match, largest_region(coloured, contrast).sum((1, 2)) <= SPECK


def of_subject(
    frames: NDArray[np.float32],
    offset: NDArray[np.float32],
    contrast: NDArray[np.float32],
    region: NDArray[np.bool_],
    other: NDArray[np.bool_],
) -> tuple[NDArray[np.bool_], FloatArray, FloatArray, FloatArray]:
    """whole, rgb, x and match of one subject, whose pixels are `region`; `other`: those of the other one, bool [n, Y, X].

    Its coverage is the share of each pixel that it covers: the projection of the pixel's chroma on the line from background to
    subject, as for the ring's sprite.
    """
    pure = region & (contrast >= PURE * np.where(region, contrast, 0).max((1, 2), keepdims=True))
    pixels = np.maximum(pure.sum((1, 2)), 1)[:, None]
    rgb = np.where(pure[..., None], frames, 0).sum((1, 2)) / pixels
    direction = np.where(pure[..., None], offset, 0).sum((1, 2)) / pixels
    length = np.maximum((direction**2).sum(-1), 1e-12)
    near = grow(region)
    coverage = np.where(near, (np.einsum("nyxc,nc->nyx", offset, direction) / length[:, None, None]).clip(0, 1), 0)
    area = coverage.sum((1, 2))
    cut = region[:, :, [0, -1]].any((1, 2))
    alone = ~cut & ~(near & other).any((1, 2))
    whole = (area >= AREA[0]) & (area <= AREA[1]) & alone
    weight = np.where(whole, area, np.nan)
    x = coverage.sum(1) @ (np.arange(WIDTH) + 0.5) / weight
    y = coverage.sum(2) @ (np.arange(HEIGHT) + 0.5) / weight
    match = shape_correlations(coverage, x, y, shape_mask, len(SHAPES), REACH)
    return whole, np.where(whole[:, None], rgb, np.nan), x, np.where(whole[:, None], match, np.nan)


@dataclass(frozen=True)
class Truth:
    """What the caption says of N frames. x: [N, 2] of the centres; clear: bool [N, 2], wholly in view and apart;
    away: bool [N], both are wholly outside; visit: int [N, 2], how often it has come back.
    """

    x: FloatArray
    clear: NDArray[np.bool_]
    away: NDArray[np.bool_]
    visit: NDArray[np.int64]


def truth(prompt: str, frames: int) -> Truth:
    """Raises ValueError for a prompt that is none of the crowd's captions."""
    time = torch.arange(frames, dtype=torch.float32)
    x = places(torch.tensor([parse_caption(prompt)]), time)[0].double().numpy()
    inside = np.abs(x - WIDTH / 2) <= WIDTH / 2 - HALF
    apart = np.abs(x[:, 0] - x[:, 1]) >= 2 * HALF
    travelled = np.arange(frames) * LOOP / PERIOD - START + LOOP / 2
    visit = np.repeat(np.floor(travelled / LOOP).astype(np.int64)[:, None], 2, 1)
    away = np.asarray((np.abs(x - WIDTH / 2) >= WIDTH / 2 + HALF).all(1))
    return Truth(x, inside & apart[:, None], away, visit)
