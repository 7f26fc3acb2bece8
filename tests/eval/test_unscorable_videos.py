"""Videos, records and metrics that cannot be scored: each is named and costs no other one."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from known_metrics import Length
from odd_videos import moving, write_video

import eval.measure.one_pass
import eval.score
from deepforcing.video import probe, sha256_file
from eval.metrics import WEIGHT_FREE
from eval.metrics.pixels.exposure import Exposure
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.protocol import Protocol
from eval.score import score, score_run
from eval.store import COLUMNS, KEYS
from eval.videos import open_folder, open_run

MakeRun = Callable[..., Path]
AddSample = Callable[[Path, str, int, int], None]
ONE = Protocol(window_seconds=1.0)
VBENCH = Protocol("vbench")
TWO = {"aaaaaaaaaa-s0": (0, 40), "bbbbbbbbbb-s0": (1, 40)}


def test_what_cannot_be_scored_is_named_and_has_no_rows(make_run: MakeRun, add_sample: AddSample) -> None:
    run = make_run(TWO)
    for sample, seed in (("cccccccccc-s0", 2), ("dddddddddd-s0", 3), ("eeeeeeeeee-s0", 4), ("ffffffffff-s0", 5)):
        add_sample(run, sample, seed, 40)
    samples = run / "samples"
    (samples / "aaaaaaaaaa-s0.mp4").write_bytes(b"no video")  # not the one in its record
    (samples / "bbbbbbbbbb-s0.mp4").unlink()
    broken = samples / "cccccccccc-s0.mp4"
    broken.write_bytes(broken.read_bytes()[:500])
    record = json.loads((samples / "cccccccccc-s0.json").read_text())
    record["sha256"] = sha256_file(broken)
    (samples / "cccccccccc-s0.json").write_text(json.dumps(record))
    (samples / "dddddddddd-s0.json").write_text("{")
    record = json.loads((samples / "eeeeeeeeee-s0.json").read_text())
    (samples / "eeeeeeeeee-s0.json").write_text(json.dumps(record | {"frames": 41}))
    scored = score_run(run, WEIGHT_FREE, ONE)
    assert set(scored.table["sample"]) == {"ffffffffff-s0"}
    assert len(scored.problems) == 5
    for sample, reason in zip("abcde", ("replaced", "No such file", "", "JSON", "record says 41"), strict=True):
        (line,) = [problem for problem in scored.problems if f"sample {sample * 10}-s0" in problem]
        assert reason in line
        assert "\n" not in line


def test_a_metric_that_cannot_score_a_clip_does_not_stop_the_others(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 24), "bbbbbbbbbb-s0": (1, 32)})
    scored = score_run(run, [Length(), Exposure()], ONE)
    assert [p for p in scored.problems if "length: 24 frames are unlucky" in p] == scored.problems != []
    assert set(scored.table.query("metric == 'length'")["sample"]) == {"bbbbbbbbbb-s0"}
    assert scored.table.query("metric == 'luma'")["sample"].nunique() == 2


def test_an_infinite_score_costs_itself_alone(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    """And no reader meets it: a table that holds it would not be read again."""
    score_window = Length.score
    monkeypatch.setattr(
        Length,
        "score",
        lambda *args: {"length": score_window(*args)["length"] * (np.inf if args[1].frames == 32 else 1)},
    )
    run = make_run({"aaaaaaaaaa-s0": (0, 32), "bbbbbbbbbb-s0": (1, 16)})
    for decoded in (2, 1):
        scored = score_run(run, [Length(), Exposure()], ONE)
        assert scored.decoded == decoded
        assert len(scored.problems) == 1
        assert "sample aaaaaaaaaa-s0: length: value is not within" in scored.problems[0]
        assert set(scored.table.query("metric == 'length'")["sample"]) == {"bbbbbbbbbb-s0"}
        assert scored.table.query("metric == 'luma'")["sample"].nunique() == 2


def test_a_video_too_short_for_half_a_window_is_named(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 7)})
    scored = score_run(run, [Exposure()], ONE)
    assert len(scored.table) == 0
    assert list(scored.table.columns) == [*COLUMNS, *KEYS]
    assert "7 frames are less than half a window" in scored.problems[0]


@pytest.mark.parametrize("protocol", ["vbench", "vbench_long", "vbench_long_memory", "vbench_last", "windows"])
def test_a_video_that_ends_early_has_no_scores(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, protocol: str
) -> None:
    """As a file without an index may, of which nobody knows how many of its packets can be decoded."""
    monkeypatch.setattr("eval.videos.probe", lambda path: probe(path)._replace(frames=50))
    group = open_folder(make_run({"aaaaaaaaaa-s0": (0, 40)}) / "samples", None, tmp_path / "out")
    scored = score(group, [TemporalFlickering()], Protocol(protocol))
    assert len(scored.table) == 0
    assert len(scored.problems) == 1
    assert "ends" in scored.problems[0]
    assert "50 frames" in scored.problems[0]


@pytest.mark.parametrize(
    "wrong",
    [
        {"frames": None},
        {"frames": "9"},
        {"prompt": None},
        {"fps": "fast"},
        {"video": 3},
        {"prompt": "\ud83d"},
        {"sample": "a\ud83d-s0"},
        {"prompt": "nul \0"},
    ],
)
def test_a_record_that_is_none_costs_its_sample_alone(make_run: MakeRun, wrong: dict[str, object]) -> None:
    run = make_run(TWO)
    record = run / "samples" / "aaaaaaaaaa-s0.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | wrong))
    scored = score_run(run, [Exposure()], ONE)
    assert set(scored.table["sample"]) == {"bbbbbbbbbb-s0"}
    assert len(scored.problems) == 1
    assert record.stem in scored.problems[0]
    assert scored.problems[0].isprintable()


@pytest.mark.parametrize("harm", ["gone", "short", "other"])
def test_a_video_with_all_its_scores_that_is_lost_or_damaged_is_told(make_run: MakeRun, harm: str) -> None:
    run = make_run(TWO)
    assert score_run(run, [Exposure()], ONE).problems == []
    video = run / "samples" / "bbbbbbbbbb-s0.mp4"
    if harm == "gone":
        video.unlink()
    else:
        video.write_bytes(video.read_bytes()[:-100] if harm == "short" else b"other")
    scored = score_run(run, [Exposure()], ONE)
    assert scored.decoded == 0
    assert len(scored.problems) == 1
    assert "sample bbbbbbbbbb-s0: " in scored.problems[0]
    assert scored.table["sample"].nunique() == 2  # what was measured of it stays
    assert score(open_run(run), [Exposure()], ONE, part="0/2").problems == []  # the other half


STILL = [*range(0, 1250, 63), *range(1260, 1260 + 250 * 20, 250)]  # milliseconds: a still from 1.26 s on, at 4 a second


@pytest.mark.parametrize("ending", [".mp4", ".mkv"])
@pytest.mark.parametrize("protocol", ["windows", "vbench", "vbench_long", "vbench_long_memory", "vbench_last"])
def test_windows_of_time_need_an_even_frame_rate(tmp_path: Path, protocol: str, ending: str) -> None:
    """VBench's protocols go by the numbers of frames, as the package does, and say so."""
    (tmp_path / "videos").mkdir()
    write_video(tmp_path / "videos" / "even.mp4", moving(40))
    write_video(tmp_path / "videos" / f"uneven{ending}", moving(40), milliseconds=STILL)
    scored = score(open_folder(tmp_path / "videos", None, tmp_path), [TemporalFlickering()], Protocol(protocol))
    told = scored.problems if protocol == "windows" else scored.notes
    assert len(scored.problems) + len(scored.notes) == len(told) == 1
    assert "sample uneven: " in told[0]
    assert "is shown for 0.25 s" in told[0]
    assert set(scored.table["sample"]) == ({"even"} if protocol == "windows" else {"even", "uneven"})
    again = score(open_folder(tmp_path / "videos", None, tmp_path), [TemporalFlickering()], Protocol(protocol))
    assert (again.problems, again.notes, again.decoded) == (scored.problems, scored.notes, 0)


