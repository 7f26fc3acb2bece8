"""Colours that several metrics look at: the mean of a frame, and CIELAB."""

from __future__ import annotations

import cv2
import numpy as np

from eval.measure.metric import ClipInfo
from eval.measure.watch import Frame, Look
from eval.measure.windows import FloatArray

LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601 weights of gamma-encoded R, G, B, as in OpenCV's RGB2GRAY
# IEC 61966-2-1: linear sRGB to CIE XYZ; rows sum to the D65 white point.
XYZ = np.array(
    [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750], [0.0193339, 0.1191920, 0.9503041]]
)


def srgb_to_lab(rgb: FloatArray) -> FloatArray:
    """Gamma-encoded sRGB in 0..1 -> CIELAB (D65, L in 0..100), [..., 3] (CIE 15:2004)."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    ratio = linear @ XYZ.T / XYZ.sum(1)
    f = np.where(ratio > (6 / 29) ** 3, np.cbrt(ratio), ratio / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], -1)


def mean_rgb(info: ClipInfo) -> Look:
    """Mean over the pixels of gamma-encoded RGB, [3] in 0..1 per frame."""

    def look(frame: Frame) -> FloatArray:
        return np.array(cv2.mean(frame.rgb)[:3]) / 255

    return look
