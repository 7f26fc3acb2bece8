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
SPEC = yaml.safe_load((ROOT / "conf" / "experiment" / "compression_matched.yaml").read_text())
COLUMNS = "shape_match:last,sprite_drift:last,presence:last,progress:last,texture:last,background_drift:last"
BASELINES = ("deep_sink_w19", "deep_sink_w16", "deep_forcing_own_frames")


@pytest.mark.parametrize(
    "baseline", [pytest.param(b, marks=[pytest.mark.slow] if b != BASELINES[0] else []) for b in BASELINES]
)
def test_every_number_comes_again_from_the_scores(baseline: str, command: Command, tmp_path: Path) -> None:
    out = tmp_path / f"{baseline}.html"
    words = [
        "experiment=compression_matched",
        f"folders={HERE / 'scores'}",
        f"columns=[{COLUMNS}]",
        f"baseline={baseline}",
    ]
    found = command("leaderboard", *words, f"out={out}")
    assert found.status == 0, found.err
    again, committed = (pd.read_csv(folder / f"{baseline}.csv") for folder in (tmp_path, HERE))
    pd.testing.assert_frame_equal(again, committed, rtol=1e-9, atol=1e-12)


def test_rows_prompts_and_seeds_are_the_plans() -> None:
    prompts = {prompt.text for prompt in load_suite("unseen")}
    assert len(prompts) == 64
    for run in read_exported(HERE / "scores"):
        name = str(run.record["name"])
        assert name in SPEC["rows"]
        assert run.path.name == f"{name}-{identity_hash(run.record['identity'])}"
        seeds = {sample["seed"] for sample in run.samples}
        assert {5} <= seeds <= {5, 6}
        for seed in seeds:
            assert {sample["prompt"] for sample in run.samples if sample["seed"] == seed} == prompts
