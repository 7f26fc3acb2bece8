"""Metrics of the crowd and the pan on rendered video, whole and spoilt in ways whose effect is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from clips import clip_of
from numpy.typing import NDArray

from deepforcing.tiny import crowd, pan
from deepforcing.tiny.worlds import World
from deepforcing.video import VideoWriter, read_video
from eval.measure.metric import applies
from eval.measure.windows import FloatArray, windows
from eval.metrics import WEIGHT_FREE
from eval.metrics.world.pan_novelty import PanNovelty

Frames = NDArray[np.uint8]
SCALE = 2
SECONDS = 3.75  # a window of a whole round of the crowd, five chunks of the pan
CROWD = [0, 0, 2, 4, 0, 0]  # a red disc goes right in front of a blue cross on a slate background
PAN = [1, 0, 0, 0, 0]  # the camera pans right along tall houses on grass in a sky of day


def rendered(world: World, classes: list[int], frames: int, seed: int = 0, **details: Any) -> Frames:
    scene = world.sample_scenes(torch.tensor([classes]), torch.Generator().manual_seed(seed))
    for name, value in details.items():
        setattr(scene, name, value)
    video = world.render(scene, frames)[0].permute(0, 2, 3, 1)
    return np.ascontiguousarray((video * 255).round().byte().numpy())


def scores(world: World, frames: Frames, classes: list[int]) -> Mapping[str, FloatArray]:
    metrics = [m for m in WEIGHT_FREE if m.world == world.NAME]
    enlarged = np.ascontiguousarray(frames).repeat(SCALE, 1).repeat(SCALE, 2)
    clip = clip_of(enlarged, 16, world.caption(classes), SCALE, world.NAME, metrics)
    cut = windows(clip.frames, 16, SECONDS)
    return {name: values for metric in metrics for name, values in metric.score(clip, cut).items()}


# ---- the crowd ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_real_crowd_is_right_after_its_file(seed: int, tmp_path: Any) -> None:
    classes = crowd.random_classes(1, torch.Generator().manual_seed(seed))[0].tolist()
    with VideoWriter(tmp_path / "a.mp4", 32, 32, fps=16, pixel_scale=SCALE) as writer:
        writer.write(rendered(crowd, classes, 180, seed))
    frames, _ = read_video(tmp_path / "a.mp4")
    found = scores(crowd, frames[:, ::SCALE, ::SCALE], classes)
    for name in ("on_time", "empty_stage", "subject_shape"):
        np.testing.assert_array_equal(found[name], 1, err_msg=name)
    assert (found["place_error"] < 0.1).all()
    assert (found["identity_drift"] < 0.02).all()
    assert np.isnan(found["recall_error"][0]) or found["recall_error"][0] < 0.02  # the second visit begins in it
    assert (found["recall_error"][1:] < 0.02).all()


def test_a_crowd_that_stands_still_is_not_on_time() -> None:
    video = rendered(crowd, CROWD, 4)[-1:].repeat(180, 0)
    found = scores(crowd, video, CROWD)
    assert (found["on_time"] <= 0.5).all()  # the true ones pass by where they stand, on one of two sides
    np.testing.assert_array_equal(found["empty_stage"], 0)
    assert (found["place_error"] > 8).all()
    np.testing.assert_array_equal(found["subject_shape"], 1)


def test_a_late_crowd_is_late_by_so_many_pixels() -> None:
    video = rendered(crowd, CROWD, 186)
    late = scores(crowd, video[6:], CROWD)
    np.testing.assert_allclose(late["place_error"], 6, atol=0.2)
    np.testing.assert_array_equal(late["on_time"], 0)
    back = scores(crowd, video[120::-1], CROWD)  # time runs backwards: everyone is somewhere else
    assert (back["on_time"][:2] < 0.5).all()


def test_a_subject_that_returns_in_another_shade_is_told_from_one_that_drifts() -> None:
    """Jump: at the second return by .3 of green. Drift: by .1 at every one."""
    base = torch.tensor([[[0.9, 0.0, 0.1], [0.1, 0.1, 0.9]]])
    rounds = [rendered(crowd, CROWD, 240, rgb=base + torch.tensor([0.0, g, 0.0])) for g in (0.0, 0.05, 0.1, 0.15)]
    visit = [slice(0, 42), slice(42, 102), slice(102, 162), slice(162, 222)]  # they are away around frame 42, 102 ...
    jump, drift = rounds[0].copy(), rounds[0].copy()
    for number, part in enumerate(visit):
        jump[part] = rounds[3 if number >= 2 else 0][part]
        drift[part] = rounds[number][part]
    jumped, drifted = (scores(crowd, video[:222], CROWD) for video in (jump, drift))
    np.testing.assert_allclose(jumped["identity_drift"][[0, 3]], [0, 0.15], atol=0.01)
    np.testing.assert_allclose(drifted["identity_drift"][[0, 3]], [0, 0.15], atol=0.03)
    # Windows of a round see the end of one visit and the beginning of the next.
    assert jumped["recall_error"][1] < 0.15
    assert jumped["recall_error"][2] > 0.05 > jumped["recall_error"][3]
    np.testing.assert_allclose(drifted["recall_error"][1:], 0.05, atol=0.01)


def test_another_subject_in_the_returning_ones_place_is_missing() -> None:
    right, wrong = rendered(crowd, CROWD, 120), rendered(crowd, [0, 2, 2, 4, 0, 0], 120)  # the disc comes back green
    right[45:] = wrong[45:]
    found = scores(crowd, right, CROWD)
    np.testing.assert_allclose(found["on_time"], [1 - 0.5 / 2, 0.5], atol=0.26)
    assert found["on_time"][1] == 0.5
    swapped = scores(crowd, rendered(crowd, [2, 0, 0, 4, 0, 0], 120), CROWD)
    np.testing.assert_array_equal(swapped["subject_shape"], 0)
    np.testing.assert_array_equal(swapped["on_time"], 1)


def test_an_empty_crowd_has_nothing_but_its_absence() -> None:
    found = scores(crowd, np.full((120, 32, 32, 3), 90, np.uint8), CROWD)
    np.testing.assert_array_equal(found["on_time"], 0)
    np.testing.assert_array_equal(found["empty_stage"], 1)
    for name in ("place_error", "identity_drift", "subject_shape", "recall_error"):
        assert np.isnan(found[name]).all(), name


# ---- the pan -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_a_real_pan_is_right_after_its_file(seed: int, tmp_path: Any) -> None:
    classes = pan.random_classes(1, torch.Generator().manual_seed(seed))[0].tolist()
    with VideoWriter(tmp_path / "a.mp4", 32, 16, fps=16, pixel_scale=SCALE) as writer:
        writer.write(rendered(pan, classes, 240, seed))
    frames, _ = read_video(tmp_path / "a.mp4")
    found = scores(pan, frames[:, ::SCALE, ::SCALE], classes)
    np.testing.assert_allclose(found["pan_progress"], 1, atol=0.02)
    assert (found["landmarks"] == 1).all()
    assert (found["landmark_kept"] == 1).all()
    assert (found["landmark_shape"] > 0.98).all()
    assert (found["novelty"] >= 0.79).all()  # 5 landmarks a window, one may come one frame after its end
    assert found["novelty"].mean() > 0.9
    assert (found["scenery_drift"] < 0.01).all()


def test_a_camera_backwards_at_double_speed_and_standing() -> None:
    video = rendered(pan, PAN, 240)
    for spoilt, progress in ((video[::-1], -1), (video[::2], 2), (video[:1].repeat(120, 0), 0)):
        found = scores(pan, spoilt, PAN)
        np.testing.assert_allclose(found["pan_progress"], progress, atol=0.03)
    np.testing.assert_array_equal(scores(pan, video[:1].repeat(120, 0), PAN)["novelty"], 0)
    turned = scores(pan, video, [1, 0, 1, 0, 0])  # the caption says left
    np.testing.assert_allclose(turned["pan_progress"], -1, atol=0.03)
    assert scores(pan, video[::-1], PAN)["novelty"][1:].max() == 0  # what it comes back to is not new


def test_a_landscape_that_begins_again_is_not_new() -> None:
    """A round of 8 landmarks, 96 frames, again and again; its seam gives a few runs that no round has."""
    video = rendered(pan, PAN, 96 + 12)[:96]
    again = np.concatenate([video] * 4)
    found = scores(pan, again, PAN)
    assert found["novelty"][0] > 0.75
    assert (found["novelty"][3:] <= 0.2).all()
    whole = scores(pan, rendered(pan, PAN, 384), PAN)
    assert whole["novelty"][3:].mean() > 0.9


def test_grey_landmarks_are_neither_there_nor_new() -> None:
    video = rendered(pan, PAN, 120)
    luma = video[:, :13].mean(-1, keepdims=True)
    grey = video.copy()
    grey[:, :13] = (0.85 * luma + 0.15 * video[:, :13]).astype(np.uint8)
    found = scores(pan, grey, PAN)
    np.testing.assert_array_equal(found["landmarks"], 0)
    np.testing.assert_array_equal(found["novelty"], 0)
    assert np.isnan(found["landmark_kept"]).all()


def test_landmarks_that_change_in_view_are_not_kept() -> None:
    """Red and blue change places at frame 60, green and the rest stay."""
    video = rendered(pan, PAN, 120, seed=3)
    spoilt = video.copy()
    spoilt[60:, :13] = spoilt[60:, :13, :, ::-1]
    kept, changed = (scores(pan, each, PAN)["landmark_kept"] for each in (video, spoilt))
    np.testing.assert_array_equal(kept, 1)
    assert changed[0] > 0.98  # but for one whose first frames, which tell its colour, are on both sides of the change
    assert changed[1] < 0.97


def test_other_landmarks_are_not_the_captions() -> None:
    video = rendered(pan, [0, 2, 0, 0, 0], 60)  # low domes
    for classes, share in (([0, 2, 0, 0, 0], 1), ([1, 2, 0, 0, 0], 0), ([0, 0, 0, 0, 0], 0), ([0, 1, 0, 0, 0], 0)):
        np.testing.assert_allclose(scores(pan, video, classes)["landmark_shape"], share, atol=0.02)


def test_a_colour_shift_drifts_by_its_amount() -> None:
    video = rendered(pan, PAN, 120) // 2
    video[60:] += np.array([9, 12, 20], np.uint8)  # length 25
    np.testing.assert_allclose(scores(pan, video, PAN)["scenery_drift"], [0, 25 / 255], atol=2e-3)


def test_novelty_of_chance_is_what_its_description_says() -> None:
    """In 2 s windows over a minute, by the world's own colours."""
    late = []
    for seed in range(6):
        frames = rendered(pan, PAN, 957, seed)
        clip = clip_of(frames, 16, pan.caption(PAN), 1, pan.NAME, [PanNovelty()])
        late.append(PanNovelty().score(clip, windows(957, 16, 2.0))["novelty"][-9:])
    assert 0.85 < np.mean(late) < 1.0


def test_frames_of_another_size_and_other_prompts_are_refused() -> None:
    for world, said in ((crowd, "32 x 32"), (pan, "16 x 32")):
        assert not [m.name for m in WEIGHT_FREE if m.world == world.NAME and applies(m, "tiny")]
        metrics = [m for m in WEIGHT_FREE if m.world == world.NAME]
        for shape, prompt, message in (((8, 16, 16, 3), world.caption(CROWD if world is crowd else PAN), said),
                                       ((8, world.HEIGHT, world.WIDTH, 3), "a cat", "a cat")):  # fmt: skip
            clip = clip_of(np.zeros(shape, np.uint8), 16, prompt, 1, world.NAME, metrics)
            with pytest.raises(ValueError, match=message):
                metrics[0].score(clip, windows(8, 16, 0.5))
