"""Which clips a protocol cuts, by what must hold of them."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.measure.windows import Window
from eval.protocol import NAMES, Protocol, long_clips

frame_rates = st.floats(1, 120, allow_nan=False)


@given(st.integers(1, 2000), frame_rates)
def test_long_clips_have_two_whole_seconds_and_reach_the_end(frames: int, fps: float) -> None:
    clips, length = long_clips(frames, fps), 2 * int(fps)
    assert clips[0].start == 0
    assert clips[-1].end == frames
    if frames < length:
        assert len(clips) == 1
        return
    assert {clip.end - clip.start for clip in clips} == {length}
    assert len(clips) == -(-frames // length)
    whole = clips if frames % length == 0 else clips[:-1]
    assert [clip.start for clip in whole] == [length * k for k in range(len(whole))]
    for before, after in itertools.pairwise(clips):
        assert before.start < after.start <= before.end


@given(st.integers(1, 500), frame_rates)
def test_times_are_frames_over_the_frame_rate(frames: int, fps: float) -> None:
    for clip in long_clips(frames, fps):
        assert clip == Window(clip.start, clip.end, clip.start / fps, clip.end / fps)


def test_a_remainder_becomes_a_clip_that_overlaps() -> None:
    assert [(c.start, c.end) for c in long_clips(80, 16.0)] == [(0, 32), (32, 64), (48, 80)]
    assert [(c.start, c.end) for c in long_clips(64, 16.9)] == [(0, 32), (32, 64)]
    assert [(c.start, c.end) for c in long_clips(32, 16.0)] == [(0, 32)]
    assert [(c.start, c.end) for c in long_clips(31, 16.0)] == [(0, 31)]
    assert [(c.start, c.end) for c in long_clips(33, 16.0)] == [(0, 32), (1, 33)]


@pytest.mark.parametrize("fps", [0.0, 0.99, -16.0, math.nan])
def test_less_than_one_frame_a_second_is_refused(fps: float) -> None:
    with pytest.raises(ValueError, match="less than one frame a second"):
        long_clips(10, fps)
    assert long_clips(3, 1.0)[0].end == 2


@given(st.integers(2, 500), frame_rates, st.sampled_from(NAMES))
def test_every_protocol_cuts_what_it_says(frames: int, fps: float, name: str) -> None:
    protocol = Protocol(name, 1.5)
    clips = protocol.clips(frames, fps)
    if name == "vbench":
        assert clips == [Window(0, frames, 0.0, frames / fps)]
    elif name == "windows":
        assert all(before.end == after.start for before, after in itertools.pairwise(clips))
        assert all(abs((c.end - c.start) / fps - 1.5) <= 1 / fps + 1e-9 for c in clips[:-1])
    elif name == "vbench_last":
        assert clips == long_clips(frames, fps)[-1:]
    else:
        assert clips == long_clips(frames, fps)


def test_what_belongs_to_a_scores_identity_and_what_is_encoded() -> None:
    assert {name: Protocol(name, 3.0).length_key for name in NAMES} == {
        name: 3.0 * (name == "windows") for name in NAMES
    }
    assert [name for name in NAMES if Protocol(name).encodes] == ["vbench_long"]
    assert Protocol() == Protocol("windows", 2.0)
    for name in NAMES:
        assert Protocol(name).clip_fps(23.976) == (23.976 if name in ("vbench", "windows") else 23)


def test_uneven_frames_are_refused_where_time_cuts_and_told_where_it_does_not() -> None:
    assert NAMES == ("vbench", "vbench_long", "vbench_long_memory", "vbench_last", "windows")
    with pytest.raises(ValueError, match=r"a\.mp4 has no even frame rate \(why\).*ffmpeg -i a\.mp4 -vf fps=16"):
        Protocol("windows").without_times(Path("x/a.mp4"), "why")
    for name in NAMES[:-1]:
        assert f"not even (why); protocol={name} goes by" in Protocol(name).without_times(Path("a.mp4"), "why")


def test_unknown_protocols_are_refused_with_the_known_ones() -> None:
    with pytest.raises(ValueError, match=r"protocol='vbench2' is unknown; there are vbench, vbench_long, .*, windows"):
        Protocol("vbench2")
