"""Second-generation clips: the bytes that VBench would read from VBench-Long's files."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from eval import reencode as module
from eval.measure.batch import Batch
from eval.measure.windows import Window
from eval.protocol import Protocol
from eval.reencode import Encoder, clip_frames, decoded, encode, reencode, reencoded

Frames = NDArray[np.uint8]


def moving(n: int, height: int, width: int, seed: int = 0) -> Frames:
    blocks = np.random.default_rng(seed).integers(0, 256, (height // 8 + n, width // 8 + n, 3), np.uint8)
    big = blocks.repeat(8, 0).repeat(8, 1)
    return np.stack([big[t : t + height, 2 * t : 2 * t + width] for t in range(n)])


def pixels(batches: list[Batch]) -> Frames:
    return np.concatenate([batch.frames for batch in batches])


def write_video(path: Path, frames: Frames, fps: int) -> None:
    """What torchvision.io.write_video did with its defaults; x264 kept off AVX-512, where it does not repeat itself."""
    with av.open(str(path), mode="w") as container:
        stream = container.add_stream("libx264", rate=fps, options=module._assembly())
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


@pytest.mark.parametrize(
    ("n", "height", "width", "fps"), [(40, 64, 96, 16), (9, 50, 70, 23), (2, 16, 18, 1), (1, 64, 64, 8)]
)
def test_the_bytes_are_those_of_the_file(tmp_path: Path, n: int, height: int, width: int, fps: int) -> None:
    decord = pytest.importorskip("decord")
    decord.bridge.set_bridge("native")  # vbench, in another test, may have chosen another
    frames = moving(n, height, width)
    write_video(tmp_path / "clip.mp4", frames, fps)
    reader = decord.VideoReader(str(tmp_path / "clip.mp4"), num_threads=1)
    capture, seen = cv2.VideoCapture(str(tmp_path / "clip.mp4")), []
    while (read := capture.read())[0]:
        seen.append(read[1][..., ::-1])

    batches = reencode(frames, fps)

    assert max(len(batch) for batch in batches) <= 32
    second = pixels(batches)
    np.testing.assert_array_equal(second, reader.get_batch(range(len(reader))).asnumpy())
    np.testing.assert_array_equal(second, np.stack(seen))
    assert reader.get_avg_fps() == fps
    assert 0 < np.abs(second.astype(int) - frames).mean() < 12  # another generation of the same pictures


def test_equal_frames_give_equal_bytes() -> None:
    """x264's macroblock tree for AVX-512 does not: eight calls gave six results."""
    frames = moving(32, 128, 192)
    waste, files = [], set()
    for size in range(1, 9):
        waste.append(bytes(size * 300_000))  # so that the encoder's memory lies elsewhere each time
        files.add(encode(frames, 16, threads=1))
    assert len(files) == 1


def test_slices_are_limited_by_the_height() -> None:
    """The bytes depend on the number of threads, but not above H / 64."""
    frames = moving(8, 192, 128)
    files = {threads: pixels(reencode(frames, 16, threads)).tobytes() for threads in (1, 3, 8, 16)}
    assert files[1] != files[3]
    assert files[3] == files[8] == files[16]


@pytest.mark.parametrize(("height", "width"), [(64, 95), (63, 96)])
def test_odd_sizes_are_told_in_one_line(height: int, width: int) -> None:
    with pytest.raises(ValueError, match=rf"{width} x {height} pixels.*even sizes; crop them"):
        reencode(np.zeros((2, height, width, 3), np.uint8), 16)


@pytest.mark.parametrize("fps", [0, 23.976])
def test_only_whole_frame_rates(fps: int) -> None:
    with pytest.raises(ValueError, match="whole number"):
        reencode(np.zeros((2, 64, 64, 3), np.uint8), fps)


@pytest.mark.parametrize("ahead", [1, 2])
def test_reading_ahead_changes_nothing(ahead: int) -> None:
    clips = [moving(n, 64, 96, seed=n) for n in (5, 40, 1)]
    found = [pixels(batches) for batches in reencoded(iter(clips), 8, ahead)]
    assert len(found) == 3
    for clip, second in zip(clips, found, strict=True):
        np.testing.assert_array_equal(second, pixels(reencode(clip, 8)))


def test_clips_are_made_in_another_thread_but_not_without_bound() -> None:
    made: list[str] = []

    def clips() -> Iterator[Frames]:
        for n in range(6):
            made.append(threading.current_thread().name)
            yield moving(1, 16, 16, n)

    found = reencoded(clips(), 8, ahead=2)
    next(found)
    found.close()
    assert 1 <= len(made) <= 3
    assert threading.current_thread().name not in made


def test_errors_of_the_other_thread_come_out_here() -> None:
    def clips() -> Iterator[Frames]:
        yield moving(2, 16, 16)
        raise ValueError("the video is damaged")

    found = reencoded(clips(), 8)
    assert len(next(found)[0]) == 2
    with pytest.raises(ValueError, match="the video is damaged"):
        next(found)


def test_clip_frames_cuts_batches_at_clip_borders() -> None:
    frames = moving(41, 16, 16)
    (whole,) = [pixels(reencode(frames, 8))]
    batches = reencode(frames, 8)
    assert [len(batch) for batch in batches] == [32, 9]
    clips = Protocol("vbench_long").clips(41, 8.0)
    assert [(w.start, w.end) for w in clips] == [(0, 16), (16, 32), (25, 41)]
    for clip, found in zip(clips, clip_frames(iter(batches), clips), strict=True):
        np.testing.assert_array_equal(found, whole[clip.start : clip.end])


def test_a_video_that_ends_inside_a_clip_is_told() -> None:
    batches = reencode(moving(10, 16, 16), 8)
    with pytest.raises(ValueError, match="ends after 10 of 16 frames"):
        list(clip_frames(batches, [Window(0, 8, 0, 1), Window(8, 16, 1, 2)]))


@pytest.mark.parametrize(("fps", "whole"), [(23.976, 23), (24.0, 24), (29.97, 29), (8.0, 8)])
def test_clips_have_whole_frame_rates_in_vbench_long_alone(fps: float, whole: int) -> None:
    assert Protocol("vbench_long").clip_fps(fps) == Protocol("vbench_long_memory").clip_fps(fps) == whole
    assert Protocol("vbench").clip_fps(fps) == Protocol("windows").clip_fps(fps) == fps


def test_less_than_a_frame_a_second_is_told() -> None:
    with pytest.raises(ValueError, match=r"fps=0\.5"):
        Protocol("vbench_long").clips(10, 0.5)


def test_frames_that_come_one_by_one_are_held_coded() -> None:
    """The first frames of a long video's clips: its memory would grow by a whole picture a clip."""
    picture = moving(1, 240, 416)[0]
    encoder = Encoder(16)
    tracemalloc.start()
    try:
        for _ in range(60):
            encoder.add(picture.copy())
        assert tracemalloc.get_traced_memory()[1] < 6 * picture.nbytes
    finally:
        tracemalloc.stop()
    assert sum(map(len, decoded(encoder.finish()))) == encoder.frames == 60
