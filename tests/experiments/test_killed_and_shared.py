"""What other processes do to a run: one that is killed while it probes, and two that search in one journal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import optuna
import pytest
from commands import RED

from experiments.health.resume import finish, kill
from experiments.searching.importance import storage_of


@pytest.mark.slow
def test_a_probed_rollout_that_is_killed_mid_video_ends_with_the_same_files(checkpoint: Path, tmp_path: Path) -> None:
    small = ("window_frames=9", "sink_frames=3", "budget_frames=8", "recent_frames=4")
    words = [
        "cache=deep_forcing", *(f"cache.retention.{word}" for word in small), "seconds=30", f"prompts=['{RED}']",
        f"model.checkpoint={checkpoint}", "watch=experiments.probes.chosen.Chosen", "threads=1",
    ]  # fmt: skip
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert finish(words, whole) == ""
    assert kill(words, killed), "it was killed while its video was written"
    assert not list(killed.glob("*/probes/*.npz")), "no probe data before the video is whole"
    assert finish(words, killed) == ""
    for pattern in ("*/samples/*.mp4", "*/probes/*.npz"):
        (one,), (other,) = whole.glob(pattern), killed.glob(pattern)
        assert one.read_bytes() == other.read_bytes()


@pytest.mark.slow
def test_two_searches_share_a_journal_and_no_trial_is_made_twice(tmp_path: Path) -> None:
    words = [
        f"prompts=['{RED}']", "seconds=4", "prune_at=[2.1]", "ends=1", "window_seconds=0.5",
        "name=shared", "trials=4", "threads=1", f"runs_root={tmp_path / 'runs'}",
        "space={cache.retention.sink_frames:{low:2,high:7}}", "rollout=['cache=deep_sink']", "first=1",
    ]  # fmt: skip
    command = [sys.executable, "-m", "experiments.search", *words]
    both = [
        subprocess.Popen([*command, f"out={tmp_path / f'{n}.md'}"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for n in range(2)
    ]  # fmt: skip
    for process in both:
        _, err = process.communicate(timeout=900)
        assert (process.returncode, err) == (0, "")
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.load_study(
        study_name="shared", storage=storage_of(tmp_path / "runs" / ".searches" / "shared.journal")
    )
    assert len(study.trials) >= 4
    assert all(trial.state.name in ("COMPLETE", "PRUNED") for trial in study.trials)
    assert len({trial.user_attrs["process"] for trial in study.trials}) == 2, "both have made trials"
    assert len({trial.number for trial in study.trials}) == len(study.trials) <= 5  # each may have begun the last one
