"""The demo: one page from one command. Processes are real, so the whole of it is slow; its parts are not."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from commands import BLUE, RED, Command
from rich.progress import Progress

from deepforcing.prompts import plan_samples, prompts_from_texts
from deepforcing.runs import RunDir
from deepforcing.tiny.model import TINY_GEOMETRY
from deepforcing.video import probe, read_video
from eval.metrics import WEIGHT_FREE
from eval.networks.weights import FILES
from eval.protocol import Protocol
from eval.score import score_run
from eval.store import load_scores
from experiments.demo import choose_vbench, follow, score_videos, workers
from experiments.reference import reference_run
from experiments.results.runs import read_runs


def test_reference_is_an_ordinary_run_with_perfect_scores(tmp_path: Path) -> None:
    plan = plan_samples(prompts_from_texts([RED, BLUE]), [0])
    ticks: list[int] = []
    run = reference_run(tmp_path, plan, 2.0, lambda: ticks.append(1))
    assert len(ticks) == 2
    assert run.completed() == {sample.name for sample in plan}
    record = run.record()
    assert (record["label"], record["world"]) == ("real video", "tiny")
    (read,) = read_runs([run.path])
    assert read.is_real
    latent = TINY_GEOMETRY.latent_frames(2.0, 3)
    info = probe(run.video_path(plan[0].name))
    assert (info.frames, info.width) == (TINY_GEOMETRY.pixel_frames(latent), 128)
    scored = score_run(run.path, [m for m in WEIGHT_FREE if m.name == "presence"])
    assert not scored.problems
    assert (scored.table.loc[scored.table["metric"] == "presence", "value"] > 0.97).all()
    before = run.video_path(plan[0].name).stat().st_mtime_ns
    assert reference_run(tmp_path, plan, 2.0).path == run.path
    assert run.video_path(plan[0].name).stat().st_mtime_ns == before


def test_reference_begins_the_same_at_every_length(tmp_path: Path) -> None:
    plan = plan_samples(prompts_from_texts([RED]), [3])
    short, long = (reference_run(tmp_path, plan, seconds) for seconds in (1.0, 2.0))
    assert short.path != long.path
    first, later = (read_video(run.video_path(plan[0].name))[0] for run in (short, long))
    difference = abs(first.astype(int) - later[: len(first)].astype(int))
    assert difference.mean() < 2  # two encodings of the same frames


@pytest.mark.slow
def test_demo_end_to_end(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    arguments = [
        "seconds=2",
        f"prompts=['{RED}']",
        "caches=[sink,deep_forcing]",
        "generators=[]",
        f"model.checkpoint={checkpoint}",
        f"runs_root={tmp_path / 'runs'}",
        f"out={tmp_path / 'out' / 'demo.html'}",
        "jobs=2",
    ]
    status, out, err = command("demo", *arguments)
    assert (status, err) == (0, "")
    page = (tmp_path / "out" / "demo.html").read_text(encoding="utf-8")
    assert page.count('<script type="text/plain" id="video') == 3  # videos of two policies and the real one
    assert str(tmp_path / "out" / "demo.html") in out.replace("\n", "")
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name.rsplit("-", 1)[0] for run in runs] == ["deep_forcing", "real_video", "sink"]
    table = load_scores(runs)
    assert set(table["run"]) == {run.name for run in runs}
    assert {"presence", "replay", "sharpness", "temporal_flickering"} <= set(table["metric"])
    assert "weights metrics download=true" in out
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file() and p.name != ".lock"}
    assert RunDir.open(runs[0]).record()["command"].startswith("python -m experiments.demo ")
    assert command("demo", *arguments).status == 0
    assert {p: p.stat().st_mtime_ns for p in before} == before


def test_vbench_is_scored_where_it_can_be_and_otherwise_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VBENCH_CACHE_DIR", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    get = "python -m experiments.weights metrics download=true"
    for choice, cuda in (("auto", True), ("auto", False), (False, True)):
        what, said = choose_vbench(choice, cuda, 5, 1.0)
        assert what is None
        assert (get in said) == (choice == "auto")
    with pytest.raises(ValueError, match="vbench=true needs the networks' weights"):
        choose_vbench(True, True, 5, 1.0)
    with pytest.raises(ValueError, match="vbench=maybe: use true, false or auto"):
        choose_vbench("maybe", True, 5, 1.0)
    raft = FILES["raft"].paths()[0]
    raft.parent.mkdir(parents=True)
    raft.touch()
    what, said = choose_vbench("auto", False, 5, 20.0)
    assert what == "glance"
    assert "the last 2 s of each column's first video, about 15 min of one core" in said
    assert "everything, about 60 h without a GPU" in said
    what, said = choose_vbench("auto", True, 5, 20.0)
    assert what == "whole"
    assert "without subject_consistency" in said
    assert "dynamic_degree" not in said
    assert choose_vbench(True, False, 5, 20.0)[0] == "whole"


def test_a_glance_is_the_end_of_one_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("VBENCH_CACHE_DIR", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    ticks: list[int] = []
    monkeypatch.setattr("experiments.workers.counted", lambda: ticks.append(1))
    run = reference_run(tmp_path, plan_samples(prompts_from_texts([RED, BLUE]), [0]), 5.0)
    last = max(run.completed())
    score_videos(str(run.path), "glance", last)
    table = load_scores([run.path], protocol=Protocol("vbench_last"))
    assert table[["sample", "metric"]].to_numpy().tolist() == [[last, "temporal_flickering"]]
    assert table["t_end"].iloc[0] - table["t_start"].iloc[0] == 2.0
    assert table["t_end"].iloc[0] == pytest.approx(probe(run.video_path(last)).frames / 16)
    assert ticks == [1]


def fail() -> None:
    raise ValueError("no such luck")


@pytest.mark.slow
def test_failure_in_a_worker_ends_the_demo_with_its_message() -> None:
    with pytest.raises(ValueError, match="no such luck"), workers(1) as (pool, ticker):
        follow(Progress(disable=True), "failing", 1, [pool.submit(torch.zeros, 1), pool.submit(fail)], ticker)
