"""What a reproduction on Wan would take is told where neither its weights nor its prompts are; making it is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from commands import Command

WAN = ("model=wan2.1-1.3b", "seconds_per_chunk=0.5")


@pytest.fixture(autouse=True)
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEEPFORCING_WEIGHTS", str(tmp_path / "nothing"))


def test_hours_are_those_of_all_chunks_and_nothing_is_made(command: Command, tmp_path: Path) -> None:
    words = (*WAN, "experiment=adaptive_sink", f"runs_root={tmp_path / 'runs'}", f"out={tmp_path / 'a.md'}")
    found = command("reproduce", *words, "plan=true")
    assert found.status == 0
    # 7 rows of 64 prompts, 240 latent frames in chunks of 3, half a second each
    assert f"7 rollouts, 0 of 448 videos there, about {7 * 64 * 80 * 0.5 / 3600:.2f} h" in found.out
    assert found.out.count("not here: ") == 2  # prompts, weights: once, not once a row
    assert "experiments.weights moviegen_128 download=true" in found.out
    assert not list(tmp_path.rglob("run.json"))
    assert not (tmp_path / "a.md").exists()
    refused = command("reproduce", *words)
    assert refused.status != 0
    assert "moviegen_128" in refused.err
    assert not list(tmp_path.rglob("run.json"))


def test_a_typed_list_that_is_not_there_is_refused_in_a_plan_too(command: Command, tmp_path: Path) -> None:
    found = command("reproduce", *WAN, "plan=true", "prompts=moviegen_128", f"runs_root={tmp_path / 'runs'}")
    assert found.status != 0
    assert "moviegen_128" in found.err


def test_the_papers_plan_needs_none_either(command: Command, tmp_path: Path) -> None:
    out = (f"runs_root={tmp_path / 'runs'}", f"out={tmp_path / 'paper'}")
    found = command("paper", *WAN, "only=[table4]", *out)
    assert found.status == 0
    assert "0 of 640 videos there" in found.out
    assert "make=true" in (tmp_path / "paper" / "table4.html").read_text()
    assert command("paper", *WAN, "only=[table4]", "make=true", *out).status != 0
