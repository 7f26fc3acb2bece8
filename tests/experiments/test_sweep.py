"""Sweeps by launchers that run points elsewhere: failures come back, files lie where points see them."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import pytest
from commands import RED, Command

from deepforcing.runs import identity_hash
from experiments.command.sweep import tell

WANTED = [["cache=sink", "hydra/launcher=x"], ["cache=slot"], ["cache=deep_sink"]]


def test_points_that_failed_or_left_nothing_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def end(number: int, status: int, why: str = "") -> None:
        (tmp_path / f"{number}.ended.json").write_text(json.dumps({"status": status, "why": why}))

    end(0, 0)
    end(1, 2, "no such luck")
    assert tell(tmp_path, WANTED) == 1
    err = capsys.readouterr().err
    assert "error: 2 of 3 points failed:" in err
    assert "  cache=slot: no such luck\n" in err
    assert re.search(rf"  cache=deep_sink: has not ended well or not yet; .*{tmp_path}", err)
    assert "cache=sink:" not in err
    end(1, 0)
    end(2, 0)
    assert tell(tmp_path, WANTED) == 0
    assert capsys.readouterr().err == ""


def test_a_launcher_that_is_not_installed_says_what_to_install(command: Command) -> None:
    for name, package in (("ray", "hydra-ray-launcher"), ("joblib", "hydra-joblib-launcher")):
        status, _, err = command("rollout", "-m", f"hydra/launcher={name}", "cache=sink,slot")
        assert (status, err.count("\n")) == (2, 1)
        assert f"hydra/launcher={name} is not installed; it comes with a plugin: pip install {package}" in err
        assert "choices here: basic" in err


def test_a_launcher_without_a_sweep_is_refused(command: Command) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    status, _, err = command("rollout", "hydra/launcher=submitit_local")
    assert status == 2
    assert "launchers are for sweeps: add -m" in err


def test_a_cluster_that_is_not_there(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Devices are looked at where points run: a GPU that this machine lacks is no mistake here. Names of devices are."""
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent))  # also where this machine has one
    words = ("-m", "hydra/launcher=submitit_slurm", "cache=sink,slot", f"runs_root={tmp_path}")
    status, _, err = command("rollout", *words, "device=gpu")
    assert (status, err.count("\n")) == (2, 1)
    assert "device=gpu is unknown" in err
    assert not list(tmp_path.iterdir())
    status, _, err = command("rollout", *words, "device=cuda:99")
    assert status == 1
    assert "error: the sweep's launcher: " in err
    assert "srun" in err
    assert "error: 2 of 2 points failed:" in err


@pytest.mark.slow
def test_failures_of_points_in_other_processes(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_submitit_launcher")
    runs = tmp_path / "runs"
    arguments = (f"model.checkpoint={checkpoint}", f"runs_root={runs}", "seconds=1", f"prompts=['{RED}']")
    sweep = ("-m", "hydra/launcher=submitit_local", "cache=sink,deep_sink", *arguments)
    assert command("rollout", "cache=sink", *arguments).status == 0
    (whole,) = runs.glob("sink-*")
    (whole / "run.json").unlink()  # samples without it are refused when the work begins, and not before
    status, _, err = command("rollout", *sweep)
    assert status == 1
    assert "error: 1 of 2 points failed:" in err
    assert re.search(r"  cache=sink .*has samples but no run\.json", err)
    (good,) = runs.glob("deep_sink-*")
    record = json.loads((good / "run.json").read_text())
    assert good.name.endswith(identity_hash(record["identity"]))
    assert record["command"].startswith("python -m experiments.rollout -m ")
    assert len(list(good.glob("samples/*.mp4"))) == 1
    (place,) = (runs / ".sweeps").iterdir()  # pickles and logs lie with the runs
    assert len(list(place.glob("*.ended.json"))) == 2
    assert list(place.rglob("*_log.out"))
    status, _, _ = command("evaluate", f"runs={runs}/deep*", "metrics=[sharpness]", "window_seconds=0.5")
    assert status == 0
