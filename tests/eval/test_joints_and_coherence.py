"""Metrics of a video's course against pictures of which the answer is known."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
from clips import clip_of, watch_of
from numpy.typing import NDArray

from eval.measure.metric import Chunks, ClipInfo
from eval.measure.watch import Clip, WindowMetric
from eval.measure.windows import windows
from eval.metrics.pixels.hue import Hue
from eval.metrics.time.coherence import Coherence
from eval.metrics.time.joints import Joints, chunk_joints, excess, window_joints
from eval.metrics.time.motion_kept import MotionKept
from eval.videos import chunks_of

FPS = 16


def watched(frames: NDArray[np.uint8], metric: WindowMetric, fps: float = FPS, chunks: Chunks | None = None) -> Clip:
    clip = clip_of(frames, fps, metrics=[metric])
    return clip if chunks is None else Clip(replace(clip.info, chunks=chunks), clip.frames, clip.noted, clip.refused)


def grey(levels: NDArray[np.integer]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(np.broadcast_to(levels.astype(np.uint8)[:, None, None, None], (len(levels), 8, 8, 3)))


def zigzag(steps: NDArray[np.integer]) -> NDArray[np.integer]:
    """Levels around 100 that change by `steps`, up and down in turn where a step is not 0."""
    turn, level, found = 1, 100, []
    for step in steps:
        level += turn * int(step)
        turn = -turn if step else turn
        found.append(level)
    return np.array(found)


def texture(size: int = 96) -> NDArray[np.uint8]:
    smooth = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (size, size)).astype(np.float32), (0, 0), 3)
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min()) * 255
    return np.repeat(smooth.astype(np.uint8)[..., None], 3, 2)


def slid(steps: NDArray[np.integer]) -> NDArray[np.uint8]:
    """A texture that moves by so many pixels into each frame."""
    picture = texture()
    return np.stack([np.roll(picture, int(shift), 1)[:64, :64] for shift in np.cumsum(steps)])


# ---- joints --------------------------------------------------------------------------------------------------------


def test_where_the_joints_of_self_forcing_are() -> None:
    """Chunks of 3 latent frames: 9 frames, then 12 each; the window of 21 is full after 81 frames, then every 84."""
    assert np.flatnonzero(chunk_joints(Chunks(), 60)).tolist() == [9, 21, 33, 45, 57]
    assert np.flatnonzero(window_joints(Chunks(), 260)).tolist() == [81, 165, 249]


def test_where_the_joints_of_other_layouts_are() -> None:
    assert np.flatnonzero(chunk_joints(Chunks(1, 9, 4), 20)).tolist() == [1, 5, 9, 13, 17]
    assert np.flatnonzero(chunk_joints(Chunks(4, 8, 2), 30)).tolist() == [7, 15, 23]
    assert np.flatnonzero(window_joints(Chunks(4, 8, 2), 40)).tolist() == [15, 31]
    assert np.flatnonzero(window_joints(Chunks(3, 10, 4), 130)).tolist() == [
        45,
        81,
        117,
    ]  # latent 12, 21, 30: the first at or after
    assert not chunk_joints(Chunks(), 9).any()


def test_a_jump_of_brightness_at_every_joint_and_a_larger_one_at_every_window() -> None:
    steps = np.full(200, 1)
    steps[9::12] = 6
    steps[[81, 165]] = 16
    found = Joints().score(watched(grey(zigzag(steps)), Joints()), windows(200, FPS, 12.5))
    joints = len(range(9, 200, 12))
    np.testing.assert_allclose(found["chunk_brightness_jump"], (5 * joints + 2 * 10) / joints)
    np.testing.assert_allclose(found["window_brightness_jump"], 10)
    np.testing.assert_allclose(found["chunk_flow_jump"], 0, atol=1e-6)


@pytest.mark.parametrize(
    "levels",
    [
        np.full(180, 90),  # a still
        np.arange(180),  # a fade
        100 + 20 * ((np.arange(180) + 3) // 4 % 2),  # the decoder's own rhythm: a step into every latent frame
    ],
)
def test_a_video_without_seams_has_none(levels: NDArray[np.integer]) -> None:
    found = Joints().score(watched(grey(levels), Joints()), windows(180, FPS, 180 / FPS))
    for name in ("chunk_brightness_jump", "window_brightness_jump"):
        np.testing.assert_allclose(found[name], 0, atol=1e-9)


def test_noise_has_no_seams_on_average() -> None:
    steps = np.abs(np.random.default_rng(0).normal(0, 10, 120_000))
    for joints, apart in ((chunk_joints(Chunks(), len(steps)), 4), (window_joints(Chunks(), len(steps)), 12)):
        found = excess(steps, joints, apart)
        found = found[~np.isnan(found)]
        assert abs(found.mean()) < 4 * found.std() / np.sqrt(len(found)) < 1


def test_a_jump_of_the_motion_is_seen_as_flow() -> None:
    steps = np.full(90, 1)
    steps[9::12] = 3
    found = Joints().score(watched(slid(steps), Joints()), windows(90, FPS, 90 / FPS))
    np.testing.assert_allclose(found["chunk_flow_jump"], 2 * FPS, rtol=0.15)


def test_joints_are_those_of_the_video_s_own_chunks() -> None:
    steps = np.full(120, 1)
    steps[7::8] = 5  # chunks of 4 latent frames of 2 frames each
    clip = watched(grey(zigzag(steps)), Joints())
    own, other = (
        Joints().score(Clip(replace(clip.info, chunks=chunks), clip.frames, clip.noted, clip.refused), windows(120, FPS, 7.5))
        for chunks in (Chunks(4, 8, 2), Chunks())
    )  # fmt: skip
    np.testing.assert_allclose(own["chunk_brightness_jump"], 4)
    assert abs(other["chunk_brightness_jump"][0]) < 2


def test_windows_without_a_joint_and_chunks_without_an_inside_are_missing() -> None:
    clip = watched(grey(zigzag(np.full(60, 2))), Joints())
    found = Joints().score(clip, windows(60, FPS, 0.5))
    has = [any(8 * i <= joint < 8 * i + 8 for joint in (9, 21, 33, 45, 57)) for i in range(8)]
    assert (~np.isnan(found["chunk_brightness_jump"])).tolist() == has
    framewise = Joints().score(watched(grey(np.arange(60)), Joints(), chunks=Chunks(1, 1)), windows(60, FPS, 2.0))
    assert all(np.isnan(values).all() for values in framewise.values())


def test_a_run_says_how_its_videos_were_made() -> None:
    record = {"identity": {"chunk_frames": 1, "retention": {"window_frames": 12}}, "geometry": {"temporal_stride": 8}}
    assert chunks_of(record) == Chunks(1, 12, 8)
    unknown = ({}, {"identity": None}, json.loads('{"identity": {"chunk_frames": true, "retention": []}}'))
    assert {chunks_of(nothing) for nothing in unknown} == {Chunks()}
    with pytest.raises(ValueError, match="at least 1"):
        Chunks(0)


# ---- coherence -----------------------------------------------------------------------------------------------------


def noise(frames: int, size: int = 16) -> NDArray[np.uint8]:
    return np.random.default_rng(3).integers(0, 256, (frames, size, size, 3), dtype=np.uint8)


def test_a_loop_is_coherent_at_its_period_alone() -> None:
    """A loop of 2 s at 4 frames a second: like itself after 2, 8 and 32 s, unlike after half a second."""
    loop = np.tile(noise(8), (18, 1, 1, 1))
    found = Coherence().score(watched(loop, Coherence(), 4), windows(144, 4, 2.0))
    for seconds in (2, 8, 32):
        values = found[f"coherence_{seconds}s"]
        first = seconds // 2
        assert np.isnan(values[:first]).all()
        np.testing.assert_allclose(values[first:], 1, atol=1e-5)
    assert abs(np.nanmean(found["coherence_0.5s"])) < 0.05


def test_coherence_falls_with_the_distance_as_the_mixture_says() -> None:
    """Frame t = still * a + new * b every 4 frames: correlation a^2 / (a^2 + b^2) between any two different ones."""
    fresh = noise(36).astype(np.float64).repeat(4, 0)
    mixed = (0.8 * noise(1) + 0.2 * fresh).round().astype(np.uint8)
    found = Coherence().score(watched(mixed, Coherence(), 4), windows(144, 4, 36.0))
    want = 0.8**2 / (0.8**2 + 0.2**2)
    for seconds in ("2", "8", "32"):
        np.testing.assert_allclose(found[f"coherence_{seconds}s"], want, atol=0.01)
    np.testing.assert_allclose(found["coherence_0.5s"], (1 + want) / 2, atol=0.01)  # half the pairs are one picture


def test_brightness_is_no_incoherence_and_flat_pictures_have_none() -> None:
    still = (noise(1) // 2).repeat(12, 0)
    still[6:] += 60
    found = Coherence().score(watched(still, Coherence(), 4), windows(12, 4, 3.0))
    np.testing.assert_allclose(found["coherence_2s"], 1, atol=1e-5)
    flat = Coherence().score(watched(grey(np.arange(12)), Coherence(), 4), windows(12, 4, 3.0))
    assert all(np.isnan(values).all() for values in flat.values())


def test_coherence_keeps_half_a_minute_of_small_pictures_however_long_the_video() -> None:
    watch = watch_of(ClipInfo(256, 4, 16, 16), [Coherence()])
    (look,) = watch._looks.values()
    for _ in range(5):
        watch.add(noise(60))
    assert len(look._past) == 32 * 4  # type: ignore[attr-defined]


# ---- hues ----------------------------------------------------------------------------------------------------------


def colours(*rows: list[tuple[int, int, int]]) -> NDArray[np.uint8]:
    """Frames of vertical stripes."""
    return np.stack([np.tile(np.array(row, np.uint8).repeat(4, 0), (8, 1, 1)) for row in rows])


RED, GREEN, BLUE = (255, 0, 0), (0, 255, 0), (0, 0, 255)


def test_hues_in_common_are_shares_of_pixels() -> None:
    frames = colours([RED, GREEN], [RED, GREEN], [GREEN, RED], [RED, BLUE], [BLUE, BLUE], [GREEN, GREEN])
    found = Hue().score(watched(frames, Hue(), 2), windows(6, 2, 1.0))
    np.testing.assert_allclose(found["hue_similarity"], [100, 75, 25])
    np.testing.assert_array_equal(found["hue_similarity_last"], [50])


def test_brightness_and_saturation_are_no_hues() -> None:
    frames = colours([(200, 40, 40)], [(100, 20, 20)], [(200, 160, 160)], [(40, 200, 40)])
    found = Hue().score(watched(frames, Hue(), 1), windows(4, 1, 1.0))
    np.testing.assert_allclose(found["hue_similarity"], [100, 100, 100, 0])


# ---- motion kept ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "want"),
    [(3, 3, 1), (3, 0, 0), (0, 3, np.nan), (0, 0, np.nan), (1, 1, np.nan)],
)  # fmt: skip
def test_motion_that_is_kept_lost_or_never_there(first: int, last: int, want: float) -> None:
    """8 frames a second of 64 pixels: fast is more than 12 pixels a second, 1.5 a frame."""
    steps = np.where(np.arange(80) < 40, first, last)
    found = MotionKept().score(watched(slid(steps), MotionKept(), 8), windows(80, 8, 2.0))["motion_kept"]
    np.testing.assert_array_equal(found, [want])


@pytest.mark.parametrize(("moving", "want"), [(11, 1), (8, 0)])
def test_a_quarter_of_the_frames_has_to_move(moving: int, want: float) -> None:
    steps = np.full(80, 3)
    steps[40:] = 0
    steps[40 : 40 + moving] = 3
    found = MotionKept().score(watched(slid(steps), MotionKept(), 8), windows(80, 8, 10.0))["motion_kept"]
    np.testing.assert_array_equal(found, [want])


def test_motion_kept_needs_two_ends() -> None:
    found = MotionKept().score(watched(slid(np.full(79, 3)), MotionKept(), 8), windows(79, 8, 2.0))["motion_kept"]
    assert np.isnan(found).all()
