"""A training by its command line, a few steps of a few frames."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from safetensors import safe_open
from torch import Tensor

from deepforcing.tiny import train


def trained(monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> dict[str, Tensor]:
    """What `python -m deepforcing.tiny.train --out out ...` has written."""
    monkeypatch.setattr(sys, "argv", ["train", "--out", str(out), "--frames", "6", "--threads", "1", *options])
    train.main()
    with safe_open(out, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
