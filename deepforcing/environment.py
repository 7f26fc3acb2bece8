"""What a run was made with: code, packages, device."""

from __future__ import annotations

import contextlib
import hashlib
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

PACKAGES = ("deepforcing", "torch", "numpy", "av", "safetensors")


def environment(device: str = "cpu") -> dict[str, Any]:
    """What a run was made with, for run.json. Never fails, and holds no environment variables.

    git_commit and git_dirty (tracked files changed) are those of the checkout this file is tracked in, null elsewhere:
    an installed package inside somebody's repository must not claim their commit. device: "cpu", "cuda", "cuda:1" ...
    machine: a digest of its name, so that times of two machines are told apart and no name is published.
    """
    commit, dirty = _git_state()
    return {
        "git_commit": commit,
        "git_dirty": dirty,
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else _processor(),
        "machine": hashlib.sha256(platform.node().encode("utf-8", "surrogateescape")).hexdigest()[:12],
        "threads": torch.get_num_threads(),
    }


def _git_state() -> tuple[str | None, bool | None]:
    here = Path(__file__).resolve()
    # GIT_DIR and its kin would point elsewhere.
    clean = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}

    def git(*arguments: str) -> str:
        command = ("git", "--no-optional-locks", "-C", str(here.parent), *arguments)
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, env=clean).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", here.name)
        return git("rev-parse", "HEAD"), bool(git("status", "--porcelain", "--untracked-files=no"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None, None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine() or sys.platform
