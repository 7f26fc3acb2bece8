"""Sweeps: points checked first, nothing made twice, what is left is counted, policies are compared at equal budgets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from commands import BLUE, RED, Command, Outcome
from omegaconf import OmegaConf
from report_runs import write_run

from deepforcing.prompts import Sample, prompts_from_texts
from experiments.figures.budget import Budget
from experiments.figures.coherence import Coherence
from experiments.figures.heatmap import Heatmap
from experiments.figures.pareto import Pareto, front
from experiments.reproduction import work
from experiments.sweeps.points import Point, Points
from experiments.sweeps.report import read_points, table_of
from experiments.tables.table import Column

PROMPTS = ("a red disc", "a blue ring", "a green cross")


@pytest.fixture
def sweep(command: Command, checkpoint: Path, tmp_path: Path) -> Command:
    """sweep(word, *overrides): one prompt of 2 s with random weights, reported into tmp_path/out.md."""

    def call(word: str, *overrides: str) -> Outcome:
        given = {"seconds": "2", "prompts": f"['{RED}']", "model.checkpoint": str(checkpoint), "number": "mean"}
        given |= {"runs_root": str(tmp_path / "runs"), "out": str(tmp_path / "out.md"), "metrics": "[saturation]"}
        typed = {override.partition("=")[0] for override in overrides}
        return command("sweep", word, *(f"{k}={v}" for k, v in given.items() if k not in typed), *overrides)

    return call


def files(root: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in root.rglob("*") if p.is_file() and p.name != ".lock"}


BUDGETS = ("budgets=[3,6]", "policies=[self_forcing,deep_sink]", "baseline=self_forcing")


def test_a_sweep_is_planned_run_and_never_run_twice(sweep: Command, tmp_path: Path) -> None:
    status, out, err = sweep("plan", *BUDGETS)
    assert (status, err) == (0, "")
    assert "deep_sink 6: 0 of 1 video, – min and – MB left (cache=deep_sink cache.retention.window_frames=6" in out
    assert "left out: deep_sink 3: " in out
    assert "3 points, 3 runs: 3 videos left, hours of this machine: unknown" in out
    assert not (tmp_path / "runs").exists() or not files(tmp_path / "runs")
    status, out, err = sweep("run", *BUDGETS)
    assert (status, err) == (0, "")
    text = (tmp_path / "out.md").read_text()
    assert text in out
    assert "Difference from self_forcing at the same budget" in text
    assert "- deep_sink 3: " in text.partition("## What was not run")[2]
    assert (tmp_path / "out_budget.png").read_bytes().startswith(b"\x89PNG")
    table = pd.read_csv(tmp_path / "out.csv").set_index(["row", "metric"])
    assert table.loc[("deep_sink 6", "kv_frames"), "value"] == pytest.approx((3 + 6 + 6) / 3)
    assert table.loc[("deep_sink 6", "saturation"), ["policy", "budget"]].tolist() == ["deep_sink", 6]
    before = files(tmp_path / "runs")
    assert sweep("run", *BUDGETS).status == 0
    assert files(tmp_path / "runs") == before
    assert (tmp_path / "out.md").read_text() == text
    assert "3 points, 3 runs: all videos are there" in sweep("plan", *BUDGETS).out


def test_what_is_left_is_told_from_what_is_there(sweep: Command, tmp_path: Path) -> None:
    """Half of two points' videos: as many seconds and bytes again as the others had."""
    one, both = f"prompts=['{RED}']", f"prompts=['{RED}','{BLUE}']"
    grid = ("grid={cache.retention.window_frames:[3,6]}", "baseline=window_frames 3")
    assert sweep("run", one, *grid).status == 0
    sizes = []
    for path in (tmp_path / "runs").glob("self_forcing-*/samples/*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps(record | {"wall_seconds": 60.0}))
        sizes.append(record["bytes"])
    out = sweep("plan", both, *grid).out
    assert "window_frames 3: 1 of 2 videos, 1.0 min and" in out
    assert "2 points, 2 runs: 2 videos left, about 0.03 hours of this machine, " in out
    assert f"{sum(sizes) / 1e6:.0f} MB, scoring not counted" in out
    assert "about 0.00 hours" in sweep("plan", both, *grid, "seconds_per_chunk=0.5").out


def test_points_of_equal_settings_share_a_run(sweep: Command, tmp_path: Path) -> None:
    same = "b:['cache=self_forcing','cache.retention.window_frames=21']"
    words = (f"points={{a:['cache=self_forcing'],{same},c:['cache=longlive']}}", "baseline=c")
    assert "the run of a" in sweep("plan", *words).out
    assert sweep("run", *words).status == 0
    assert len([p for p in (tmp_path / "runs").iterdir() if p.name.startswith("self_forcing")]) == 1
    table = pd.read_csv(tmp_path / "out.csv").set_index(["row", "metric"])
    assert table.loc[("a = b", "saturation"), "difference_n"] == 1
    assert {row for row, _ in table.index} == {"a = b", "c", "real_video"}


def test_a_point_that_fails_is_told_and_tried_again(
    sweep: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = work.rollout

    def broken(config: Any, console: Any) -> Any:
        if config.cache.name == "deep_sink":
            raise OSError(28, "No space left on device", "a/file")
        return whole(config, console)

    monkeypatch.setattr(work, "rollout", broken)
    status, out, err = sweep("run", *BUDGETS)
    assert status == 1
    assert (
        "1 of 3 points failed; the same command tries them again:\n  deep_sink 6: a/file: No space left on device"
        in err
    )
    assert "deep_sink 6: a/file: No space left" in out.partition("## What was not run")[2]
    assert set(pd.read_csv(tmp_path / "out.csv")["row"]) >= {"self_forcing 3", "self_forcing 6"}
    monkeypatch.setattr(work, "rollout", whole)
    assert sweep("run", *BUDGETS).status == 0
    assert "deep_sink 6" in set(pd.read_csv(tmp_path / "out.csv")["row"])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("plam",), "say plan or run first, not plam"),
        (("plan", "budgets=[]", "policies=[]"), "the sweep has no points: give it points, a grid, or budgets="),
        (("plan", "budgets=[6]", "policies=[]"), "budgets and policies belong together"),
        (("plan", "budgets=[6]", "policies=[deep_snk]"), "cache=deep_snk is unknown; did you mean deep_sink?"),
        (
            ("plan", "budgets=[9]", "policies=[keep_all]"),
            "no point of the sweep can run; keep_all 9: KeepAll has no rule",
        ),
        (("plan", "budgets=[0]", "policies=[sink]"), "budgets"),
        (("plan", *BUDGETS[:2], "baseline=sink"), "baseline=sink is not one of self_forcing, deep_sink; null is none"),
        (
            ("plan", "grid={cache.retention.window:[3]}"),
            "point window 3: cache.retention.window is not a key here; did you mean cache.retention.window_frames?",
        ),
        (("plan", "grid={seconds:3}"), "grid={'seconds': 3} must be {key of a rollout: [values], ...}, or null"),
        (("plan", "grid={cache.retention.window_frames:[3,3]}"), "two points are called window_frames 3"),
        (("plan", "sweep.title=null"), "sweep.title=null must be text"),
        (("run", *BUDGETS, "metrics=[colour_drft]"), "metric colour_drft is unknown"),
        (("run", *BUDGETS, "protocol=vbench", "number=last"), "number=last needs several scores of a video"),
        (("run", *BUDGETS, "out=a.html"), "must end in .md"),
    ],
)
def test_mistakes_are_told_in_one_line_before_work(
    sweep: Command, tmp_path: Path, words: tuple[str, ...], said: str
) -> None:
    status, _, err = sweep(*words)
    assert status == 2
    assert said in err
    assert err.count("\n") == 1
    assert not list(tmp_path.glob("runs/*/samples/*.mp4"))


