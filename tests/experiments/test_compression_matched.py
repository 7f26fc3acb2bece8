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
TINY = "shape_match:last,sprite_drift:last,presence:last,progress:last,texture:last,background_drift:last"
PAN = "novelty:last,landmark_kept:last,pan_progress:last,scenery_drift:last"
CROWD = "on_time:mean,place_error:mean,empty_stage:mean,subject_shape:mean,identity_drift:mean"
SCORES = {  # folder of scores: its experiment, None for none of the plan's, columns and suite
    "scores": ("compression_matched", TINY, "unseen"),
    "adaptive_sink_scores": ("adaptive_sink", TINY, "unseen"),
    "pan_scores": ("adaptive_sink", PAN, "tiny_pan_unseen"),
    "pan_compression_scores": ("compression_matched", PAN, "tiny_pan_unseen"),
    "crowd_scores": ("adaptive_sink", CROWD, "tiny_crowd_unseen"),
    "second_scores": ("compression_matched", TINY, "unseen"),
    "second_adaptive_scores": ("adaptive_sink", TINY, "unseen"),
    "exploratory_scores": (None, TINY, "unseen"),
    "frames_read_scores": (None, TINY, "heldout"),
}
TABLES = {  # the committed table: its folder and baseline, None: the leaderboard chooses
    "deep_sink_w19": ("scores", "deep_sink_w19"),
    "deep_sink_w16": ("scores", "deep_sink_w16"),
    "deep_sink_w18": ("scores", "deep_sink_w18"),
    "deep_forcing_own_frames": ("scores", "deep_forcing_own_frames"),
    "deep_forcing": ("scores", "deep_forcing"),
    "adaptive_sink": ("adaptive_sink_scores", "deep_sink"),
    "adaptive_sink_pan": ("pan_scores", "deep_sink_s14"),
    "compression_pan": ("pan_compression_scores", "deep_sink_w19"),
    "adaptive_sink_crowd": ("crowd_scores", "deep_sink_s6"),
    "adaptive_sink_crowd_s10": ("crowd_scores", "deep_sink"),
    "second_deep_sink_w19": ("second_scores", "deep_sink_w19"),
    "second_deep_sink_w16": ("second_scores", "deep_sink_w16"),
    "second_deep_sink_w18": ("second_scores", "deep_sink_w18"),
    "second_deep_forcing_own_frames": ("second_scores", "deep_forcing_own_frames"),
    "second_deep_forcing": ("second_scores", "deep_forcing"),
    "second_adaptive_sink": ("second_adaptive_scores", "deep_sink"),
    "frames_read": ("frames_read_scores", None),
    "exploratory_deep_sink_s12": ("exploratory_scores", "deep_sink_s12"),
    "exploratory_deep_forcing_own_frames": ("exploratory_scores", "deep_forcing_own_frames"),
}
FAST = {"deep_sink_w19", "adaptive_sink_pan"}  # one of each world


@pytest.mark.parametrize("table", [pytest.param(t, marks=[] if t in FAST else [pytest.mark.slow]) for t in TABLES])
def test_every_number_comes_again_from_the_scores(table: str, command: Command, tmp_path: Path) -> None:
    folder, baseline = TABLES[table]
    experiment, columns, _ = SCORES[folder]
    words = [
        *([] if experiment is None else [f"experiment={experiment}"]),
        f"folders={HERE / folder}",
        f"columns=[{columns}]",
        *([] if baseline is None else [f"baseline={baseline}"]),
    ]
    found = command("leaderboard", *words, f"out={tmp_path / table}.html")
    assert found.status == 0, found.err
    again, committed = (pd.read_csv(folder / f"{table}.csv") for folder in (tmp_path, HERE))
    pd.testing.assert_frame_equal(again, committed, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("folder", [folder for folder in SCORES if folder != "frames_read_scores"])
def test_rows_prompts_and_seeds_are_the_plans(folder: str) -> None:
    experiment, _, suite = SCORES[folder]
    prompts = {prompt.text for prompt in load_suite(suite)}
    assert len(prompts) == 64
    runs = read_exported(HERE / folder)
    if experiment is not None:
        spec = yaml.safe_load((ROOT / "conf" / "experiment" / f"{experiment}.yaml").read_text())
        assert {str(run.record["name"]) for run in runs} == set(spec["rows"])
    for run in runs:
        assert run.path.name == f"{run.record['name']}-{identity_hash(run.record['identity'])}"
        assert {sample["seed"] for sample in run.samples} == {5, 6}
        for seed in (5, 6):
            assert {sample["prompt"] for sample in run.samples if sample["seed"] == seed} == prompts
