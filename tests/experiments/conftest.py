"""Fixtures for the commands: a checkpoint that owes nothing to training, and commands called as from a shell."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path

import pytest
import torch
from commands import RED, Command, Outcome
from hydra.core.global_hydra import GlobalHydra
from safetensors.torch import save_file
from swept import words

from deepforcing.tiny.model import TinyModel


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded world's model with random weights: every video is noise, and always the same noise."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        model = TinyModel()
        tensors = {name: torch.randn_like(t) * 0.2 for name, t in model.state_dict().items()}
    path = tmp_path_factory.mktemp("weights") / "random.safetensors"
    save_file(tensors, path)
    return path


@pytest.fixture(scope="session")
def scored(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run as `rollout` and `evaluate` write it: one video, scored. For tests that copy it."""
    root = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        for module, *words in (
            ("rollout", f"model.checkpoint={checkpoint}", f"runs_root={root}", "seconds=3", f"prompts=['{RED}']"),
            ("evaluate", f"runs={root}/*", "metrics=saturation", "window_seconds=2"),
        ):
            patch.setattr(sys, "argv", [module, *words])
            import_module(f"experiments.{module}").main()
            GlobalHydra.instance().clear()
            torch.set_num_threads(1)
    (run,) = root.iterdir()
    return run


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """command("rollout", "cache=sink", ...): what `python -m experiments.rollout cache=sink ...` does, in this process."""

    def call(module: str, *arguments: str) -> Outcome:
        monkeypatch.setattr(sys, "argv", [f"experiments/{module}.py", *map(str, arguments)])
        capsys.readouterr()
        status: object = 0
        try:
            import_module(f"experiments.{module}").main()
        except SystemExit as stop:
            status = stop.code
        finally:
            GlobalHydra.instance().clear()
            torch.set_num_threads(1)
        assert isinstance(status, int)
        return Outcome(status, *capsys.readouterr())

    return call


@pytest.fixture
def make(command: Command, checkpoint: Path, tmp_path: Path) -> Command:
    """make(*overrides): roll out about a second of one prompt into tmp_path/runs with random weights."""

    def call(*overrides: str) -> Outcome:
        given = (f"model.checkpoint={checkpoint}", f"runs_root={tmp_path / 'runs'}", "seconds=1", f"prompts=['{RED}']")
        keys = {o.partition("=")[0] for o in overrides}
        return command("rollout", *(g for g in given if g.partition("=")[0] not in keys), *overrides)

    return call


@pytest.fixture
def whole_sweep(command: Command, checkpoint: Path, tmp_path: Path) -> Path:
    """The small sweep of tests/swept.py in one process, without a launcher."""
    folder = tmp_path / "whole"
    folder.mkdir()
    done = command("sweep", *words(checkpoint, folder))
    assert (done.status, done.err) == (0, "")
    return folder
