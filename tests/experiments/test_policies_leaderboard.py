"""The embedded world's committed leaderboard: its numbers come again from the scores beside it, its rows are its spec's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import Command
from omegaconf import OmegaConf

from deepforcing.runs import identity_hash
from experiments.command.compose import compose
from experiments.request import build_spec, load_suite
from experiments.results.exported import read_exported

ROOT = Path(__file__).parents[2]
BOARD = ROOT / "docs" / "leaderboard"
SPEC = yaml.safe_load((ROOT / "conf" / "experiment" / "policies.yaml").read_text())
RUNS = {str(run.record["name"]): run for run in read_exported(BOARD / "scores")}


def test_every_number_comes_again_from_the_scores(command: Command, tmp_path: Path) -> None:
    out = tmp_path / "leaderboard.html"
    found = command("leaderboard", "experiment=policies", f"folders={BOARD / 'scores'}", f"out={out}")
    assert found.status == 0, found.err
    again, committed = pd.read_csv(out.with_suffix(".csv")), pd.read_csv(BOARD / "leaderboard.csv")
    pd.testing.assert_frame_equal(again, committed, rtol=1e-9, atol=1e-12)
    wanted = [
        line for line in (BOARD / "leaderboard.md").read_text().splitlines() if line.startswith(("#", "| policy"))
    ]
    assert [
        line for line in out.with_suffix(".md").read_text().splitlines() if line.startswith(("#", "| policy"))
    ] == wanted


def test_it_has_two_seeds_and_the_held_out_prompts() -> None:
    table = pd.read_csv(BOARD / "leaderboard.csv")
    assert sorted(set(table["seed"])) == [3, 4]
    assert table.groupby("seed")["run"].nunique().min() >= 12
    assert set(table["suite"]) == {"heldout (48 prompts)"}
    assert table["seconds"].between(59, 61).all()
    prompts = {prompt.text for prompt in load_suite("heldout")}
    for run in RUNS.values():
        for seed in (3, 4):
            assert {sample["prompt"] for sample in run.samples if sample["seed"] == seed} == prompts


def test_rows_are_those_of_the_spec() -> None:
    assert set(RUNS) <= set(SPEC["rows"])
    for name, run in RUNS.items():
        assert run.path.name == f"{name}-{identity_hash(run.record['identity'])}"


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n == "deep_sink_w16" else pytest.mark.slow) for n in sorted(RUNS)]
)
def test_a_run_is_what_its_row_says(name: str) -> None:
    """The words of the spec make the run that was committed."""
    config = compose("rollout", [*SPEC["rows"][name]["rollout"], "model=tiny", f"seconds={SPEC['seconds']}"])
    OmegaConf.resolve(config)
    spec = build_spec(config)
    assert spec.identity(spec.latent_frames(SPEC["seconds"])) == RUNS[name].record["identity"]
