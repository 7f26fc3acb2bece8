from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
import pandas as pd
import pytest
import torch
from odd_videos import moving, packed, write_video

import eval.measure.one_pass
import eval.score
from deepforcing.video import probe, sha256_file
from eval.measure.batch import Batch, cut
from eval.measure.metric import ClipInfo, Metric, Value, applies
from eval.measure.watch import Clip, Observation, WindowMetric
from eval.measure.windows import FloatArray, Window
from eval.metrics import WEIGHT_FREE
from eval.metrics.pixels.exposure import Exposure
from eval.metrics.pixels.saturation import Saturation
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.metrics.world.presence import Presence
from eval.protocol import Protocol
from eval.score import score, score_run
from eval.store import COLUMNS, KEYS, add_rows, load_scores, other_weights
from eval.videos import open_folder, open_run

MakeRun = Callable[..., Path]
AddSample = Callable[[Path, str, int, int], None]
ONE = Protocol(window_seconds=1.0)
VBENCH = Protocol("vbench")
TWO = {"aaaaaaaaaa-s0": (0, 40), "bbbbbbbbbb-s0": (1, 40)}


@dataclass(frozen=True)
class Length(WindowMetric):
    """Frames per window; raises for videos of 24 frames."""

    name: ClassVar[str] = "length"
    version: ClassVar[int] = 10
    observes: ClassVar[tuple[Observation, ...]] = ()
    values: ClassVar[tuple[Value, ...]] = (Value("length", "frames", None, "how many"),)

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        if clip.frames == 24:
            raise ValueError("24 frames are unlucky")
        return {"length": np.array([float(w.end - w.start) for w in windows])}


def test_scores_every_sample_once_and_then_nothing(make_run: MakeRun) -> None:
    run = make_run(TWO)
    calls: list[tuple[int, int, str]] = []
    first = score_run(run, WEIGHT_FREE, ONE, progress=lambda *call: calls.append(call))
    assert (first.decoded, first.problems) == (2, [])
    assert calls == [(1, 2, "aaaaaaaaaa-s0"), (2, 2, "bbbbbbbbbb-s0")]
    assert list(first.table.columns) == [*COLUMNS, *KEYS]
    values = [value for metric in WEIGHT_FREE if applies(metric, "tiny") for value in metric.values]
    names, wholes = {value.name for value in values}, sum(value.whole for value in values)
    assert len(first.table) == 2 * (3 * (len(names) - wholes) + wholes)
    assert set(first.table["metric"]) == names
    assert set(first.table["run"]) == {run.name}
    assert (first.table.query("metric == 'presence'")["value"] == 1).all()
    assert first.table.query("metric == 'replay'")["value"].isna().all()
    before = {path: path.stat().st_mtime_ns for path in (run / "scores").glob("*.parquet")}
    assert {path.stem for path in before} == {f"{m.name}@{m.version}" for m in WEIGHT_FREE if applies(m, "tiny")}
    again = score_run(run, WEIGHT_FREE, ONE, progress=lambda *call: calls.append(call))
    assert (again.decoded, len(calls)) == (0, 2)
    pd.testing.assert_frame_equal(again.table, first.table)
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_a_new_metric_or_sample_scores_only_itself(make_run: MakeRun, add_sample: AddSample) -> None:
    run = make_run(TWO)
    score_run(run, [Exposure()], ONE)
    exposure = (run / "scores" / "exposure@1.parquet").read_bytes()
    assert score_run(run, [Exposure(), Saturation()], ONE).decoded == 2
    assert (run / "scores" / "exposure@1.parquet").read_bytes() == exposure
    add_sample(run, "cccccccccc-s0", 2, 40)
    scored = score_run(run, [Exposure()], ONE)
    assert scored.decoded == 1
    assert scored.table["sample"].nunique() == 3


def test_a_video_made_anew_is_scored_anew(make_run: MakeRun, add_sample: AddSample) -> None:
    run = make_run(TWO)
    old = score_run(run, [Exposure()], ONE).table
    add_sample(run, "aaaaaaaaaa-s0", 4, 24)
    assert set(load_scores([run], protocol=ONE)["sample"]) == {"bbbbbbbbbb-s0"}
    scored = score_run(run, [Exposure()], ONE)
    assert scored.decoded == 1
    new = scored.table.query("sample == 'aaaaaaaaaa-s0' and metric == 'luma'")
    assert new["t_end"].tolist() == [1.0, 1.5]
    assert len(scored.table) == len(old) - 2


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


def test_metrics_of_another_world_are_skipped(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 24)}, world=None)
    scored = score_run(run, [Presence(), Exposure()], ONE)
    assert scored.problems == []
    assert set(scored.table["metric"]) == {"luma", "exposure_drift"}


def test_a_video_too_short_for_half_a_window_is_named(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 7)})
    scored = score_run(run, [Exposure()], ONE)
    assert len(scored.table) == 0
    assert list(scored.table.columns) == [*COLUMNS, *KEYS]
    assert "7 frames are less than half a window" in scored.problems[0]


