"""The mean colour of a frame, which several metrics look at."""

from __future__ import annotations

import cv2
import numpy as np

from eval.metric import FloatArray, Frame, Look, Video


def mean_rgb(video: Video) -> Look:
    """Mean over the pixels of gamma-encoded RGB, [3] in 0..1 per frame."""

    def look(frame: Frame) -> FloatArray:
        return np.array(cv2.mean(frame.rgb)[:3]) / 255

    return look
