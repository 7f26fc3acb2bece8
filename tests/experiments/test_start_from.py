"""`start_from=FILE`: videos that begin with an image or a clip, from the command line."""

from __future__ import annotations

import json
import re
from pathlib import Path

import av
import numpy as np
import pytest
from commands import BLUE, RED, Command
from odd_videos import write_video
from PIL import Image

from deepforcing import video
from deepforcing.generator import Generator, GeneratorSpec
from deepforcing.yuv import Frames
from experiments.results.speed import speed

TWO = f"prompts=['{RED}','{BLUE}']"
FRAMEWISE = ("generator=causal_forcing_framewise", "cache=deep_sink", "cache.retention.sink_frames=3")


def picture(frames: int, size: tuple[int, int] = (16, 16), seed: int = 0) -> Frames:
    """Smooth colours that move, [frames, H, W, 3]: what 4:2:0 and H.264 keep."""
    t, y, x = np.meshgrid(*(np.arange(n) for n in (frames, *size)), indexing="ij")
    waves = [np.sin(0.3 * x + 0.1 * t + seed), np.cos(0.2 * y + 0.15 * t), np.sin(0.2 * (x + y) - 0.1 * t)]
    return (127 + 100 * np.stack(waves, -1)).astype(np.uint8)


def clip(
    path: Path, frames: int = 9, fps: int = 16, scale: int = 8, size: tuple[int, int] = (16, 16), seed: int = 0
) -> Path:
    with video.VideoWriter(path, size[1], size[0], fps, scale) as file:
        file.write(picture(frames, size, seed))
    return path


def image(path: Path, mode: str = "RGB", size: tuple[int, int] = (16, 16), scale: int = 8, **options: object) -> Path:
    pixels = picture(1, size)[0].repeat(scale, 0).repeat(scale, 1)
    Image.fromarray(pixels).convert(mode).save(path, **options)  # type: ignore[arg-type]
    return path


