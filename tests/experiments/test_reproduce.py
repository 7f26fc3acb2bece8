"""Experiments of the paper, whole and very small: rows checked first, a report that says what was not run, nothing twice."""

from __future__ import annotations

import re
from pathlib import Path

import hydra
import pandas as pd
import pytest
import vbench_motion_files as files
from commands import BLUE, RED, Command, Outcome
from omegaconf import OmegaConf

from eval.metrics.vbench.quality import RANGES, quality
from experiments.cli import CONF, groups
from experiments.reproduction import work
from experiments.reproduction.plan import plan

ROWS = "rows=[self_forcing,deep_forcing]"


@pytest.fixture
def experiment(command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    """experiment(name, *overrides): a few seconds of one prompt with random weights, reported into tmp_path/out.md."""
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def call(name: str, *overrides: str) -> Outcome:
        given = {"seconds": "2", "prompts": f"['{RED}']", "model.checkpoint": str(checkpoint)}
        given |= {"runs_root": str(tmp_path / "runs"), "out": str(tmp_path / "out.md")}
        typed = {override.partition("=")[0] for override in overrides}
        words = [f"{key}={value}" for key, value in given.items() if key not in typed]
        return command("reproduce", f"experiment={name}", *words, *overrides)

    return call


def paper_numbers(name: str) -> list[float]:
    rows = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").rows
    return [float(number) for row in rows.values() for number in (row.get("paper") or {}).values()]


def test_one_runs_whole_with_what_weights_there_are(experiment: Command, tmp_path: Path) -> None:
    files.amt_weights(tmp_path / "cache")
    status, out, err = experiment("table5", "rows=[denoising,both]")
    assert (status, err) == (0, "")
    text = (tmp_path / "out.md").read_text(encoding="utf-8")
    assert text in out
    for number in paper_numbers("table5"):
        assert f"{number:.2f}" in text
    assert "levels are not comparable, only signs and orders" in text
    assert "videos of 2 s instead of 30 s, 1 prompt instead of 128 and float32 instead of bfloat16" in text
    missing = text.partition("## What was not run")[2]
    assert "row Only the clean past: left out by rows=" in missing
    assert "imaging_quality: MUSIQ-SPAQ is not at" in missing
    assert "overall_consistency: ViCLIP" in missing
    assert "motion_smoothness" not in missing
    table = pd.read_csv(tmp_path / "out.csv").set_index(["row", "metric"])
    assert 0 < table.loc[("both", "motion_smoothness"), "ours"] <= 100
    assert table.loc[("both", "motion_smoothness"), "paper"] == 98.27
    assert table.loc[("past", "motion_smoothness"), ["ours", "absent"]].isna().all()
    assert table.loc[("both", "imaging_quality"), ["ours"]].isna().all()
    assert "MUSIQ" in table.loc[("both", "imaging_quality"), "absent"]
    assert table.loc[("real_video", "progress"), "ours"] == pytest.approx(1, abs=0.05)


def test_again_redoes_nothing_and_experiments_share_runs(experiment: Command, tmp_path: Path) -> None:
    assert experiment("table4", ROWS).status == 0
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name.rpartition("-")[0] for run in runs] == ["deep_forcing", "real_video", "self_forcing"]
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file() and p.name != ".lock"}
    first = (tmp_path / "out.md").read_text()
    assert experiment("table4", ROWS).status == 0
    assert (tmp_path / "out.md").read_text() == first
    assert experiment("table5", "rows=both").status == 0
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "runs").rglob("*") if p.is_file() and p.name != ".lock"}
    assert after == before
    text = first.replace("\n", " ")
    assert re.search(r"dynamic_degree: RAFT-things is not at", text)
    assert "none can be compared" in text


def test_only_this_requests_prompts_count(experiment: Command, tmp_path: Path) -> None:
    both = f"prompts=['{RED}','{BLUE}']"
    assert experiment("table4", "rows=self_forcing", both).status == 0
    counts = pd.read_csv(tmp_path / "out.csv").set_index(["row", "metric"])["prompts"]
    assert counts["self_forcing", "sharpness"] == 2
    assert experiment("table4", "rows=self_forcing", both, "first=1").status == 0
    counts = pd.read_csv(tmp_path / "out.csv").set_index(["row", "metric"])["prompts"]
    assert counts["self_forcing", "sharpness"] == 1


def test_sweep_draws_what_was_measured(experiment: Command, tmp_path: Path) -> None:
    status, out, err = experiment("sink_depth", "rows=[s0,s4]")
    assert (status, err) == (0, "")
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    assert "![Sink depth (figure 5)](out.png)" in out
    assert "best with S = 10 to 15" in out


def test_rows_with_weights_of_their_own_are_labelled(experiment: Command, tmp_path: Path) -> None:
    assert experiment("table1_30s", "rows=[longlive,self_forcing]").status == 0
    text = (tmp_path / "out.md").read_text()
    assert "| LongLive (its rule, other weights) | ours |" in text
    assert "| Self Forcing | ours |" in text
    fps = pd.read_csv(tmp_path / "out.csv").set_index(["row", "metric"]).loc[("longlive", "fps")]
    assert fps["ours"] > 0
    assert fps["paper"] == 18.16