@pytest.mark.parametrize("name", ["a.webm", "a.mkv", "a.avi", "a.mov"])
def test_a_file_that_was_cut_off_is_damaged_in_any_container(tmp_path: Path, name: str) -> None:
    (tmp_path / "videos").mkdir()
    video = write_video(tmp_path / "videos" / name, moving(160))
    video.write_bytes(video.read_bytes()[: video.stat().st_size * 3 // 4])
    scored = score(open_folder(tmp_path / "videos", None, tmp_path), [TemporalFlickering()], VBENCH)
    assert len(scored.table) == 0
    assert len(scored.problems) == 1
    assert "damaged" in scored.problems[0] or "cannot be decoded" in scored.problems[0]


def test_frames_that_the_decoder_made_up_are_not_scored(tmp_path: Path) -> None:
    """FFmpeg fills in what is damaged from its neighbours; of the whole file it says nothing."""
    (tmp_path / "videos").mkdir()
    video = write_video(tmp_path / "videos" / "a.mp4", moving(40, 96, 128), codec="libx264")
    data = bytearray(video.read_bytes())
    with av.open(str(video)) as container:
        packet = next(p for i, p in enumerate(container.demux(video=0)) if i == 0)
        start, size = data.index(bytes(packet)), packet.size
    data[start + size // 2 : start + size // 2 + 30] = bytes(
        b ^ 0x5A for b in data[start + size // 2 : start + size // 2 + 30]
    )
    video.write_bytes(data)
    scored = score(open_folder(tmp_path / "videos", None, tmp_path), [TemporalFlickering()], VBENCH)
    assert len(scored.table) == 0
    assert "damaged: parts of frame" in scored.problems[0]


def test_an_encoder_that_fails_costs_its_video_alone(make_run: MakeRun, monkeypatch: pytest.MonkeyPatch) -> None:
    real, calls = eval.measure.one_pass.reencoded, []

    def failing(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == 1:
            raise av.error.ExternalError(542398533, "Generic error in an external library", "x264")
        return real(*arguments)

    monkeypatch.setattr(eval.measure.one_pass, "reencoded", failing)
    scored = score(open_run(make_run({name: (i, 32) for i, name in enumerate(("aaaaaaaaaa-s0", "bbbbbbbbbb-s0"))})),
                   [TemporalFlickering()], Protocol("vbench_long"))  # fmt: skip
    assert set(scored.table["sample"]) == {"bbbbbbbbbb-s0"}
    assert "Generic error in an external library" in scored.problems[0]
