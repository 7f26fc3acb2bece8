from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import clip_of
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval.metric import Clip, windows
from eval.metrics.colour_drift import ColourDrift, srgb_to_lab
from eval.metrics.exposure import Exposure
from eval.metrics.motion_magnitude import MotionMagnitude
from eval.metrics.replay import Replay
from eval.metrics.saturation import Saturation
from eval.metrics.sharpness import Sharpness


def flat(*colours: tuple[int, int, int], fps: int = 4, size: int = 16) -> Clip:
    """One second of each colour."""
    frames = np.array(colours, np.uint8).repeat(fps, 0)[:, None, None]
    return clip_of(np.ascontiguousarray(np.broadcast_to(frames, (len(frames), size, size, 3))), fps, "")


def noise(frames: int, size: int = 32, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


@given(st.tuples(*[st.integers(0, 255)] * 3))
def test_lab_agrees_with_opencv(colour: tuple[int, int, int]) -> None:
    rgb = np.array(colour, np.float32) / 255
    expected = cv2.cvtColor(rgb[None, None], cv2.COLOR_RGB2LAB)[0, 0]
    np.testing.assert_allclose(srgb_to_lab(rgb.astype(float)), expected, atol=0.4)


def test_lab_of_white_black_and_primary_red() -> None:
    np.testing.assert_allclose(srgb_to_lab(np.eye(3)[:1]), [[53.24, 80.09, 67.20]], atol=0.02)
    np.testing.assert_allclose(srgb_to_lab(np.array([[1.0] * 3, [0.0] * 3])), [[100, 0, 0], [0, 0, 0]], atol=1e-6)


def test_colour_drift_is_the_lab_distance_of_the_mean_colours() -> None:
    clip = flat((255, 255, 255), (0, 0, 0), (255, 255, 255))
    drift = ColourDrift().score(clip, windows(12, 4, 1.0))["colour_drift"]
    np.testing.assert_allclose(drift, [0, 100, 0], atol=1e-6)


def test_exposure_is_weighted_and_drifts_by_its_change() -> None:
    scores = Exposure().score(flat((100, 100, 100), (151, 151, 151), (49, 49, 49), (255, 0, 0)), windows(16, 4, 1.0))
    np.testing.assert_allclose(scores["luma"], [100 / 255, 151 / 255, 49 / 255, 0.299])
    np.testing.assert_allclose(scores["exposure_drift"][:3], [0, 0.2, 0.2])


def test_saturation_of_grey_half_and_full_colours() -> None:
    score = Saturation().score(flat((80, 80, 80), (200, 100, 150), (0, 0, 9), (0, 0, 0)), windows(16, 4, 1.0))
    np.testing.assert_allclose(score["saturation"], [0, 0.5, 1, 0], atol=1 / 255)


def test_sharpness_of_one_bright_pixel() -> None:
    frames = np.zeros((4, 5, 5, 3), np.uint8)
    frames[:, 2, 2] = 100
    # Laplacian: -400 in the middle, 100 at its four neighbours, mean 0 over 25 pixels.
    expected = (400**2 + 4 * 100**2) / 25
    np.testing.assert_allclose(Sharpness().score(clip_of(frames, 4, ""), windows(4, 4, 1.0))["sharpness"], [expected])


def test_enlarging_pixels_does_not_change_sharpness_or_motion() -> None:
    frames = noise(8, 16)
    large = clip_of(frames.repeat(8, 1).repeat(8, 2), 4, "", pixel_scale=8)
    for metric, tolerance in ((Sharpness(), 1e-2), (MotionMagnitude(), 2e-2)):
        small_score, large_score = (metric.score(c, windows(8, 4, 1.0)) for c in (clip_of(frames, 4, ""), large))
        for name, values in small_score.items():
            np.testing.assert_allclose(large_score[name], values, rtol=tolerance)


def test_blur_lowers_sharpness() -> None:
    frames = noise(4)
    blurred = np.stack([cv2.GaussianBlur(frame, (5, 5), 1) for frame in frames])
    sharp, soft = (Sharpness().score(clip_of(f, 4, ""), windows(4, 4, 1.0))["sharpness"][0] for f in (frames, blurred))
    assert soft < 0.3 * sharp


@pytest.mark.parametrize("pixels", [0, 1, 2])
def test_motion_magnitude_of_a_sliding_texture_is_its_speed(pixels: int) -> None:
    base = cv2.GaussianBlur(noise(1, 128, 3)[0].astype(np.float32), (0, 0), 2)
    base = ((base - base.min()) / (base.max() - base.min()) * 255).astype(np.uint8)
    frames = np.stack([np.roll(base, pixels * i, axis=1)[:, 16:112] for i in range(8)])
    found = MotionMagnitude().score(clip_of(frames, 8, ""), windows(8, 8, 1.0))["motion_magnitude"]
    np.testing.assert_allclose(found, [8 * pixels], rtol=0.1, atol=0.05)


def test_motion_magnitude_counts_the_step_into_a_window() -> None:
    still = noise(2, 64)
    frames = np.stack([still[0]] * 4 + [still[1]] * 4)
    found = MotionMagnitude().score(clip_of(frames, 4, ""), windows(8, 4, 1.0))["motion_magnitude"]
    assert found[0] < 0.01 < 0.5 < found[1]


def test_replay_of_a_loop_is_one_and_of_something_new_nothing() -> None:
    first = noise(4, 16)
    loop = Replay().score(clip_of(np.tile(first, (10, 1, 1, 1)), 4, ""), windows(40, 4, 1.0))
    np.testing.assert_array_equal(loop["replay"], [np.nan] * 5 + [1] * 5)
    np.testing.assert_allclose(loop["replay_distance"][5:], 0, atol=1e-6)
    new = Replay().score(clip_of(noise(40, 16), 4, ""), windows(40, 4, 1.0))
    np.testing.assert_array_equal(new["replay"][5:], 0)
    assert (new["replay_distance"][5:] > 0.3).all()


@pytest.mark.parametrize(("levels", "share"), [(5, 1.0), (6, 0.0)])
def test_replay_distance_is_root_mean_square_and_its_threshold_two_hundredths(levels: int, share: float) -> None:
    late = 100 + levels
    score = Replay().score(flat(*[(100, 100, 100)] * 5, (late, late, late), size=8), windows(24, 4, 1.0))
    np.testing.assert_allclose(score["replay_distance"][5:], levels / 255)
    assert score["replay"][5] == share


def test_replay_looks_at_the_first_two_and_a_half_seconds_only() -> None:
    frames = noise(40, 16)
    frames[30] = frames[9]
    frames[34] = frames[10]  # 2.5 s
    score = Replay().score(clip_of(frames, 4, ""), windows(40, 4, 1.0))["replay"]
    assert score[7] == 0.25
    assert score[8] == 0.0