def small(path: Path) -> Frames:
    """A file of the tiny world in its own pixels."""
    frames = video.read_video(path)[0]
    n, height, width, _ = frames.shape
    pooled: Frames = frames.reshape(n, height // 8, 8, width // 8, 8, 3).mean((2, 4)).round().astype(np.uint8)
    return pooled


def distance(a: Frames, b: Frames) -> float:
    return float(np.abs(a.astype(int) - b.astype(int)).mean())


def videos(root: Path) -> dict[str, Path]:
    return {path.stem: path for path in sorted(root.glob("*/samples/*.mp4"))}


def records(root: Path) -> list[dict[str, object]]:
    return [json.loads(p.read_text()) for p in sorted(root.glob("*/samples/*.json"))]


# ---- what is made ------------------------------------------------------------------------------------------------


def test_the_video_is_the_clip_and_then_its_continuation(make: Command, tmp_path: Path) -> None:
    given = clip(tmp_path / "clip.mp4", 21)
    status, _, err = make(TWO, f"start_from={given}", "seconds=2")
    assert (status, err) == (0, "")
    made = [small(path) for path in videos(tmp_path / "runs").values()]
    assert [len(frames) for frames in made] == [33, 33]  # seconds counts all of it
    for frames in made:
        assert distance(frames[:21], picture(21)) < 2
        assert distance(frames[21:], np.repeat(frames[20:21], 12, 0)) > 3  # random weights: something else
    assert distance(made[0][21:], made[1][21:]) > 1  # prompt and noise matter
    started = {"file": "clip.mp4", "sha256": video.sha256_file(given), "frames": 21, "latent_frames": 6}
    (run,) = (json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/run.json"))
    assert run["identity"]["start_from"] == started["sha256"]
    assert run["spec"]["start_from"] == started
    for record in records(tmp_path / "runs"):
        assert record["start_from"] == started
        assert [chunk.get("given", False) for chunk in record["chunks"]] == [True, True, False]  # type: ignore[attr-defined]
        assert (record["frames"], record["latent_frames"]) == (33, 9)


def test_a_finished_sample_goes_on(make: Command, tmp_path: Path) -> None:
    assert make().status == 0
    (sample,) = videos(tmp_path / "runs").values()
    longer = tmp_path / "longer"
    assert make(f"start_from={sample}", "seconds=2", f"runs_root={longer}").status == 0
    (made,) = videos(longer).values()
    assert made.name == sample.name  # prompt and seed name it, the clip its run
    assert distance(small(made)[:21], small(sample)) < 3
    assert make(f"start_from={made}", "seconds=3", f"runs_root={tmp_path / 'third'}").status == 0


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_an_image_starts_a_frame_wise_generator(make: Command, tmp_path: Path, suffix: str) -> None:
    options = {"quality": 95, "subsampling": 0} if suffix == "jpg" else {}
    given = image(tmp_path / f"image.{suffix}", **options)
    assert make(f"start_from={given}", *FRAMEWISE).status == 0
    (made,) = videos(tmp_path / "runs").values()
    frames = small(made)
    assert len(frames) == 17
    assert distance(frames[:1], picture(1)) < 3
    (record,) = records(tmp_path / "runs")
    assert record["start_from"]["frames"] == 1  # type: ignore[index]


def test_the_content_is_the_identity_not_the_name(make: Command, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    first = clip(tmp_path / "a.mp4")
    (tmp_path / "copy").mkdir()
    copy = tmp_path / "copy" / "b b.mp4"
    copy.write_bytes(first.read_bytes())
    for source, runs in (
        (f"start_from='{first}'", 1),
        (f"start_from='{copy}'", 1),
        (f"start_from={clip(tmp_path / 'c.mp4', seed=1)}", 2),
        ("start_from=null", 3),
        ("label=same", 3),
    ):
        assert make(source).status == 0
        assert len(list(root.iterdir())) == runs, source
    plain = [r for r in root.glob("*/run.json") if "start_from" not in r.read_text().split('"command"')[0]]
    assert len(plain) == 1  # null leaves no trace, so runs made before there was the key stay what they are


def test_interrupted_then_the_same_command(make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Byte for byte what an uninterrupted run gives; the clip is encoded once a run, and not at all for a finished one."""
    arguments = [TWO, f"start_from={clip(tmp_path / 'clip.mp4', 21)}", "seconds=2"]
    encoded = []
    real, write = Generator.encode, video.VideoWriter.write
    monkeypatch.setattr(Generator, "encode", lambda self, frames: encoded.append(len(frames)) or real(self, frames))
    assert make(*arguments, f"runs_root={tmp_path / 'whole'}").status == 0
    assert encoded == [21]
    calls = []

    def interrupted(self: video.VideoWriter, frames: object) -> None:
        calls.append(frames)
        if len(calls) == 5:  # in the second video, while its given chunks are written
            raise KeyboardInterrupt
        write(self, frames)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(video.VideoWriter, "write", interrupted)
        assert make(*arguments).status == 130
    assert len(videos(tmp_path / "runs")) == 1
    assert make(*arguments).status == 0
    assert {n: p.read_bytes() for n, p in videos(tmp_path / "runs").items()} == {
        n: p.read_bytes() for n, p in videos(tmp_path / "whole").items()
    }
    monkeypatch.setattr(GeneratorSpec, "build", None)
    status, out, _ = make(*arguments)
    assert status == 0
    assert "2 already there" in out
    assert encoded == [21, 21, 21]


def test_schedule_times_count_from_the_beginning_of_the_clip(make: Command, tmp_path: Path) -> None:
    """The first prompt holds for the clip: what follows it makes the difference, what describes it nearly none."""
    given = clip(tmp_path / "clip.mp4", 21)
    line = f"prompts=['{RED} [1.3s] | {BLUE}']"
    assert make(line, f"start_from={given}", "seconds=2").status == 0
    (made,) = videos(tmp_path / "runs").values()
    assert len(small(made)) == 33
    assert distance(small(made)[:21], picture(21)) < 2
    status, _, err = make(f"prompts=['{RED} [3s] | {BLUE}']", f"start_from={given}", "seconds=2")
    assert status == 2
    assert "part 2 of the prompt schedule begins at 3 s, past the end" in err


def test_speed_leaves_given_chunks_out(make: Command, tmp_path: Path) -> None:
    assert make(f"start_from={clip(tmp_path / 'clip.mp4', 21)}", "seconds=2").status == 0
    found = records(tmp_path / "runs")
    measured = speed(found, 4)
    assert measured is not None
    assert measured.parts["denoise_s"] == found[0]["chunks"][-1]["denoise_s"]  # type: ignore[index]


# ---- what is refused ---------------------------------------------------------------------------------------------


def turned(path: Path) -> Path:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned
    return image(path, exif=exif)


def animated(path: Path) -> Path:
    frames = [Image.fromarray(f.repeat(8, 0).repeat(8, 1)) for f in picture(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])
    return path


def cut(path: Path, share: float = 0.6) -> Path:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    return path


def damaged(path: Path) -> Path:
    data = bytearray(path.read_bytes())
    start = len(data) // 2
    data[start : start + 200] = bytes(200)  # lengths of packets among them
    path.write_bytes(data)
    return path


def text(path: Path, content: bytes = b"no picture\n" * 50) -> Path:
    path.write_bytes(content)
    return path


def detailed(path: Path) -> Path:
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (128, 128, 3), dtype=np.uint8)).save(path)
    return path


def uneven(path: Path) -> Path:
    """16 frames a second on the whole, but one of them is shown late."""
    times = [round(62.5 * i) + (50 if i == 9 else 0) for i in range(29)]
    return write_video(path, picture(29).repeat(8, 1).repeat(8, 2), milliseconds=times)


def sound(path: Path) -> Path:
    with av.open(str(path), "w") as file:
        stream = file.add_stream("aac", rate=16000, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            file.mux(packet)
    return path


def folder(path: Path) -> Path:
    path.mkdir()
    return path


BAD = {
    "missing": (lambda d: d / "no.png", r"no\.png is not there"),
    "folder": (lambda d: folder(d / "a.mp4"), r"a\.mp4 is not a run directory"),
    "empty": (lambda d: text(d / "a.png", b""), r"a\.png is empty"),
    "text": (lambda d: text(d / "a.png"), r"cannot be read as an image or a video"),
    "cut png": (lambda d: cut(image(d / "a.png")), r"cannot be read as an image or a video"),
    "cut jpg": (lambda d: cut(image(d / "a.jpg")), r"cannot be read as an image or a video"),
    "cut mp4": (lambda d: cut(clip(d / "a.mp4")), r"cannot be read as an image or a video"),
    "damaged mp4": (lambda d: damaged(clip(d / "a.mp4", 21)), r"cannot be read as an image or a video"),
    "sound": (lambda d: sound(d / "a.mp4"), r"has no video stream"),
    "bmp": (lambda d: image(d / "a.bmp"), r"neither a png, a jpg nor an mp4 \(its format is bmp_pipe\)"),
    "gif": (lambda d: animated(d / "a.gif"), r"is an animated image \(gif\)"),
    "apng": (lambda d: animated(d / "a.png"), r"is an animated image \(apng\)"),
    "alpha": (lambda d: image(d / "a.png", "RGBA"), r"holds rgba pixels .*save it as plain 8-bit RGB"),
    "grey": (lambda d: image(d / "a.png", "L"), r"holds gray pixels"),
    "grey jpg": (lambda d: image(d / "a.jpg", "L"), r"holds gray pixels"),
    "palette": (lambda d: image(d / "a.png", "P"), r"holds pal8 pixels"),
    "cmyk": (lambda d: image(d / "a.jpg", "CMYK"), r"holds gbrap pixels"),
    "turned": (lambda d: turned(d / "a.jpg"), r"is to be shown turned by -90 degrees: save it upright"),
    "own pixels": (lambda d: image(d / "a.png", scale=1), r"16 x 16 pixels .*takes 128 x 128, every pixel as 8 x 8"),
    "wide": (lambda d: clip(d / "a.mp4", size=(16, 24)), r"192 x 128 pixels \(width x height\).*takes 128 x 128"),
    "detailed": (lambda d: detailed(d / "a.png"), r"more detail than the model: it must show 16 x 16 pixels"),
    "uneven": (lambda d: uneven(d / "a.mp4"), r"no even frame rate \(frame 8 is shown for 0\.1\d* s, others for 0\.06"),
    "fps": (lambda d: clip(d / "a.mp4", fps=24), r"has 24 frames a second, the model makes 16: .*ffmpeg -i a\.mp4 -r 16"),
}  # fmt: skip


def refused(make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, says: str, *arguments: str) -> None:
    """In one line, with status 2, before any weight is loaded and without a run directory."""
    monkeypatch.setattr(GeneratorSpec, "build", None)
    status, out, err = make(*arguments)
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert not list((tmp_path / "runs").glob("*"))


@pytest.mark.parametrize("case", BAD)
def test_bad_files(case: str, make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a generator that takes any number of frames."""
    build, says = BAD[case]
    refused(make, tmp_path, monkeypatch, says, f"start_from={build(tmp_path)}", "seconds=2", *FRAMEWISE)


@pytest.mark.parametrize(
    ("frames", "says"),
    [
        (1, r"is a single frame, but generator self_forcing makes chunks of 3 .*causal_forcing_framewise"),
        (10, r"has 10 frames, .*9, 21, 33, 45 \.\.\. frames: cut it, for example to its last 9"),
        (33, r"lasts 2\.06 s, and the video that begins with it is to last 1\.31 s in all: .*seconds=2\.81"),
    ],
)
def test_clips_of_another_length(
    frames: int, says: str, make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused(make, tmp_path, monkeypatch, says, f"start_from={clip(tmp_path / 'a.mp4', frames)}")


def test_an_image_for_chunks_of_three(make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(make, tmp_path, monkeypatch, "starts a frame-wise generator", f"start_from={image(tmp_path / 'a.png')}")


@pytest.mark.parametrize(
    ("generator", "says"),
    [
        ("rolling_forcing", "denoises several chunks at once from the first pass on; use a chunk-wise"),
        ("causvid", "its rollouts overlap, and each begins with the end of one that it made itself; use"),
    ],
)
def test_rules_that_cannot(
    generator: str, says: str, make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = f"start_from={clip(tmp_path / 'a.mp4')}"
    refused(make, tmp_path, monkeypatch, says, given, f"generator={generator}", "seconds=6")


@pytest.mark.parametrize("value", ["''", "3", "[a.png]", "true"])
def test_values_that_name_no_file(value: str, make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused(make, tmp_path, monkeypatch, "must be one path: give a|start_from=3 is not there", f"start_from={value}")