def test_window_lengths_live_side_by_side(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 32)})
    score_run(run, [Length()], ONE)
    assert score_run(run, [Length()], Protocol(window_seconds=2.0)).table["value"].tolist() == [32]
    assert score_run(run, [Length()], ONE).decoded == 0
    assert load_scores([run], protocol=ONE)["value"].tolist() == [16, 16]
    assert load_scores([run], protocol=Protocol(window_seconds=2.0))["value"].tolist() == [32]


def test_other_weights_are_told_by_metric_and_protocol() -> None:
    def rows(run: str, metric: str, protocol: str, weights: object, value: float = 0.5) -> dict[str, object]:
        return {"run": run, "metric": metric, "protocol": protocol, "weights_sha256": weights, "value": value}

    same = [rows(run, "m", "windows", "aa") for run in ("one", "two")]
    free = [
        rows("one", "free", "windows", ""),
        rows("two", "free", "windows", "cc"),
        rows("three", "m", "windows", math.nan),
    ]
    missing = [rows("two", "m", "windows", "bb", math.nan)]
    assert other_weights(pd.DataFrame([*same, *free, *missing, rows("two", "m", "vbench", "bb")])) == []
    (told,) = other_weights(
        pd.DataFrame([*same, *free, rows("two", "m", "windows", "bb"), rows("four", "n", "vbench", "aa")])
    )
    assert "m (windows) was scored with different weights files (one, two; two)" in told
    assert "protocol=windows" in told
    assert len(other_weights(pd.DataFrame([rows("one", "m", "windows", "aa+bb")]))) == 1  # a folder of both


def test_stale_versions_are_left_out(make_run: MakeRun) -> None:
    run, other = make_run({"aaaaaaaaaa-s0": (0, 16)}), make_run({"aaaaaaaaaa-s0": (0, 16)}, name="other-0123abcd")
    for directory, version, value in ((run, 9, 1.0), (run, 10, 2.0), (other, 9, 3.0)):
        score_run(directory, [Length()], ONE)
        path = directory / "scores" / "length@10.parquet"
        rows = pd.read_parquet(path).assign(version=version, value=value)
        if version == 9:
            path.unlink()
        rows.to_parquet(path.with_name(f"length@{version}.parquet"))
    for metrics in (None, [Length()]):
        table = load_scores([run, other], metrics, ONE)
        assert table[["run", "version", "value"]].to_numpy().tolist() == [[run.name, 10, 2.0]]


def test_runs_are_named_after_their_directories(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 16)})
    score_run(run, [Exposure()], ONE)
    moved = run.rename(run.with_name("renamed-0123abcd"))
    assert set(load_scores([moved], protocol=ONE)["run"]) == {"renamed-0123abcd"}


def test_no_scores_is_an_empty_table(make_run: MakeRun) -> None:
    assert list(load_scores([make_run({})]).columns) == COLUMNS
    assert len(load_scores([])) == 0


def test_directories_that_are_no_run_and_broken_scores_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"run\.json does not exist"):
        score_run(tmp_path, [Exposure()], ONE)
    run = make_run({"aaaaaaaaaa-s0": (0, 16)})
    score_run(run, [Exposure()], ONE)
    (run / "scores" / "exposure@1.parquet").write_bytes(b"PAR1")
    for call in (lambda: score_run(run, [Exposure()], ONE), lambda: load_scores([run], protocol=ONE)):
        with pytest.raises(ValueError, match="delete it and evaluate again"):
            call()


KILL = """
import os, signal, sys
from eval.metrics.pixels.exposure import Exposure
from eval.protocol import Protocol
from eval.score import score_run
replace, count = os.replace, 0
def dying(source, target):
    global count
    count += 1
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = dying
score_run(sys.argv[1], [Exposure()], Protocol(window_seconds=1.0))
"""


