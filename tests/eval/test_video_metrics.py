from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from clips import clip_of, watch_of
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from eval.measure.metric import ClipInfo
from eval.measure.watch import Clip
from eval.measure.windows import windows
from eval.metrics.pixels.cell_colour import CellColour
from eval.metrics.pixels.colour import srgb_to_lab
from eval.metrics.pixels.colour_drift import ColourDrift
from eval.metrics.pixels.exposure import Exposure
from eval.metrics.pixels.saturation import Saturation
from eval.metrics.pixels.sharpness import Sharpness
from eval.metrics.time.motion_magnitude import MotionMagnitude
from eval.metrics.time.replay import Replay


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


def cell_scores(*frames: NDArray[np.uint8], grain: int = 1) -> dict[str, list[float]]:
    """Of windows of one frame each."""
    info = ClipInfo(len(frames), 4, *frames[0].shape[:2], grain=grain)
    watch = watch_of(info, [CellColour()])
    watch.add(np.stack(frames))
    found = CellColour().score(watch.finish(), windows(len(frames), 4, 0.25))
    return {name: values.tolist() for name, values in found.items()}


def painted(lab: NDArray[np.float64]) -> NDArray[np.uint8]:
    """A picture [64, 64] with the CIELAB colours [4, 4, 3] in its cells, as OpenCV turns them into RGB."""
    rgb = cv2.cvtColor(lab.astype(np.float32), cv2.COLOR_Lab2RGB)
    return (rgb.repeat(16, 0).repeat(16, 1) * 255).round().astype(np.uint8)


def test_halves_that_are_exchanged_move_cells_and_not_the_mean() -> None:
    lab = np.full((4, 4, 3), [60.0, 0.0, 0.0])
    lab[:, :2] += [0.0, 30.0, 0.0]
    before, after = painted(lab), painted(lab[:, ::-1])
    mean = ColourDrift().score(clip_of(np.stack([before, after]), 4, ""), windows(2, 4, 0.25))["colour_drift"]
    np.testing.assert_allclose(mean, [0, 0], atol=1e-6)
    found = cell_scores(before, after)
    assert found["cell_colour_drift"] == pytest.approx([0, 30], abs=0.5)
    assert found["cell_saturation_drift"] == pytest.approx([0, 0], abs=0.1)  # as much here as there
    assert found["cell_hue_drift"] == pytest.approx([0, 0], abs=0.1)  # grey has no hue to turn


@pytest.mark.parametrize("degrees", [-40, 15, 90, 180])
def test_hues_that_turn_and_colours_that_pale_are_told_apart(degrees: float) -> None:
    """Cells of chroma 20 at sixteen hues: turned, C* stays and Delta H* is the chord; paled by half, the reverse."""
    hues = np.linspace(0, 2 * np.pi, 16, endpoint=False).reshape(4, 4)

    def wheel(chroma: float, turn: float) -> NDArray[np.uint8]:
        at = hues + np.deg2rad(turn)
        return painted(np.stack([np.full((4, 4), 60.0), chroma * np.cos(at), chroma * np.sin(at)], -1))

    turned = cell_scores(wheel(20, 0), wheel(20, degrees))
    chord = 2 * 20 * abs(math.sin(math.radians(degrees) / 2))
    assert turned["cell_hue_drift"][1] == pytest.approx(chord, abs=0.4)
    assert turned["cell_colour_drift"][1] == pytest.approx(chord, abs=0.4)
    assert turned["cell_saturation_drift"][1] == pytest.approx(0, abs=0.4)
    paled = cell_scores(wheel(20, 0), wheel(10, 0))
    assert paled["cell_saturation_drift"][1] == pytest.approx(-10, abs=0.4)
    assert paled["cell_hue_drift"][1] < 1
    both = cell_scores(wheel(20, 0), wheel(10, degrees))
    parts = both["cell_colour_drift"][1] ** 2 - both["cell_hue_drift"][1] ** 2
    assert parts == pytest.approx(100, abs=12)