def test_a_row_that_fails_does_not_lose_the_others(
    experiment: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = work.rollout

    def broken(config, console):  # type: ignore[no-untyped-def]
        if config.cache.name == "self_forcing":
            raise OSError(28, "No space left on device", "a/file")
        return whole(config, console)

    monkeypatch.setattr(work, "rollout", broken)
    status, _, err = experiment("table4", ROWS)
    assert status == 1
    assert err == "error: row self_forcing: a/file: No space left on device\n"
    text = (tmp_path / "out.md").read_text()
    assert "row Self Forcing: a/file: No space left on device" in text
    assert "`generator=deep_forcing`; 1 of 1 video" in text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("experiment=tabel4", r"experiment=tabel4 is unknown; did you mean table4\? choices: .*sink_depth"),
        ("rows=[deepsink]", r"rows=deepsink is no row of this experiment; did you mean deep_sink\?"),
        ("rows=[]", r"rows=\[\] leaves nothing to run"),
        ("out=page.html", r"out=page\.html must end in \.md"),
        ("prompts=dmo", r"^error: prompts=dmo is neither a suite"),
        ("first=0", r"first=0 must be a whole number of at least 1"),
        ("seconds=0", r"seconds=0 must be a positive number"),
        ("ends=0", r"ends=0 must be a positive number"),
        ("beside=beauty", r"metric beauty is unknown; there are .*progress"),
        ("experiment=sink_depth experiment.sweep.panels=presence", r"experiment.sweep.*panels"),
        ("beside=[beauty]", r"metric beauty is unknown; there are .*progress"),
        ("experiment.metrics.dynamic_degree=best", r"dynamic_degree: best is not one of mean, first, last"),
        ("experiment=table1_60s seconds=2", r"row rolling_forcing: 9 latent frames are less than one rolling window"),
        ("device=gpu", r"use auto, cpu, cuda or cuda:N"),
        ("model=wan2.1-1.3b prompts=wan", r"row self_forcing: .*lacks checkpoint"),
        ("sconds=3", r"did you mean seconds\?"),
    ],
)
def test_wrong_words_stop_before_any_work(
    words: str, says: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = command("reproduce", *words.split())
    assert status == 2
    assert (err.count("\n"), out) == (1, "")
    assert re.search(says, err), err
    assert not list(tmp_path.rglob("*.mp4"))
    assert not list(tmp_path.rglob("run.json"))


def test_help_lists_the_experiments(command: Command) -> None:
    status, out, err = command("reproduce", "--help")
    assert (status, err) == (0, "")
    assert ", ".join(groups()["experiment"]) in out


def test_quality_is_made_of_seven_dimensions_that_are_asked_for() -> None:
    """Also those that have no column of their own."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("reproduce", ["experiment=recency_table3", "experiment.metrics={vbench_quality:mean}"])
        planned = plan(config, "recency_table3", ["model=tiny"])
    assert {metric.name for metric in planned.measurements("vbench_long")} == set(RANGES)


@pytest.mark.parametrize(("name", "count"), [("recency_table3", 2), ("commit_table", 8)])
def test_published_qualities_are_those_of_their_published_dimensions(name: str, count: int) -> None:
    rows = OmegaConf.load(CONF / "experiment" / f"{name}.yaml").rows
    whole = [row.paper for row in rows.values() if len(row.get("paper") or {}) == 8]
    assert len(whole) == count
    for paper in whole:
        scores = {name: paper[name] / 100 for name in RANGES}
        within = 0.014  # as far as rounding all seven and the sum to two decimals can lead
        assert 100 * quality(scores) == pytest.approx(paper["vbench_quality"], abs=within)


def test_every_row_of_the_commit_table_is_a_rollout_that_can_be_made() -> None:
    """And those with Commit Forcing differ from the row above them in what the commit pass reads, in nothing else."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        planned = plan(hydra.compose("reproduce", ["experiment=commit_table"]), "commit_table", ["model=tiny"])
    assert len(planned.configs) == 12
    for name in planned.configs:
        base, _, rest = name.rpartition("_")
        if rest in ("commit", "own"):
            caches = [OmegaConf.to_container(planned.configs[row].cache) for row in (base, name)]
            assert caches[1].pop("commit_frames") == {"longlive_commit": 12, "longlive_own": 3}.get(name, 21)
            assert caches[0].pop("commit_frames") is None
            assert caches[0] == caches[1]


def test_a_table_with_quality_says_what_it_rewards(experiment: Command, tmp_path: Path) -> None:
    assert experiment("recency_table3", "rows=self_forcing", "beside=[]").status == 0
    text = (tmp_path / "out.md").read_text()
    assert "VBench Quality rewards standing still" in text
    assert "80.11" in text
