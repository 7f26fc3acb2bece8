"""The doctor: what is there and what is not, told apart by what the chosen rollout needs."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import Command

from experiments.health import machine
from experiments.health.chosen import digest

ROOT = Path(__file__).parents[2]


def lines(out: str, mark: str) -> list[str]:
    return [line for line in out.splitlines() if line.split()[:1] == [mark]]


def test_the_embedded_world_needs_no_weights(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "very-secret-key")
    status, out, err = command("doctor")
    assert (status, err) == (0, "")
    assert out.splitlines()[-1] == "ready"
    assert "very-secret-key" not in out
    assert "a key is set" in out
    assert not lines(out, "missing")


def test_a_generator_without_its_weights_is_not_ready(
    command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DEEPFORCING_WEIGHTS", str(tmp_path))
    status, out, _ = command("doctor", "generator=longlive")
    assert status == 1
    assert [line.split()[1] for line in lines(out, "missing")] == ["checkpoint", "LoRA", "VAE", "text", "tokenizer"]
    assert out.count("-> python -m experiments.weights longlive download=true") == 5
    assert command("doctor", "generator=longlive", "model=tiny").status == 0
    assert command("doctor", "generator=longlive", "model.random_weights=true").status == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["generator=longlve"], "did you mean longlive?"),
        (["longlive"], "'longlive' is not key=value"),
        (["seconds=0"], "seconds=0 must be a positive number"),
        (["cache=deepsink"], "did you mean deep_sink?"),
    ],
)
def test_wrong_words(words: list[str], says: str, command: Command) -> None:
    status, out, err = command("doctor", *words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err


def test_what_the_rollout_would_refuse_is_a_finding(command: Command) -> None:
    status, out, _ = command("doctor", "cache=self_forcing", "seconds=256")
    assert status == 1
    assert "longest video is 1023" in lines(out, "missing")[0]


def test_without_torch_or_a_package_it_says_how_to_get_them(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, of=importlib.util.find_spec: None if name == "torch" else of(name)
    )
    monkeypatch.setattr(machine, "installed", lambda name: None if name in ("hydra-core", "wandb") else "1.0")
    status, out, _ = command("doctor")
    assert status == 1
    missing = lines(out, "missing")
    assert "hydra-core not installed" in missing[0]
    assert missing[1].split()[1] == "torch"
    assert out.count("-> make setup") >= 2
    assert "the rollout's own needs are looked at" in out.splitlines()[-1]


def test_a_card_beside_a_torch_without_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "driver", lambda: ("NVIDIA H100", "570.1"))
    monkeypatch.setattr(torch.version, "cuda", None)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    found = {finding.what: finding for finding in machine.torch_and_cuda(on_gpu=True)}
    assert "driver 570.1 (NVIDIA H100), but this torch has no CUDA" in found["CUDA"].text
    assert "pip install --force-reinstall torch==" in found["CUDA"].mend
    assert found["CUDA"].needed
    monkeypatch.setattr(torch.version, "cuda", "12.8")
    found = {finding.what: finding for finding in machine.torch_and_cuda(on_gpu=False)}
    assert "sees no device" in found["CUDA"].text
    assert not found["CUDA"].needed


def test_weights_are_held_against_their_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(b"weights")
    right = "d0e10bd4e5fcb1e5bdfbcdd8e2dd7ee1f8ae3f9d86c80c1ac5a3b6ae2a8e8a44"
    assert "has changed" in digest("checkpoint", path, right, "verify").text
    assert not digest("checkpoint", path, right, "verify").here
    found = digest("checkpoint", path, None, "verify")
    assert (found.here, found.text.endswith("not recorded")) == (True, True)
    monkeypatch.setattr("deepforcing.wan.weights.LARGE", 3)
    assert "sha256 not computed yet: verify" in digest("checkpoint", path, None, "verify").text
    from deepforcing.wan.weights import sha256

    assert digest("checkpoint", path, sha256(path), "verify").text.endswith("as recorded")
    path.write_bytes(b"others!")
    assert "not computed yet" in digest("checkpoint", path, None, "verify").text


def test_help_and_a_bare_machine() -> None:
    """No torch, no Hydra, no rich: help comes, and the findings too."""
    code = (
        "import sys, importlib.abc\n"
        "class Absent(importlib.abc.MetaPathFinder):\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('torch', 'hydra', 'omegaconf', 'rich', 'numpy', 'pandas', 'av', 'pydantic'):\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Absent())\n"
        "from experiments.health import machine\n"
        "machine.installed = lambda name: None\n"
        "from experiments import doctor\n"
        "doctor.main()\n"
    )
    run = {"capture_output": True, "text": True, "cwd": ROOT, "env": {**os.environ, "PYTHONPATH": str(ROOT)}}
    helped = subprocess.run([sys.executable, "-c", code, "--help"], **run)  # type: ignore[call-overload]
    assert (helped.returncode, helped.stderr) == (0, "")
    assert "experiments.doctor" in helped.stdout
    bare = subprocess.run([sys.executable, "-c", code], **run)  # type: ignore[call-overload]
    assert bare.returncode == 1, bare.stderr
    assert "missing  packages: core" in bare.stdout
