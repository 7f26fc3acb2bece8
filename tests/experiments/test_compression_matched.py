"""The committed runs of the plan on sinks and compression: their tables come again from the scores beside them."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import Command

from deepforcing.runs import identity_hash
from experiments.results.exported import read_exported
from experiments.suites import load_suite

ROOT = Path(__file__).parents[2]
HERE = ROOT / "docs" / "experiments" / "sinks_and_compression"
COLUMNS = "shape_match:last,sprite_drift:last,presence:last,progress:last,texture:last,background_drift:last"
SCORES = {"compression_matched": "scores", "adaptive_sink": "adaptive_sink_scores"}
TABLES = {  # the committed table: its experiment and baseline
    "deep_sink_w19": ("compression_matched", "deep_sink_w19"),
    "deep_sink_w16": ("compression_matched", "deep_sink_w16"),
    "deep_forcing_own_frames": ("compression_matched", "deep_forcing_own_frames"),
    "adaptive_sink": ("adaptive_sink", "deep_sink"),
}
FAST = {"deep_sink_w19", "adaptive_sink"}  # one of each experiment


@pytest.mark.parametrize("table", [pytest.param(t, marks=[] if t in FAST else [pytest.mark.slow]) for t in TABLES])
def test_every_number_comes_again_from_the_scores(table: str, command: Command, tmp_path: Path) -> None:
    experiment, baseline = TABLES[table]
    words = [
        f"experiment={experiment}",
        f"folders={HERE / SCORES[experiment]}",
        f"columns=[{COLUMNS}]",
        f"baseline={baseline}",
    ]
    found = command("leaderboard", *words, f"out={tmp_path / table}.html")
    assert found.status == 0, found.err
    again, committed = (pd.read_csv(folder / f"{table}.csv") for folder in (tmp_path, HERE))
    pd.testing.assert_frame_equal(again, committed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("experiment", SCORES)
def test_rows_prompts_and_seeds_are_the_plans(experiment: str) -> None:
    spec = yaml.safe_load((ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text())
    prompts = {prompt.text for prompt in load_suite("unseen")}
    assert len(prompts) == 64
    runs = read_exported(HERE / SCORES[experiment])
    assert runs
    for run in runs:
        name = str(run.record["name"])
        assert name in spec["rows"]
        assert run.path.name == f"{name}-{identity_hash(run.record['identity'])}"
        seeds = {sample["seed"] for sample in run.samples}
        assert {5} <= seeds <= {5, 6}
        for seed in seeds:
            assert {sample["prompt"] for sample in run.samples if sample["seed"] == seed} == prompts
