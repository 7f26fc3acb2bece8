from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
from clips import clip_of
from numpy.typing import NDArray

from deepforcing.tiny.sprites import COLOURS
from deepforcing.tiny.world import DIRECTIONS, PERIOD, RING, SHAPES
from deepforcing.video import read_video
from eval.measure.metric import applies
from eval.measure.watch import Clip, WindowMetric
from eval.measure.windows import FloatArray, windows
from eval.metrics import WEIGHT_FREE
from eval.metrics.world.background_colour import BackgroundColour
from eval.metrics.world.background_texture import BackgroundTexture
from eval.metrics.world.cover import Cover
from eval.metrics.world.motion_progress import MotionProgress
from eval.metrics.world.presence import Presence
from eval.metrics.world.regions import hue
from eval.metrics.world.shape import Shape
from eval.metrics.world.sprite import find_sprite
from eval.metrics.world.sprite_colour import SpriteColour
from experiments.tables.table import Column

Frames = NDArray[np.uint8]
Rendered = Callable[[int, int], tuple[str, Frames]]
MakeClip = Callable[[Frames, str], Clip]


def scores(metric: WindowMetric, clip: Clip) -> Mapping[str, FloatArray]:
    return metric.score(clip, windows(clip.frames, clip.info.fps, 1.0))


def other(prompt: str, words: tuple[str, ...]) -> str:
    """The prompt with its word of a group replaced by the next one."""
    return " ".join(words[(words.index(w) + 1) % len(words)] if w in words else w for w in prompt.split())


def background_only(frames: Frames) -> Frames:
    """The same background without a sprite: it covers no pixel for half a turn, so the median over one shows none."""
    still = np.median(frames[:PERIOD], axis=0).astype(np.uint8)
    return np.broadcast_to(still, frames.shape).copy()


@pytest.mark.parametrize("seed", range(6))
def test_a_real_video_is_right_after_its_file(seed: int, make_run: Callable[..., Path]) -> None:
    run = make_run({"p-s0": (seed, 112)})
    record = json.loads((run / "samples" / "p-s0.json").read_text())
    frames, fps = read_video(run / "samples" / "p-s0.mp4")
    clip = clip_of(frames, fps, record["prompt"], 8, "tiny")
    found = {name: values for m in WEIGHT_FREE if applies(m, "tiny") for name, values in scores(m, clip).items()}
    assert (found["presence"] == 1).all()
    assert (found["shape"] >= 0.98).all()
    assert (found["shape_match"] > 0.99).all()
    np.testing.assert_allclose(found["progress"], 1, atol=0.02)
    assert (found["texture"] > 0.99).all()
    assert (found["sprite_drift"] < 0.01).all()
    assert (found["background_drift"] < 0.005).all()
    assert (found["sprite_hue_error"] < 0.04 * 360 + 1).all()
    assert (found["background_error"] < 0.06 * 3**0.5 + 0.03).all()
    np.testing.assert_allclose(found["cover"][5:], RING, atol=0.05)


