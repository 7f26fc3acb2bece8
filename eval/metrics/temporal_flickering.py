"""VBench's temporal flickering: how little a frame differs from the next."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np

from eval.metric import Clip, FloatArray, Value, Window


@dataclass(frozen=True)
class TemporalFlickering:
    """(255 - mean over neighbouring frames, pixels and channels of |f_t - f_(t+1)|) / 255, as VBench computes it.

    A window is scored as VBench scores a clip of just those frames; one window over a whole video is VBench's score of
    it. Frames as they are in the file. Motion lowers it too: it is meant for still scenes (VBench, CVPR 2024).
    """

    name: ClassVar[str] = "temporal_flickering"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "video"
    values: ClassVar[tuple[Value, ...]] = (
        Value("temporal_flickering", "0..1", True, "1 - mean absolute difference of neighbouring frames"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        frames = clip.frames
        size = frames[0].size if len(frames) else 1
        error = np.array([cv2.norm(a, b, cv2.NORM_L1) / size for a, b in itertools.pairwise(frames)])
        means = [error[w.start : w.end - 1].mean() if w.end - w.start > 1 else np.nan for w in windows]
        return {"temporal_flickering": (255 - np.array(means)) / 255}