def test_points_that_cannot_run_are_left_out_of_a_grid(sweep: Command) -> None:
    status, out, err = sweep("plan", "grid={cache:[sink],cache.retention.sink_frames:[3,30]}")
    assert (status, err) == (0, "")
    assert "left out: cache sink sink_frames 30: sink_frames=30 must be below window_frames=21" in out
    assert "1 point, 1 run: 1 videos left" in out


def known_runs(root: Path) -> tuple[Points, dict[str, float]]:
    """Two policies at two budgets, scored by hand: deep_sink is below sink by 1 at 6 and by 2 at 9, and a little noise."""
    values = {"sink 6": 10.0, "sink 9": 20.0, "deep_sink 6": 9.0, "deep_sink 9": 18.0}
    made = []
    for name, value in values.items():
        policy, budget = name.split()
        noise = [0.0, 0.1, -0.1] if policy == "deep_sink" else [0.0] * 3
        scores = {"colour_drift": lambda i, t, v=value, n=noise: v + n[i], "motion_magnitude": lambda i, t, v=value: v}
        spec = {"cache": {"retention": {"sink_frames": int(budget) // 3, "budget_frames": int(budget)}}}
        run = write_run(root, policy, scores, spec, name=f"{policy}-{budget:0>8}")
        made.append(Point(name, (f"cache={policy}",), OmegaConf.create(), run, 4, policy, int(budget)))
    samples = tuple(Sample(prompt, 0) for prompt in prompts_from_texts(list(PROMPTS)))
    return Points(tuple(made), {}, samples, None, "sink"), values


def test_policies_are_compared_at_the_same_budget_and_all_tests_count(tmp_path: Path) -> None:
    points, values = known_runs(tmp_path)
    config = OmegaConf.create({"ends": 5, "protocol": "windows", "window_seconds": 1.0, "number": "last"})
    column = Column("colour_drift", "last")
    table = table_of(points, read_points(points, None), (column,), config)
    for name, value in values.items():
        assert table.cell(name, column).value == pytest.approx(value)
    assert table.difference("deep_sink 6", column).value == pytest.approx(-1)
    assert table.difference("deep_sink 9", column).value == pytest.approx(-2)
    assert not table.difference("sink 9", column).n
    tests = [table.difference(f"deep_sink {budget}", column) for budget in (6, 9)]
    assert sorted(e.holm for e in tests) == pytest.approx(
        sorted([2 * min(e.p for e in tests), max(e.p for e in tests)])
    )
    assert table.comparisons == 2
    assert any("all 2 comparisons made here" in note for note in table.notes)


def test_figures_of_sweeps_show_the_numbers_that_they_are_given(tmp_path: Path) -> None:
    points, _ = known_runs(tmp_path)
    runs = [point.run for point in points.made]
    drawn = Budget(metrics="colour_drift", cost="kv_tokens").read(runs)
    ((title, _, lines),) = drawn.panels
    assert title == "colour drift, last ↓"
    assert [line.policy for line in lines] == ["sink", "deep_sink"]
    assert [point[1] for point in lines[1].points] == pytest.approx([9.0, 18.0])
    assert {point[0] for line in lines for point in line.points} == {101.5}  # tokens 100 to 103 in every run
    assert lines[1].points[0][2] < 9 < lines[1].points[0][3]
    keys = {"x": "cache.retention.sink_frames", "y": "cache.retention.budget_frames"}
    field = Heatmap(**keys, metrics="colour_drift").read(runs[:2])
    assert (field.x[1], field.y[1]) == ((2.0, 3.0), (6.0, 9.0))
    assert np.array_equal(field.fields[0].values, [[10, np.nan], [np.nan, 20]], equal_nan=True)
    with pytest.raises(ValueError, match=r"two runs have cache.retention.sink_frames=2 and .*=6"):
        Heatmap(**keys, metrics="colour_drift").read(runs)
    pareto = Pareto(cost="kv_tokens").read(runs)  # less drift and more motion are wanted: here they go together
    assert {run.y for run in pareto.runs if run.front} == {9.0, 10.0, 18.0, 20.0}
    with pytest.raises(ValueError, match=r"figure.cost=kv_frames is known of none of the runs"):
        Budget().read(runs)


def test_the_coherence_curve_is_the_mean_at_every_distance(tmp_path: Path) -> None:
    scores = {f"coherence_{s}s": lambda i, t, s=s: 1 / (1 + float(s)) + i / 10 for s in ("32", "0.5", "2")}
    runs = [write_run(tmp_path, "deep_sink", scores)]
    (course,) = Coherence(window_seconds=1.0).read(runs).runs
    assert [point[0] for point in course.points] == [0.5, 2.0, 32.0]
    assert [point[1] for point in course.points] == pytest.approx([1 / (1 + s) + 0.1 for s in (0.5, 2, 32)])
    with pytest.raises(ValueError, match="the runs have no scores of coherence"):
        Coherence().read([write_run(tmp_path, "other", {"colour_drift": lambda i, t: 0.0})])


def test_the_front_is_what_nothing_beats() -> None:
    assert front([(1, 1, 1), (2, 2, 2)]) == [False, True]
    assert front([(1, 2, 0), (2, 1, 0), (1, 1, 0), (1, 2, 0)]) == [True, True, False, True]
    random = np.random.default_rng(0).normal(size=(40, 3))
    for point, on in zip(random, front(random.tolist()), strict=True):
        assert on == (not ((random >= point).all(1) & (random > point).any(1)).any())
