"""Whether videos of different prompts become alike: what no score of a single video sees."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Value
from eval.measure.set_metric import SetMetric
from eval.measure.windows import FloatArray

LOOKS = 4  # frames of a window
SIDE = 16  # pixels: pictures are compared after area averaging to so many a side, whatever their shape


@dataclass(frozen=True)
class PromptDistance(SetMetric):
    """How far the videos of other prompts are, and whether a video is still nearest to its own prompt's beginning.

    The picture of a window is the mean of four of its frames, area-averaged to 16 x 16 pixels; pictures are compared by
    their root mean square RGB difference, 0..1. prompt_distance: mean over the videos of other prompts of the difference
    between the two pictures of the same window. prompt_retrieval: 1 if the nearest of all videos' first pictures is one of
    the same prompt, 0 if not (a tie is a miss). Papers' retrieval, which falls from all to half within a minute, is of
    learned features; this sees layout and colour alone, so that what moves a lot is lost too: read it beside real video.

    A number of a video is of the set of videos it was scored with: with another set it is scored again. NaN with fewer than
    two prompts. Our definition.
    """

    name: ClassVar[str] = "prompt_distance"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("prompt_distance", "RMS, 0..1", None, "difference from the videos of other prompts"),
        Value("prompt_retrieval", "0 or 1", True, "nearest to the beginning of its own prompt's videos", share=True),
    )

    def start(self, info: ClipInfo, device: torch.device) -> MeanPicture:
        return MeanPicture(info.frames)

    def compare(
        self, features: Sequence[Sequence[FloatArray]], prompts: Sequence[str]
    ) -> list[Mapping[str, FloatArray]]:
        pictures = [np.stack(own) for own in features]
        found: list[Mapping[str, FloatArray]] = []
        first = np.stack([own[0] for own in pictures]) if pictures else np.empty((0, 0))
        for own, prompt in zip(pictures, prompts, strict=True):
            same = np.array([other == prompt for other in prompts])
            apart, nearest = np.full(len(own), np.nan), np.full(len(own), np.nan)
            for i, picture in enumerate(own if not same.all() else ()):
                others = [p[i] for p, alike in zip(pictures, same, strict=True) if not alike and i < len(p)]
                if others:
                    apart[i] = rms(np.stack(others), picture).mean()
                to_first = rms(first, picture)
                nearest[i] = float(to_first[same].min() < to_first[~same].min())
            found.append({"prompt_distance": apart, "prompt_retrieval": nearest})
        return found


class MeanPicture:
    """The scorer: the mean picture, [D], of LOOKS frames that lie evenly in a clip; a short clip's may be looked at twice."""

    def __init__(self, frames: int) -> None:
        self._looked = [(2 * i + 1) * frames // (2 * LOOKS) for i in range(LOOKS)]
        self._pictures: list[FloatArray] = []

    def add(self, batch: Batch, first: int) -> None:
        here = [index - first for index in self._looked if first <= index < first + len(batch)]
        self._pictures += [picture(batch.colour(index)) for index in here]

    def finish(self) -> FloatArray:
        return np.asarray(np.mean(self._pictures, 0))


def picture(rgb: NDArray[np.uint8]) -> FloatArray:
    """A frame [H, W, 3] small: [D] in 0..1."""
    return np.asarray(cv2.resize(rgb, (SIDE, SIDE), interpolation=cv2.INTER_AREA), np.float64).ravel() / 255


def rms(pictures: FloatArray, picture: FloatArray) -> FloatArray:
    """[V, D] and [D] -> [V]."""
    return np.asarray(np.sqrt(((pictures - picture) ** 2).mean(1)))