@pytest.mark.parametrize("grain", [1, 2, 4, 8])
def test_cells_are_means_over_a_windows_frames_whatever_is_summed_at_once(grain: int) -> None:
    frames = np.random.default_rng(1).integers(0, 256, (22, 48, 40, 3), dtype=np.uint8)
    spans = windows(22, 4, 2.0)  # of 8, 8 and 6 frames
    watch = watch_of(ClipInfo(22, 4, 48, 40, grain=grain), [CellColour()])
    watch.add(frames)
    found = CellColour().score(watch.finish(), spans)["cell_colour_drift"]
    cells = frames.reshape(22, 4, 12, 4, 10, 3).mean((2, 4)) / 255
    lab = np.stack([srgb_to_lab(cells[w.start : w.end].mean(0)) for w in spans])
    np.testing.assert_allclose(found, np.sqrt(((lab - lab[0]) ** 2).sum(-1)).mean((1, 2)), atol=1e-4)


def test_pictures_smaller_than_the_grid_have_a_cell_a_pixel() -> None:
    frames = np.zeros((2, 2, 3, 3), np.uint8)
    frames[1, 0, 0] = 255
    assert cell_scores(*frames)["cell_colour_drift"] == pytest.approx([0, 100 / 6], abs=0.01)


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


def sliding(side: int, step: float, grain: float, frames: int = 9) -> NDArray[np.uint8]:
    """A random texture that goes round and round, `step` pixels a frame. grain: how coarse it is, in pixels."""
    frequency = np.fft.fftfreq(side)
    coarse = np.exp(-2 * (np.pi * grain) ** 2 * (frequency[:, None] ** 2 + frequency**2))
    spectrum = np.fft.fft2(np.random.default_rng(4).random((side, side))) * coarse
    turned = [spectrum * np.exp(-2j * np.pi * frequency * k * step) for k in range(frames)]
    grey = np.stack([np.fft.ifft2(each).real for each in turned])
    grey = (grey - grey.min()) / (grey.max() - grey.min()) * 255
    return grey.round().astype(np.uint8)[..., None].repeat(3, -1)


@pytest.mark.parametrize(("side", "grain"), [(16, 1.0), (32, 1.0), (64, 2.0), (128, 3.0), (480, 6.0)])
def test_motion_magnitude_is_right_up_to_an_eighth_of_the_picture_and_missing_from_twice_that(
    side: int, grain: float
) -> None:
    """Of the short side in one frame: 32 px/s of a 16 px video at 16 frames a second."""

    def found(share: float) -> float:
        clip = clip_of(sliding(side, share * side, grain), 16, "", metrics=[MotionMagnitude()])
        return float(MotionMagnitude().score(clip, windows(9, 16, 9 / 16))["motion_magnitude"][0]) / (share * side * 16)

    for share in (1 / 64, 1 / 32, 1 / 16):
        assert 0.75 <= found(share) <= 1.05, share
    assert math.isnan(at_eighth := found(1 / 8)) or 0.7 <= at_eighth <= 1.05
    for share in (1 / 4, 3 / 8, 1 / 2):
        assert math.isnan(found(share)), share


def test_motion_magnitude_of_what_cannot_be_followed_is_missing_and_of_noise_on_a_wall_it_is_not() -> None:
    rng = np.random.default_rng(0)

    def found(frames: NDArray[np.uint8]) -> float:
        return float(MotionMagnitude().score(clip_of(frames, 8, ""), windows(8, 8, 1.0))["motion_magnitude"][0])

    assert math.isnan(found(noise(8, 64)))
    wall = (120 + rng.normal(0, 1, (8, 64, 64, 1))).round().astype(np.uint8).repeat(3, -1)
    assert found(wall) < 15
    still = noise(1, 64).repeat(8, 0)
    assert found(still) < 0.05
    brighter = np.stack(
        [(still[0] * 0.5 + 8 * (k % 2)).astype(np.uint8) for k in range(8)]
    )  # flickers, and stands still
    assert found(brighter) < 20


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
