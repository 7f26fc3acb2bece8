"""The bench of the evaluation stage: what it prints, beside the package and alone, and what it refuses."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import pytest
from commands import Command

needs_package = pytest.mark.skipif(
    importlib.util.find_spec("vbench") is None, reason="the vbench package is not installed"
)
TINY = ("eval", "height=128", "width=128", "seconds=4", "fps=2", "threads=1")


@pytest.mark.slow  # half a minute, most of it imports
@needs_package
def test_ours_beside_the_package(command: Command, tmp_path: Path) -> None:
    status, out, err = command("bench", *TINY, "metrics=[temporal_flickering]", f"out={tmp_path}")
    assert (status, err) == (0, "")
    result = json.loads(out.splitlines()[0])
    row = result["metrics"]["temporal_flickering"]
    assert result["scores_agree"]
    assert row["difference"] <= 1e-6
    assert result["clips"] == 2
    assert 0 < row["package_decode"] < row["package"]
    assert result["ratio"] == pytest.approx(result["package"]["seconds"] / result["ours"]["seconds"])
    assert result["ours"]["frames"] > 0
    assert json.loads((tmp_path / "bench_eval.json").read_text()) == result
    table = (tmp_path / "bench_eval.md").read_text()
    assert "scores agree" in table
    assert out.endswith(table)


@pytest.mark.slow
@needs_package
def test_compiled_networks_score_as_the_package_does(command: Command) -> None:
    """All eight dimensions by the compiler; two clips, so that what was compiled for the first meets another."""
    small = ("height=128", "width=128", "seconds=4", "fps=8", "threads=1", "floor=false", "moves=false")
    status, out, err = command("bench", "eval", *small, "backend=compiled")
    assert (status, err) == (0, "")
    assert json.loads(out.splitlines()[0])["scores_agree"]


@needs_package
@pytest.mark.slow
def test_ours_alone_beside_its_floor(command: Command) -> None:
    status, out, err = command("bench", *TINY, "metrics=[background_consistency]", "package=false")
    assert (status, err) == (0, "")
    result = json.loads(out.splitlines()[0])
    row = result["metrics"]["background_consistency"]
    assert "ratio" not in result
    # Two layers of 128 channels over 50 tokens, and the first layer's 32 x 32 patches: 24 * 128^2 a token and layer, ...
    assert row["floor_tflop"] * 1e12 == pytest.approx(120 * (50 * 2 * 24 * 128**2 + 49 * 2 * 3072 * 128), rel=0.1)
    assert 0 < row["floor"] < row["ours"]


WRONG = {
    "backend=fast": r"backend=fast: choose plain or compiled",
    "networks=tiny": r"networks=tiny: choose among small, mixed, full",
    "metrics=[clip_drift]": r"metrics=clip_drift: the package has ",
    "metrics=[beauty]": r"metrics=beauty: choose among",
    "height=99": r"height=99 width=832 must be even and at least 128",
    "seconds=1": r"seconds=1 is less than one clip of 2",
    "videos=0": r"videos=0 must be a whole number",
    "package=2": r"package=2 must be true or false",
    "moves=2": r"moves=2 must be true or false",
    "repeat=2": r"did you mean repeats\?",
    "--lengths": r"--lengths is not an option",
}


@pytest.mark.parametrize("words", WRONG)
def test_wrong_words(words: str, command: Command) -> None:
    status, out, err = command("bench", "eval", words)
    assert (status, out) == (2, "")
    assert re.search(WRONG[words], err), err
    assert len(err.splitlines()) == 1


def test_help(command: Command) -> None:
    status, out, err = command("bench", "eval", "--help")
    assert (status, err) == (0, "")
    assert "networks: small" in out


def test_a_score_that_differs_is_told(monkeypatch: pytest.MonkeyPatch, command: Command) -> None:
    from benchmarks.vbench import side_by_side

    def side(overall: float) -> dict[str, object]:
        one = {"seconds": 1.0, "cpu_seconds": 1.0, "decode_seconds": 0.5, "peak_bytes": 1, "overall": overall}
        clock = {"seconds": 2.0, "cpu_seconds": 2.0}
        return {
            "dimensions": {"imaging_quality": one | {"clips": {"a 0": 50.0 if overall < 0.51 else 0.5}}},
            "total": clock, "split": clock, "flops": None, "peak_flops": None, "peak_bytes": 1,
        }  # fmt: skip

    def run(module: str, *_: object) -> object:
        return side(0.5 if module.endswith("package") else 0.52)

    monkeypatch.setattr(side_by_side, "run", run)
    status, out, _ = command("bench", "eval", "metrics=[imaging_quality]", "height=128", "width=128", "seconds=2")
    assert status == 1
    assert "SCORES DIFFER by more than 1e-06" in out
