"""Notebooks are percent scripts; here they run as scripts on small rendered runs."""

from __future__ import annotations

import json
import os
import re
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


def notebooks() -> list[Path]:
    """Scripts with jupytext's head; render.py beside them is none."""
    return [path for path in sorted((ROOT / "notebooks").glob("*.py")) if path.read_text().startswith("# ---\n")]


SLOW = {"drift_curves", "sink_sweep", "attention_probes", "read_runs"}  # one fast one is enough to see that they run
SCRIPTS = [pytest.param(p, id=p.stem, marks=[pytest.mark.slow] if p.stem in SLOW else []) for p in notebooks()]


@pytest.mark.parametrize("script", SCRIPTS)
def test_notebook_runs(script: Path, tmp_path: Path) -> None:
    if script.stem == "read_runs":
        texts = [caption([i, i, i, i % 2, i]) for i in range(3)]
        run = reference_run(tmp_path, plan_samples(prompts_from_texts(texts), [0]), seconds=12)
        score_run(run.path, WEIGHT_FREE)
    small = {"SECONDS": "6", "PROMPTS": "2", "DEEPFORCING_RUNS": str(tmp_path)}
    env = {**os.environ, **small, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]


RENDERED = sorted((ROOT / "notebooks").glob("*.ipynb"))


@pytest.mark.parametrize("rendered", RENDERED, ids=lambda p: p.stem)
def test_a_rendered_notebook_is_its_script_with_pictures(rendered: Path) -> None:
    """Whoever changes a script renders it again: `make notebooks`."""
    cells = json.loads(rendered.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    body = rendered.with_suffix(".py").read_text().split("\n# ---\n", 1)[1]
    parts = re.split(r"^# %%(.*)$", body, flags=re.M)[1:]
    written = [text.strip() for head, text in zip(parts[::2], parts[1::2], strict=True) if "markdown" not in head]
    assert code == written
    outputs = [output for cell in cells if cell["cell_type"] == "code" for output in cell["outputs"]]
    assert not [output for output in outputs if output["output_type"] == "error"]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert rendered.stat().st_size < 1_000_000
    assert "/home/" not in rendered.read_text()


def test_what_is_to_be_read_is_rendered() -> None:
    assert {path.stem for path in notebooks()} - {path.stem for path in RENDERED} <= {
        "read_runs"
    }  # of the reader's runs