def test_kill_loses_the_sample_in_hand_only(make_run: MakeRun) -> None:
    run = make_run(TWO)
    env = os.environ | {"PYTHONPATH": str(Path(eval.score.__file__).parents[1])}
    killed = subprocess.run([sys.executable, "-c", KILL, str(run)], env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert set(load_scores([run], protocol=ONE)["sample"]) == {"aaaaaaaaaa-s0"}
    scored = score_run(run, [Exposure()], ONE)
    assert scored.decoded == 1
    assert scored.table["sample"].nunique() == 2
    assert not list((run / "scores").glob("*.part"))
    assert sorted(path.name for path in (run / "scores").iterdir()) == [".lock", "exposure@1.parquet"]


def test_writers_at_once_lose_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "scores" / "m@1.parquet"

    def write(writer: int) -> None:
        for number in range(8):
            row = ("run", f"{writer}{number}-s0", "m", 1, "windows", 0.0, 1.0, 0.5, "hash", "", "", 1.0, 16)
            add_rows(path, pd.DataFrame([row], columns=COLUMNS + KEYS))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(pd.read_parquet(path)) == 24


@dataclass(frozen=True)
class Agreement(Metric):
    """The length of the prompt, as a dimension that looks at it."""

    name: ClassVar[str] = "agreement"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (Value("agreement", "letters", True, "how long the prompt is"),)
    needs_prompt: ClassVar[bool] = True

    def start(self, info: ClipInfo, device: torch.device) -> Letters:
        return Letters(info)


class Letters:
    def __init__(self, clip: ClipInfo) -> None:
        self.clip = clip

    def add(self, batch: Batch, first: int) -> None: ...

    def finish(self) -> float:
        return float(len(self.clip.prompt or ""))


def test_another_prompt_is_another_score(make_run: MakeRun, tmp_path: Path) -> None:
    videos = make_run(TWO) / "samples"
    prompts = tmp_path / "prompts.txt"

    def values(*texts: str) -> tuple[list[float], int]:
        prompts.write_text("\n".join(texts))
        found = score(open_folder(videos, prompts, tmp_path / "out"), [Agreement(), TemporalFlickering()], VBENCH)
        return found.table.query("metric == 'agreement'")["value"].tolist(), found.decoded

    assert values("one", "three") == ([3, 5], 2)
    assert values("one", "three") == ([3, 5], 0)
    assert values("one", "seventeen") == ([3, 9], 1)
    scored = score(open_folder(videos, None, tmp_path / "out"), [Agreement(), TemporalFlickering()], VBENCH)
    assert set(scored.table["metric"]) == {"temporal_flickering"}
    assert (scored.decoded, len(scored.problems)) == (0, 2)


def test_scores_of_other_weights_are_made_again_and_left_out(
    make_run: MakeRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(TWO)
    for name, decoded in (("first", 2), ("second", 2), ("second", 0)):
        monkeypatch.setattr("eval.networks.weights.fingerprint", lambda _, name=name: name)
        assert score_run(run, [TemporalFlickering()], VBENCH).decoded == decoded
    monkeypatch.setattr("eval.networks.weights.fingerprint", lambda _: "third")
    (run / "samples" / "aaaaaaaaaa-s0.mp4").write_bytes(b"")  # cannot be scored with them
    table = score_run(run, [TemporalFlickering()], VBENCH).table
    assert set(table["sample"]) == {"bbbbbbbbbb-s0"}
    assert set(table["weights_sha256"]) == {"third"}


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


@pytest.mark.parametrize("protocol", ["vbench", "vbench_long_memory", "windows"])
def test_every_clip_sees_its_own_frames_once(make_run: MakeRun, protocol: str) -> None:
    """Also where clips overlap, where they are longer than a batch, and where the video goes on after the last one."""
    run = make_run({"aaaaaaaaaa-s0": (0, 101)})
    chosen = Protocol(protocol, 2.9)
    frames = np.concatenate([b.frames for _, b in cut(run / "samples" / "aaaaaaaaaa-s0.mp4", [])]).astype(np.int16)
    table = score_run(run, [TemporalFlickering()], chosen).table
    clips = chosen.clips(101, 16.0)
    assert table["t_start"].tolist() == [clip.t_start for clip in clips]
    for clip, value in zip(clips, table["value"], strict=True):
        expected = 1 - np.abs(np.diff(frames[clip.start : clip.end], axis=0)).mean() / 255
        assert value == pytest.approx(expected, abs=1e-9)


def test_a_schedule_is_no_caption_of_a_clip(make_run: MakeRun) -> None:
    run = make_run(TWO)
    record = run / "samples" / "bbbbbbbbbb-s0.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"prompt": "a red disc [1s] | a blue ring"}))
    scored = score(open_run(run), [Agreement(), TemporalFlickering()], VBENCH)
    assert (scored.problems, scored.decoded) == ([], 2)
    values = scored.table[scored.table["metric"] == "agreement"].set_index("sample")["value"]
    assert values["aaaaaaaaaa-s0"] > 0
    assert math.isnan(values["bbbbbbbbbb-s0"])
    assert scored.table.loc[scored.table["metric"] == "temporal_flickering", "value"].notna().all()
    assert score(open_run(run), [Agreement()], VBENCH).decoded == 0


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


def test_the_same_pixels_score_the_same_in_any_container(tmp_path: Path) -> None:
    """Also beside a cover picture, which is a video of one frame to FFmpeg."""
    (tmp_path / "videos").mkdir()
    source = write_video(tmp_path / "videos" / "a.mp4", moving(40))
    for name in ("b.m4v", "c.mov", "d.mkv"):
        packed(source, tmp_path / "videos" / name)
    write_video(tmp_path / "videos" / "f.mkv", moving(40), cover=True)
    for name in ("e.avi", "g.webm"):
        write_video(tmp_path / "videos" / name, moving(40))
    for protocol in ("windows", "vbench"):
        scored = score(open_folder(tmp_path / "videos", None, tmp_path), [TemporalFlickering()], Protocol(protocol))
        assert scored.problems == scored.notes == []
        values = {str(name): rows["value"].tolist() for name, rows in scored.table.groupby("sample")}
        assert all(values[name] == values["a"] for name in "bcd")
        for other in "efg":  # encoded by themselves
            assert values[other] == pytest.approx(values["a"], abs=0.02)


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
