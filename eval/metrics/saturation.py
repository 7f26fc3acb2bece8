"""How saturated the picture is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import cv2
import numpy as np

from eval.metric import Clip, FloatArray, Value, Window, window_mean


@dataclass(frozen=True)
class Saturation:
    """Mean over pixels of HSV saturation, (max - min) / max over R, G, B; black counts as 0 (OpenCV, 8 bit)."""

    name: ClassVar[str] = "saturation"
    version: ClassVar[int] = 1
    needs: ClassVar[Literal["video", "tiny"]] = "video"
    values: ClassVar[tuple[Value, ...]] = (Value("saturation", "0..1", None, "mean HSV saturation"),)

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        per_frame = [cv2.mean(cv2.cvtColor(frame, cv2.COLOR_RGB2HSV))[1] / 255 for frame in clip.frames]
        return {"saturation": window_mean(np.array(per_frame), windows)}
