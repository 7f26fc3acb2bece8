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
    """How far a video is from those of other prompts, and whether it is still nearest to its own prompt's beginning.

    The picture of a window is the mean of four of its frames, area-averaged to 16 x 16 pixels. prompt_distance:
    (P - 1) / P of the mean square RGB difference, 0..1, from the mean picture of the P - 1 other prompts in the same window;
    its mean over prompts is the variance between them, whatever P is. Squares and means, and not the mean of distances
    between pairs: there each pair would count twice, and intervals over prompts would be half as wide as they are. NaN
    where fewer than three prompts have the window.

    prompt_retrieval: 1 if of all videos' first pictures the one with the least root mean square difference is of the same
    prompt, 0 if not (a tie is a miss); NaN with one prompt. Papers' retrieval, which falls from all to half within a minute,
    is of learned features; this sees layout and colour alone, so that what moves a lot is lost too: read it beside real
    video. Both are ours, and belong to the set of videos they were scored with: with another set all are scored again.
    """

    name: ClassVar[str] = "prompt_distance"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("prompt_distance", "mean square, 0..1", None, "squared difference from the mean of the other prompts"),
        Value("prompt_retrieval", "0 or 1", True, "nearest to the beginning of its own prompt's videos", share=True),
    )

    def start(self, info: ClipInfo, device: torch.device) -> MeanPicture:
        return MeanPicture(info.frames)

    def compare(
        self, features: Sequence[Sequence[FloatArray]], prompts: Sequence[str]
    ) -> list[Mapping[str, FloatArray]]:
        pictures = [np.stack(own) for own in features]
        apart = [np.full(len(own), np.nan) for own in pictures]
        for window in range(max(map(len, pictures), default=0)):
            there = {i: own[window] for i, own in enumerate(pictures) if window < len(own)}
            of_prompt = {
                prompt: np.mean([picture for i, picture in there.items() if prompts[i] == prompt], 0)
                for prompt in dict.fromkeys(prompts[i] for i in there)
            }
            others = len(of_prompt) - 1
            total = sum(of_prompt.values(), np.zeros(()))
            for i, picture in there.items() if others >= 2 else ():
                centre = (total - of_prompt[prompts[i]]) / others
                apart[i][window] = others / (others + 1) * float(((picture - centre) ** 2).mean())
        return [
            {"prompt_distance": distance, "prompt_retrieval": found}
            for distance, found in zip(apart, retrieved(pictures, prompts), strict=True)
        ]


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


def retrieved(pictures: Sequence[FloatArray], prompts: Sequence[str]) -> list[FloatArray]:
    """Of every video, for each of its windows [W], whether the nearest of all first windows is of its prompt."""
    found = []
    for own, prompt in zip(pictures, prompts, strict=True):
        same = np.array([other == prompt for other in prompts])
        hits = np.full(len(own), np.nan)
        if not same.all():
            first = np.stack([other[0] for other in pictures])
            for window, picture in enumerate(own):
                apart = ((first - picture) ** 2).mean(1)
                hits[window] = float(apart[same].min() < apart[~same].min())
        found.append(hits)
    return found
