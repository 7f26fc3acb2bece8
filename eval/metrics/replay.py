"""Whether late frames copy early ones: the roll-back that frame differences and drift scores do not see."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from eval.metric import Clip, FloatArray, Frame, Look, Observation, Value, Video, Window, window_mean

EARLY_SECONDS = 2.5
LATE_SECONDS = 5.0  # frames before this are near the early ones merely because they follow them
THRESHOLD = 0.02  # root mean square error, of a range of 1: about 5 grey levels
SHORT_SIDE = 32  # frames are compared after area averaging to at most this many pixels


def small_frames(video: Video) -> Look:
    """The frame area-averaged to a short side of at most SHORT_SIDE, uint8 [h, w, 3]."""
    factor = min(1.0, SHORT_SIDE * video.pixel_scale / min(video.height, video.width)) / video.pixel_scale
    size = (max(1, round(video.width * factor)), max(1, round(video.height * factor)))

    def look(frame: Frame) -> NDArray[np.uint8]:
        # Area averaging of bytes rounds to a grey level, which is a tenth of the threshold.
        return np.asarray(cv2.resize(frame.rgb, size, interpolation=cv2.INTER_AREA), np.uint8)

    return look


@dataclass(frozen=True)
class Replay:
    """d(t) = least root mean square RGB difference (0..1) of frame t from any frame of the first 2.5 s.

    replay_distance is the mean of d over a window's frames, replay the share of them with d <= 0.02. Only frames from
    5 s on count; windows before that are NaN. Frames are compared in decoded pixels, area-averaged to a short side of
    at most 32. A frozen video replays itself (1), colour drift hides a replay, and true periodic motion replays
    honestly: a real video that turns once in 5 s scores a half. So read it beside the real video's value.
    """

    name: ClassVar[str] = "replay"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "video"
    observes: ClassVar[tuple[Observation, ...]] = (small_frames,)
    values: ClassVar[tuple[Value, ...]] = (
        Value("replay", "share of frames", None, "late frames that nearly copy a frame of the first 2.5 s", share=True),
        Value("replay_distance", "RMS, 0..1", None, "difference of late frames from the nearest of the first 2.5 s"),
    )

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        points = clip.observed(small_frames).reshape(clip.frames, -1).astype(np.float64) / 255
        early = points[: max(1, round(EARLY_SECONDS * clip.video.fps))]
        squared = (points**2).sum(1)[:, None] - 2 * points @ early.T + (early**2).sum(1)
        distance = np.sqrt(np.maximum(squared.min(1), 0) / points.shape[1])
        distance[: round(LATE_SECONDS * clip.video.fps)] = np.nan
        near = np.where(np.isnan(distance), np.nan, (distance <= THRESHOLD).astype(np.float64))
        return {"replay": window_mean(near, windows), "replay_distance": window_mean(distance, windows)}
