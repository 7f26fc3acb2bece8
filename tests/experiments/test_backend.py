"""The key `backend` of a rollout: in the identity and the record, refused where it cannot work."""

from __future__ import annotations

import json
from pathlib import Path

from commands import Command

from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.generator import GeneratorSpec
from deepforcing.tiny.model import TinySpec


def test_a_run_says_its_backend(make: Command, tmp_path: Path) -> None:
    assert make("seconds=1", "backend=packed").status == 0
    (run,) = (json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/run.json"))
    assert run["identity"]["backend"] == run["spec"]["backend"] == "packed"
    bad = make("seconds=1", "backend=graphs", "device=cpu")
    assert bad.status == 2
    assert "backend=graphs does not work here: CUDA graphs need a GPU" in bad.err
    assert "one of plain, packed, compiled, graphs" in make("backend=fast").err
    assert "backend" not in GeneratorSpec("g", TinySpec(), CachePolicy(SinkWindow(21))).identity(3)
