"""More of what is known of metrics of a video's course: which end of a scale is good, how small a difference counts."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from clips import clip_of
from numpy.typing import NDArray

from eval.measure.metric import Chunks
from eval.measure.watch import WindowMetric
from eval.measure.windows import FloatArray, windows
from eval.metrics.pixels.hue import Hue
from eval.metrics.time.coherence import Coherence
from eval.metrics.time.joints import Joints, window_joints
from eval.metrics.time.motion_kept import MotionKept
from eval.metrics.time.prompt_distance import PromptDistance

FPS = 8


def found(metric: WindowMetric, frames: NDArray[np.uint8], seconds: float = 2.0) -> dict[str, FloatArray]:
    scored = metric.score(clip_of(frames, FPS, metrics=[metric]), windows(len(frames), FPS, seconds))
    return {name: np.asarray(values) for name, values in scored.items()}


def slid(steps: NDArray[np.integer]) -> NDArray[np.uint8]:
    """A smooth texture that moves by so many pixels into each frame."""
    noise = cv2.GaussianBlur(np.random.default_rng(1).normal(0, 1, (96, 96)).astype(np.float32), (0, 0), 3)
    grey = ((noise - noise.min()) / (noise.max() - noise.min()) * 255).astype(np.uint8)
    return np.stack([np.roll(grey, int(at), 1)[:64, :64, None].repeat(3, 2) for at in np.cumsum(steps)])


def painted(hues: list[int]) -> NDArray[np.uint8]:
    """A frame of each of OpenCV's hues, full colours."""
    hsv = np.zeros((len(hues), 8, 8, 3), np.uint8)
    hsv[..., 0], hsv[..., 1:] = np.array(hues)[:, None, None], 255
    return np.stack([cv2.cvtColor(frame, cv2.COLOR_HSV2RGB) for frame in hsv])


MOVES, STOPS = np.full(80, 3), np.where(np.arange(80) < 40, 3, 0)


@pytest.mark.parametrize(
    ("metric", "good", "bad"),
    [
        (Hue(), painted([30] * 16), painted([30] * 8 + [90] * 8)),
        (MotionKept(), slid(MOVES), slid(STOPS)),
    ],
    ids=["hue", "motion kept"],
)  # fmt: skip
def test_the_better_video_is_better_in_the_direction_that_tables_mark(
    metric: WindowMetric, good: NDArray[np.uint8], bad: NDArray[np.uint8]
) -> None:
    for value in metric.values:
        better, worse = (float(found(metric, frames, 1.0)[value.name][-1]) for frames in (good, bad))
        assert value.higher_is_better is not None
        assert (better > worse) == value.higher_is_better, (value.name, better, worse)
        assert value.whole == (len(found(metric, good, 1.0)[value.name]) == 1)


def test_prompts_told_apart_are_the_better() -> None:
    retrieval = {value.name: value for value in PromptDistance.values}["prompt_retrieval"]
    assert retrieval.higher_is_better


def test_hues_two_degrees_apart_are_two_hues_and_closer_ones_are_one() -> None:
    assert found(Hue(), painted([40, 42]))["hue_similarity_last"].tolist() == [0]
    frames = painted([40, 40])
    frames[1] = np.clip(frames[1].astype(int) - [1, 0, 0], 0, 255).astype(np.uint8)  # a level, within a hue
    assert found(Hue(), frames)["hue_similarity_last"].tolist() == [100]


def test_a_jump_of_the_motion_at_every_window_is_seen_as_flow() -> None:
    """Frames 81 and 165: the window of 21 latent frames is full, and full again; every chunk between is like the others."""
    steps = np.full(200, 1)
    steps[window_joints(Chunks(), 200) > 0] = 4
    jumps = found(Joints(), slid(steps), 25.0)
    np.testing.assert_allclose(jumps["window_flow_jump"], 3 * FPS, rtol=0.2)
    np.testing.assert_allclose(jumps["chunk_flow_jump"], 2 * 3 * FPS / 16, rtol=0.25)  # two of sixteen joints


@pytest.mark.parametrize(("amplitude", "seen"), [(0, False), (2, True)])
def test_pictures_of_less_than_a_grey_level_have_no_texture(amplitude: int, seen: bool) -> None:
    """A chequerboard of two levels a and -a has the standard deviation a."""
    board = (np.indices((16, 16)).sum(0) % 2 * 2 - 1) * amplitude + 100
    frames = np.broadcast_to(board[None, ..., None], (32, 16, 16, 3)).astype(np.uint8)
    assert (~np.isnan(found(Coherence(), np.ascontiguousarray(frames), 4.0)["coherence_2s"])).all() == seen


def test_what_is_finer_than_a_sixteenth_of_the_short_side_is_no_texture() -> None:
    """Stripes of one pixel average out over the four of a compared one; stripes of eight do not."""
    for width, seen in ((1, False), (8, True)):
        stripes = np.arange(64) // width % 2 * 100 + 50
        frames = np.broadcast_to(stripes[None, None, :, None], (32, 64, 64, 3)).astype(np.uint8)
        values = found(Coherence(), np.ascontiguousarray(frames), 4.0)["coherence_2s"]
        assert (~np.isnan(values)).all() == seen
