"""Scores of a run directory: every sample once, its own frames, and nothing lost."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from known_metrics import Agreement
from odd_videos import moving, packed, write_video

import eval.measure.one_pass
import eval.score
from eval.measure.batch import cut
from eval.measure.metric import applies
from eval.metrics import WEIGHT_FREE
from eval.metrics.pixels.exposure import Exposure
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.metrics.world.presence import Presence
from eval.protocol import Protocol
from eval.score import score, score_run
from eval.store import COLUMNS, KEYS, add_rows, load_scores
from eval.videos import open_folder, open_run

MakeRun = Callable[..., Path]
AddSample = Callable[[Path, str, int, int], None]
ONE = Protocol(window_seconds=1.0)
VBENCH = Protocol("vbench")
TWO = {"aaaaaaaaaa-s0": (0, 40), "bbbbbbbbbb-s0": (1, 40)}


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


def test_metrics_of_another_world_are_skipped(make_run: MakeRun) -> None:
    run = make_run({"aaaaaaaaaa-s0": (0, 24)}, world=None)
    scored = score_run(run, [Presence(), Exposure()], ONE)
    assert scored.problems == []
    assert set(scored.table["metric"]) == {"luma", "exposure_drift"}


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
