"""RGB <-> 8 bit 4:2:0 YCbCr in integers (ITU-R BT.601 and BT.709).

Exact to the rounding of 8 bits and the same on every machine. swscale, which FFmpeg would use, shifts some channels by
one to two levels on its fast paths, and the shift depends on the processor: nothing to measure small drifts through.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    import av

Frames = NDArray[np.uint8]

# Tags: ITU-T H.273 code points, and FFmpeg's two colour ranges.
BT709, SMPTE170M, SRGB = 1, 6, 13
LIMITED, FULL = 1, 2

_MATRICES = {BT709: "bt709", 5: "bt601", SMPTE170M: "bt601"}
_KR_KB = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722)}
_SHIFT = 16  # fixed point


def rgb_to_planes(rgb: Frames, scale: int) -> Iterator[Frames]:
    """BT.601, limited range, every pixel written as scale x scale pixels.

    rgb: uint8 [N, H, W, 3], H * scale and W * scale even. Yields per frame Y, Cb, Cr as PyAV takes yuv420p, uint8
    [3 * H * scale / 2, W * scale].
    """
    kr, kb = _KR_KB["bt601"]
    kg = 1 - kr - kb
    y_r, y_g, y_b = (_fixed(k * 219 / 255) for k in (kr, kg, kb))
    cb_r, cb_g = (_fixed(-k / (2 * (1 - kb)) * 224 / 255) for k in (kr, kg))
    cr_g, cr_b = (_fixed(-k / (2 * (1 - kr)) * 224 / 255) for k in (kg, kb))
    half = _fixed(0.5 * 224 / 255)
    height, width = rgb.shape[1] * scale, rgb.shape[2] * scale
    for image in rgb:
        planes = np.empty(height * width * 3 // 2, np.uint8)
        r, g, b = (image[..., channel].astype(np.int32) for channel in range(3))
        luma = (y_r * r + y_g * g + y_b * b + _fixed(16.5)) >> _SHIFT
        planes[: height * width] = _enlarge(luma.astype(np.uint8), scale).reshape(-1)
        # Chroma is the mean over 2 x 2 written pixels. With an even scale these are one pixel, and nothing is lost.
        shift = _SHIFT
        if scale % 2:
            r, g, b = (_sum_2x2(_enlarge(c, scale)) for c in (r, g, b))
            shift += 2
        offset = (128 << shift) + (1 << (shift - 1))
        blue = (cb_r * r + cb_g * g + half * b + offset) >> shift
        red = (half * r + cr_g * g + cr_b * b + offset) >> shift
        chroma = np.stack([blue, red]).astype(np.uint8)
        if scale % 2 == 0:
            chroma = chroma.repeat(scale // 2, 1).repeat(scale // 2, 2)
        planes[height * width :] = chroma.reshape(-1)
        yield planes.reshape(height * 3 // 2, width)


def frame_to_rgb(frame: av.VideoFrame) -> Frames:
    """uint8 [H, W, 3] by the frame's own tags; chroma by nearest neighbour, so that flat blocks come back flat."""
    height, width = frame.height, frame.width
    if frame.format.name not in ("yuv420p", "yuvj420p") or height % 2 or width % 2:
        return np.asarray(frame.to_ndarray(format="rgb24"), np.uint8)  # never written here: FFmpeg's conversion will do
    untagged = "bt601" if height < 720 else "bt709"  # the common convention
    kr, kb = _KR_KB[_MATRICES.get(int(frame.colorspace), untagged)]
    kg = 1 - kr - kb
    full = frame.format.name == "yuvj420p" or int(frame.color_range) == FULL
    low, y_gain, c_gain = (0, 1.0, 1.0) if full else (16, 255 / 219, 255 / 224)
    planes = np.asarray(frame.to_ndarray())
    luma = planes[:height].astype(np.int32) * _fixed(y_gain) + (_fixed(0.5) - low * _fixed(y_gain))
    blue, red = planes[height:].reshape(2, height // 2, width // 2).astype(np.int32) - 128
    image = np.empty((height, width, 3), np.uint8)
    to_r, to_b = 2 * (1 - kr) * c_gain, 2 * (1 - kb) * c_gain
    for channel, chroma in enumerate(
        (red * _fixed(to_r), red * _fixed(-to_r * kr / kg) + blue * _fixed(-to_b * kb / kg), blue * _fixed(to_b))
    ):
        total = luma + _enlarge(chroma, 2)
        image[..., channel] = np.clip(total >> _SHIFT, 0, 255)
    return image


def _fixed(value: float) -> int:
    return round(value * (1 << _SHIFT))


def _enlarge(plane: NDArray[Any], scale: int) -> NDArray[Any]:
    return plane if scale == 1 else plane.repeat(scale, 0).repeat(scale, 1)


def _sum_2x2(plane: NDArray[Any]) -> NDArray[Any]:
    total: NDArray[Any] = plane[0::2, 0::2] + plane[0::2, 1::2] + plane[1::2, 0::2] + plane[1::2, 1::2]
    return total