def test_the_sprite_is_found_where_it_is(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(3, 40)
    sprite = find_sprite(tiny_clip(frames, prompt))
    assert sprite.seen.all()
    np.testing.assert_allclose(np.hypot(sprite.x - 8, sprite.y - 8), RING, atol=0.1)
    step = np.diff(np.unwrap(sprite.angle))
    np.testing.assert_allclose(np.abs(step), 2 * np.pi / PERIOD, atol=0.03)


def test_the_largest_of_several_things_is_the_sprite(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(3, 16)
    clean = find_sprite(tiny_clip(frames, prompt))
    spotted = frames.copy()
    far = [(0, 0), (0, 14), (14, 0), (14, 14)]
    y, x = max(far, key=lambda c: float(np.hypot(clean.y - c[0] - 1, clean.x - c[1] - 1).min()))
    spotted[:, y : y + 2, x : x + 2] = (255, 0, 255)
    found = find_sprite(tiny_clip(spotted, prompt))
    np.testing.assert_allclose(found.x, clean.x, atol=0.05)
    np.testing.assert_allclose(found.y, clean.y, atol=0.05)
    assert not found.background[:, y : y + 2, x : x + 2].any()


def test_hue_of_the_six_colours() -> None:
    rgb = np.array([[1, 0, 0], [1, 1, 0], [0, 1, 0], [0, 1, 1], [0, 0, 1], [1, 0, 1], [1, 1, 1]], dtype=float)
    np.testing.assert_allclose(hue(rgb), [0, 1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6, np.nan])


@pytest.mark.parametrize("blue", [0, 40, 80])
def test_hue_error_is_measured_round_the_circle(blue: int, tiny_clip: MakeClip) -> None:
    frames = np.full((16, 16, 16, 3), 128, np.uint8)
    frames[:, 4:10, 4:10] = (255, 0, blue)  # hue -blue / 255 sixths of a turn
    clip = tiny_clip(frames, "a red disc starts at the top and circles clockwise on a grey background")
    np.testing.assert_allclose(scores(SpriteColour(), clip)["sprite_hue_error"], 60 * blue / 255, atol=0.01)
    assert (scores(Presence(), clip)["presence"] == 1).all()


def test_noise_does_not_hide_the_sprite(rendered: Rendered, tiny_clip: MakeClip) -> None:
    rng = np.random.default_rng(0)
    for seed in range(6):
        prompt, frames = rendered(seed, 48)
        noisy = (frames + rng.normal(0, 20, frames.shape)).round().clip(0, 255).astype(np.uint8)
        clip = tiny_clip(noisy, prompt)
        assert (scores(Presence(), clip)["presence"] == 1).all()
        assert (scores(Shape(), clip)["shape"] == 1).all()
        np.testing.assert_allclose(scores(MotionProgress(), clip)["progress"], 1, atol=0.1)


def test_presence_counts_frames_with_the_captions_colour(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(1, 80)
    half = frames.copy()
    half[8:16] = background_only(frames)[8:16]
    assert scores(Presence(), tiny_clip(half, prompt))["presence"].tolist() == [0.5, 1, 1, 1, 1]
    assert (scores(Presence(), tiny_clip(frames, other(prompt, COLOURS)))["presence"] == 0).all()


def test_without_a_sprite_what_it_does_is_missing_and_presence_zero(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(1, 96)
    clip = tiny_clip(background_only(frames), prompt)
    assert (scores(Presence(), clip)["presence"] == 0).all()
    for metric in (MotionProgress(), Shape(), SpriteColour(), Cover()):
        for values in scores(metric, clip).values():
            assert np.isnan(values).all()
    assert (scores(BackgroundTexture(), clip)["texture"] > 0.99).all()


def test_progress_backwards_frozen_double_and_against_the_caption(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(2, 160)

    def progress(video: Frames, text: str = prompt) -> FloatArray:
        return scores(MotionProgress(), tiny_clip(np.ascontiguousarray(video), text))["progress"]

    np.testing.assert_allclose(progress(frames), 1, atol=0.02)
    np.testing.assert_allclose(progress(frames[::-1]), -1, atol=0.02)
    np.testing.assert_allclose(progress(frames[::2]), 2, atol=0.03)
    np.testing.assert_allclose(progress(frames, other(prompt, DIRECTIONS)), -1, atol=0.02)
    np.testing.assert_array_equal(progress(np.repeat(frames[:1], 32, 0)), 0)


def test_jitter_and_roll_back_are_no_progress(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(2, 80)
    order = np.random.default_rng(0).integers(0, 4, 481)  # jitters over three steps
    jitter = scores(MotionProgress(), tiny_clip(frames[order], prompt))["progress"]
    assert abs(np.nanmean(jitter)) < 0.02
    chunks = np.tile(np.arange(12), 8)  # every chunk of 12 frames runs and then jumps back to its start
    back = scores(MotionProgress(), tiny_clip(frames[chunks], prompt))["progress"]
    np.testing.assert_allclose(
        (back * [15, 16, 16, 16, 16, 16]).sum(), 11, atol=0.1
    )  # steps ahead of frame 0 at the end


def test_progress_leaves_frames_without_a_sprite_out(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(0, 80)
    holes = frames.copy()
    holes[20:24] = background_only(frames)[20:24]
    holes[64:80] = background_only(frames)[64:80]
    found = scores(MotionProgress(), tiny_clip(holes, prompt))["progress"]
    np.testing.assert_allclose(found[:4], 1, atol=0.02)
    assert np.isnan(found[4])


def test_a_colour_shift_of_everything_drifts_by_its_amount(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(0, 32)
    frames = frames // 2 + 30
    frames[16:] += np.array([9, 12, 20], np.uint8)  # length 25
    clip = tiny_clip(frames, prompt)
    np.testing.assert_allclose(scores(SpriteColour(), clip)["sprite_drift"], [0, 25 / 255], atol=0.01)
    np.testing.assert_allclose(scores(BackgroundColour(), clip)["background_drift"], [0, 25 / 255], atol=1e-3)
    assert scores(BackgroundTexture(), clip)["texture"][1] > 0.99


def test_background_error_is_the_distance_from_the_captions_colour(tiny_clip: MakeClip) -> None:
    frames = np.zeros((16, 16, 16, 3), np.uint8)
    frames[:] = np.round(np.array([0.55 + 0.03, 0.55 + 0.04, 0.57]) * 255).astype(np.uint8)
    prompt = "a red disc starts at the top and circles clockwise on a grey background"
    error = scores(BackgroundColour(), tiny_clip(frames, prompt))["background_error"]
    np.testing.assert_allclose(error, 0.05, atol=0.003)
    assert np.isnan(scores(BackgroundTexture(), tiny_clip(frames, prompt))["texture"]).all()


def test_texture_follows_the_correlation_of_the_noise(tiny_clip: MakeClip) -> None:
    rng = np.random.default_rng(0)
    first, second = rng.normal(0, 12, (2, 16, 16, 1))
    still = np.stack([first, 0.6 * first + 0.8 * second, -first, second])
    frames = (120 + still.repeat(16, 0)).round().clip(0, 255).astype(np.uint8).repeat(3, -1)
    prompt = "a red disc starts at the top and circles clockwise on a grey background"
    found = scores(BackgroundTexture(), tiny_clip(frames, prompt))["texture"]
    expected = np.corrcoef(still.reshape(4, -1))[0]
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_texture_that_slides_loses_its_correlation(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(5, 32)
    rolled = np.concatenate([frames[:16], np.roll(frames[16:], 5, axis=1)])
    assert scores(BackgroundTexture(), tiny_clip(rolled, prompt))["texture"][1] < 0.8


@pytest.mark.parametrize("seed", range(3))
def test_another_shape_is_not_recognised(seed: int, rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(seed, 80)
    right, wrong = (scores(Shape(), tiny_clip(frames, p)) for p in (prompt, other(prompt, SHAPES)))
    assert (right["shape"] == 1).all()
    assert (wrong["shape"] == 0).all()
    assert (wrong["shape_match"] < right["shape_match"] - 0.1).all()


def test_the_floor_of_shape_match_is_what_its_title_says(rendered: Rendered, tiny_clip: MakeClip) -> None:
    """The mean over all wrong shapes for all right ones, and the title in which tables print it."""
    found = []
    for seed in range(3):  # one of each shape
        prompt, frames = rendered(seed, 80)
        for shape in SHAPES:
            if shape not in prompt:
                wrong = " ".join(shape if word in SHAPES else word for word in prompt.split())
                found.append(scores(Shape(), tiny_clip(frames, wrong))["shape_match"].mean())
    floor = np.mean(found)
    (value,) = [value for value in Shape.values if value.name == "shape_match"]
    assert value.floor == f"wrong shape {floor:.2f}".replace("0.", ".")
    assert Column("shape_match").heading == "shape match (wrong shape .64) (correlation) ↑"


def test_cover_of_a_stuck_sprite_is_nothing(rendered: Rendered, tiny_clip: MakeClip) -> None:
    prompt, frames = rendered(0, 1)
    found = scores(Cover(), tiny_clip(np.repeat(frames, 96, 0), prompt))["cover"]
    np.testing.assert_array_equal(np.isnan(found), [True] * 4 + [False] * 2)
    np.testing.assert_allclose(found[4:], 0, atol=1e-9)


def test_frames_of_another_size_and_other_prompts_are_refused(tiny_clip: MakeClip) -> None:
    clip = clip_of(np.zeros((16, 32, 32, 3), np.uint8), 16, "a red disc", 1, "tiny")
    with pytest.raises(ValueError, match="16 x 16"):
        scores(Cover(), clip)
    with pytest.raises(ValueError, match="names no"):
        scores(Presence(), tiny_clip(np.zeros((16, 16, 16, 3), np.uint8), "a cat"))
