from __future__ import annotations

import errno
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from deepforcing.video import VideoWriter, iter_frames, probe, read_video, sha256_file, uneven
from deepforcing.yuv import frame_to_rgb, rgb_to_planes
from experiments.page.preview import preview

Frames = NDArray[np.uint8]


def moving_art(frames: int, size: int = 16) -> Frames:
    """Flat coloured blocks that move, plus a little noise."""
    rng = np.random.default_rng(0)
    art = np.full((frames, size, size, 3), (40, 90, 160), np.uint8)
    for t in range(frames):
        art[t, 4:9, t % (size - 5) : t % (size - 5) + 5] = (230, 40, 30)
    return np.clip(art.astype(int) + rng.integers(-4, 5, art.shape), 0, 255).astype(np.uint8)


def enlarged(frames: Frames, scale: int) -> Frames:
    return frames.repeat(scale, 1).repeat(scale, 2)


def write(path: Path, frames: Frames, scale: int = 8, chunk: int = 12) -> None:
    with VideoWriter(path, frames.shape[2], frames.shape[1], 16, scale) as video:
        for start in range(0, len(frames), chunk):
            video.write(frames[start : start + chunk])


def test_flat_colours_come_back(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    corners = [(r, g, b) for r in (0, 255) for g in (0, 255) for b in (0, 255)]
    colours = np.array([*corners, *rng.integers(0, 256, (40, 3))], np.uint8)
    frames = np.broadcast_to(colours[:, None, None], (len(colours), 8, 8, 3)).copy()
    write(tmp_path / "flat.mp4", frames)
    decoded, fps = read_video(tmp_path / "flat.mp4")
    assert fps == 16.0
    assert np.abs(decoded.astype(int) - enlarged(frames, 8)).max() <= 5


def test_pixel_art_comes_back(tmp_path: Path) -> None:
    frames = moving_art(60)
    write(tmp_path / "art.mp4", frames)
    decoded, _ = read_video(tmp_path / "art.mp4")
    error = decoded.astype(int) - enlarged(frames, 8)
    assert np.abs(error).max() <= 10
    assert np.abs(error).mean() < 0.7
    assert np.abs(error.mean((0, 1, 2))).max() < 0.4  # no offset in any channel


def test_other_decoders_see_the_same_colours(tmp_path: Path) -> None:
    frames = moving_art(12)
    write(tmp_path / "art.mp4", frames)
    with av.open(str(tmp_path / "art.mp4")) as container:
        context = container.streams.video[0].codec_context
        assert (context.colorspace, context.color_range) == (6, 1)
        assert (context.color_primaries, context.color_trc) == (1, 13)
        foreign = np.stack([f.to_ndarray(format="rgb24") for f in container.decode(video=0)])
    assert np.abs(foreign.astype(int) - enlarged(frames, 8)).mean() < 3


def test_conversion_without_the_codec_loses_only_rounding() -> None:
    rgb = np.random.default_rng(2).integers(0, 256, (2, 8, 8, 3)).astype(np.uint8)
    for image, planes in zip(rgb, rgb_to_planes(rgb, 2), strict=True):
        frame = av.VideoFrame.from_ndarray(planes, "yuv420p")
        frame.colorspace = 6
        assert np.abs(frame_to_rgb(frame).astype(int) - enlarged(image[None], 2)[0]).max() <= 3


def test_chroma_of_odd_scales_is_the_mean_of_written_pixels() -> None:
    rgb = np.random.default_rng(3).integers(0, 256, (1, 4, 4, 3)).astype(np.uint8)
    blocks = enlarged(rgb, 3).reshape(6, 2, 6, 2, 3).mean((1, 3))
    expected = 128 + 224 / 255 * (blocks @ [-0.168736, -0.331264, 0.5])
    planes = next(rgb_to_planes(rgb, 3))
    assert np.abs(planes[12:15].reshape(6, 6) - expected).max() <= 0.51


def test_bytes_do_not_depend_on_the_run_or_the_chunking(tmp_path: Path) -> None:
    frames = moving_art(50)
    for name, chunk in (("a", 12), ("b", 12), ("c", 1), ("d", 50)):
        write(tmp_path / f"{name}.mp4", frames, chunk=chunk)
    assert len({sha256_file(path) for path in tmp_path.iterdir()}) == 1
    assert b"Lavf" not in (tmp_path / "a.mp4").read_bytes()


def test_tensors_and_arrays_are_the_same(tmp_path: Path) -> None:
    frames = moving_art(5)
    write(tmp_path / "array.mp4", frames)
    tensor = torch.from_numpy(frames).permute(0, 3, 1, 2).float() / 255
    tensor[0, 0, 0, 0], frames[0, 0, 0, 0] = 1.5, 255  # out of range: clipped
    write(tmp_path / "array.mp4", frames)
    with VideoWriter(tmp_path / "tensor.mp4", 16, 16, 16, 8) as video:
        video.write(tensor)
    assert sha256_file(tmp_path / "array.mp4") == sha256_file(tmp_path / "tensor.mp4")


def test_probe_and_batches(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    write(path, moving_art(21))
    assert probe(path) == (21, 16.0, 128, 128)
    batches = list(iter_frames(path, batch=8))
    assert [len(b) for b in batches] == [8, 8, 5]
    assert np.array_equal(np.concatenate(batches), read_video(path)[0])


def test_only_the_whole_file_gets_the_name(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    with VideoWriter(path, 16, 16, 16, 8) as video:
        video.write(moving_art(3))
        assert [p.name for p in tmp_path.iterdir()] == ["v.partial.mp4"]
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    before = path.read_bytes()

    def fails() -> None:
        with VideoWriter(path, 16, 16, 16, 8) as video:
            video.write(moving_art(2))
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine"):
        fails()
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    assert path.read_bytes() == before


def test_wrong_input_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    for width, height, scale in ((15, 16, 1), (16, 15, 3)):
        with pytest.raises(ValueError, match="odd"):
            VideoWriter(path, width, height, 16, scale)
    VideoWriter(path, 15, 15, 16, 2)
    with pytest.raises(ValueError, match="fps=0"):
        VideoWriter(path, 16, 16, 0)
    with pytest.raises(ValueError, match=r"\.mp4"):
        VideoWriter(tmp_path / "v.avi", 16, 16, 16)
    bad: list[tuple[object, str]] = [
        (np.zeros((1, 16, 16, 3), np.float32), "expected uint8"),
        (np.zeros((1, 8, 16, 3), np.uint8), "expected uint8"),
        (torch.zeros(1, 3, 16, 8), "expected floats"),
        (torch.zeros(1, 3, 16, 16, dtype=torch.uint8), "expected floats"),
        (torch.full((2, 3, 16, 16), float("nan")), r"NaN or Inf in frames 1 to 2 of v\.mp4"),
    ]

    def write_after_a_good_frame(frames: object) -> None:
        with VideoWriter(path, 16, 16, 16) as video:
            video.write(np.zeros((1, 16, 16, 3), np.uint8))
            video.write(frames)  # type: ignore[arg-type]

    for frames, message in bad:
        with pytest.raises(ValueError, match=message):
            write_after_a_good_frame(frames)
    with pytest.raises(ValueError, match="no frames"), VideoWriter(path, 16, 16, 16):
        pass
    assert list(tmp_path.iterdir()) == []


def test_missing_directory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot write the video: No such file.*v\.mp4"):
        write(tmp_path / "none" / "v.mp4", moving_art(1))


@pytest.mark.parametrize("limit", [100, 4_000, 20_000])
def test_a_file_that_cannot_grow_is_one_clear_error(tmp_path: Path, limit: int) -> None:
    """A limit on the file's size takes the path that a full disk takes: write() fails at some moment."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    previous = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        with pytest.raises(OSError, match=r"cannot write the video: File too large: .*v\.mp4") as caught:
            write(tmp_path / "v.mp4", np.random.default_rng(0).integers(0, 256, (40, 16, 16, 3)).astype(np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, previous)
    assert caught.value.errno == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_at_the_last_moment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*v\.mp4") as caught:
        write(tmp_path / "v.mp4", moving_art(3))
    assert caught.value.errno == errno.ENOSPC
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_videos_are_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.mp4"
    write(whole, moving_art(40))
    data = whole.read_bytes()
    sound = tmp_path / "sound.mov"
    with av.open(str(sound), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000)
        audio = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), "s16", "mono")
        audio.rate = 8000
        container.mux(stream.encode(audio))
        container.mux(stream.encode(None))
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.mp4").write_bytes(b"this is no video\n" * 99)
    (tmp_path / "cut.mp4").write_bytes(data[: len(data) // 2])
    cases = [
        ("empty.mp4", "is empty"),
        ("text.mp4", "cannot be decoded as a video"),
        ("cut.mp4", "cannot be decoded as a video"),
        ("sound.mov", "has no video stream"),
        ("none.mp4", "is not there"),
        (".", "is not a file"),
    ]
    for name, message in cases:
        path = tmp_path / name
        for read in (probe, read_video, lambda p: list(iter_frames(p))):
            with pytest.raises(ValueError, match=message) as caught:
                read(path)
            assert str(path) in str(caught.value)


def test_a_list_of_files_is_no_video(tmp_path: Path) -> None:
    """FFmpeg would show the files that a text names: somebody else's "video" could be any file of this machine."""
    write(tmp_path / "secret.mp4", moving_art(4))
    (tmp_path / "link.mp4").symlink_to(tmp_path / "secret.mp4")
    path = tmp_path / "video.mp4"
    path.write_text("ffconcat version 1.0\nfile 'link.mp4'\n")
    with av.open(str(path)) as container:
        assert container.format.name == "concat"
        assert len(list(container.decode(video=0))) == 4
    for read in (probe, read_video, uneven, preview):
        with pytest.raises(ValueError, match=r"video\.mp4 is no mp4, mov, mkv, webm or avi"):
            read(path)


def test_missing_frames_are_noticed(tmp_path: Path) -> None:
    """The index says 40 frames, but the data is gone from the middle on: never a shorter video in silence."""
    path = tmp_path / "v.mp4"
    write(path, moving_art(40))
    data = bytearray(path.read_bytes())
    start = data.index(b"mdat") + 4
    end = data.index(b"moov") - 4
    middle = (start + end) // 2
    data[middle:end] = bytes(end - middle)
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"v\.mp4"):
        read_video(path)


KILLED = """
import sys, time
from pathlib import Path
from test_video import moving_art
from deepforcing.video import VideoWriter
with VideoWriter(Path(sys.argv[1]), 16, 16, 16, 8) as video:
    frames = moving_art(200)
    for start in range(0, 200, 20):
        video.write(frames[start:start + 20])
        if start == 160:
            print("written", flush=True)
            time.sleep(60)
"""


def test_kill_9_leaves_nothing_that_looks_finished(tmp_path: Path) -> None:
    path = tmp_path / "v.mp4"
    here = Path(__file__).resolve()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parents[2])])}
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(path)], stdout=subprocess.PIPE, env=environment)
    assert process.stdout is not None
    assert process.stdout.readline() == b"written\n"
    process.kill()
    process.communicate()
    assert [p.name for p in tmp_path.iterdir()] == ["v.partial.mp4"]
    write(path, moving_art(200))  # the same work again
    assert [p.name for p in tmp_path.iterdir()] == ["v.mp4"]
    write(tmp_path / "undisturbed.mp4", moving_art(200))
    assert path.read_bytes() == (tmp_path / "undisturbed.mp4").read_bytes()
