"""Commands started without make wait as with it, unless the user has said how; a commit is timed beside another."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import check_speed

ROOT = Path(__file__).parents[2]
CODE = """
import os, sys
from experiments.command import program
import experiments.rollout, experiments.bench, experiments.evaluate
def work(words):
    print("torch" in sys.modules, os.environ.get("OMP_WAIT_POLICY"), os.environ.get("GOMP_SPINCOUNT"))
program(work, lambda: "")()
"""


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({}, "False PASSIVE 20000"),
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "False ACTIVE None"),
        ({"GOMP_SPINCOUNT": "7"}, "False None 7"),
    ],
)
def test_settings_are_there_before_torch_is(own: dict[str, str], said: str) -> None:
    clean = {k: v for k, v in os.environ.items() if k not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    done = subprocess.run([sys.executable, "-c", CODE], cwd=ROOT, env=clean | own, capture_output=True, text=True)
    assert (done.stdout.strip(), done.stderr) == (said, "")


FAULTS = """
import sys
from experiments.command.entry import give_back_less
give_back_less()
import resource, numpy as np
def chunk():  # 8 MB in small blocks, then none of it
    kept = [np.ones(1 << 13) for _ in range(128)]
for _ in range(5):
    began = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    chunk()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - began)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's setting")
@pytest.mark.parametrize(("own", "few"), [({}, True), ({"MALLOC_TRIM_THRESHOLD_": "131072"}, False)])
def test_memory_that_a_chunk_frees_is_there_for_the_next(own: dict[str, str], few: bool) -> None:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    done = subprocess.run([sys.executable, "-c", FAULTS], cwd=ROOT, env=clean | own, capture_output=True, text=True)
    assert done.stderr == ""
    assert (int(done.stdout.split()[-1]) < 50) == few


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("fast", "'fast' is no key here"),
        ("chunks=0", "chunks='0' must be"),
        ("pairs=1", "pairs='1' must be a whole number of at least 2"),
        ("new=nosuchcommit", "git knows no commit"),
    ],
)
def test_wrong_words_are_one_line(word: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_speed.main([word]) == 2
    said = capsys.readouterr().err
    assert says in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(("slower", "status"), [(1.2, 1), (1.0, 0), (0.8, 0)])
def test_the_ratio_of_a_known_slowdown(
    slower: float, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Chunks in turn, under a load that changes by more than what is looked for."""
    load = iter(np.repeat(np.random.default_rng(0).uniform(1, 3, 400), 2))
    order: list[str] = []

    class Worker:
        def __init__(self, where: str) -> None:
            self.side = Path(where).name

        def kill(self) -> None: ...
        def wait(self) -> None: ...

    def chunk(process: Any) -> tuple[float, float]:
        order.append(process.side)
        return float(next(load)) * (slower if process.side == "new" else 1.0), 0.5

    monkeypatch.setattr(check_speed, "tree", lambda commit, folder: folder)
    monkeypatch.setattr(check_speed, "worker", lambda where, given, total: Worker(str(where)))
    monkeypatch.setattr(check_speed, "chunk", chunk)
    assert check_speed.main(["chunks=20"]) == status
    assert f"takes {slower:.3f}" in capsys.readouterr().out
    assert order[:4] == ["old", "new", "new", "old"]
    assert order.count("new") == order.count("old") == 6 * 30


def test_the_interval_is_of_the_processes() -> None:
    """Of logarithms -1, 0, 1: t(.975, 2) = 4.303 standard errors of 1 / sqrt(3)."""
    mean, low, high = check_speed.mean_ratio([np.exp(-1), 1.0, np.exp(1)])
    assert mean == pytest.approx(1)
    assert np.log([low, high]) == pytest.approx([-4.3027 / 3**0.5, 4.3027 / 3**0.5], rel=1e-4)


@pytest.mark.slow
def test_a_commit_beside_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert check_speed.main(["new=HEAD", "old=HEAD", "chunks=2", "pairs=2"]) in (0, 1)
    assert '"sums_differ_by": 0.0' in capsys.readouterr().out
