"""Notebooks are percent scripts; here they run as scripts on small rendered runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deepforcing.prompts import plan_samples, prompts_from_texts
from deepforcing.tiny.world import caption
from eval.metrics import WEIGHT_FREE
from eval.score import score_run
from experiments.reference import reference_run

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("script", sorted((ROOT / "notebooks").glob("*.py")), ids=lambda p: p.stem)
def test_notebook_runs(script: Path, tmp_path: Path) -> None:
    texts = [caption([i, i, i, i % 2, i]) for i in range(3)]
    run = reference_run(tmp_path, plan_samples(prompts_from_texts(texts), [0]), seconds=12)
    score_run(run.path, WEIGHT_FREE)
    env = {**os.environ, "DEEPFORCING_RUNS": str(tmp_path), "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
