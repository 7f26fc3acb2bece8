"""A rollout that is killed and started again makes the same bytes as one that was not."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from deepforcing.video import sha256_file
from experiments.health.checks import Check

PATIENCE = 3600  # seconds for a rollout of 5 s


def resume(words: Sequence[str], root: Path) -> Check:
    """words: of experiments.rollout, for one video. root: where three runs may lie for a while.

    One rollout goes through; another is killed with SIGKILL as soon as its video has begun to be written, and repeated.
    """
    with tempfile.TemporaryDirectory(dir=root, prefix="first-light-") as folder:
        whole, killed = Path(folder, "whole"), Path(folder, "killed")
        problem = finish(words, whole)
        if problem:
            return Check("resume", False, f"the rollout failed: {problem}")
        begun = kill(words, killed)
        problem = finish(words, killed)
        if problem:
            return Check("resume", False, f"the killed rollout could not be resumed: {problem}")
        digests = [[sha256_file(file) for file in sorted(of.glob("*/samples/*.mp4"))] for of in (whole, killed)]
    when = "killed while its video was written" if begun else "killed after its video was finished"
    same = digests[0] == digests[1] and len(digests[0]) == 1
    told = "the same bytes" if same else "OTHER BYTES: this machine does not repeat its own results"
    return Check("resume", same, f"{when}, then finished: {told}")


def command(words: Sequence[str], runs_root: Path) -> list[str]:
    return [sys.executable, "-m", "experiments.rollout", *words, f'runs_root="{runs_root}"']


def finish(words: Sequence[str], runs_root: Path) -> str:
    """What went wrong, empty if nothing did."""
    try:
        done = subprocess.run(command(words, runs_root), capture_output=True, text=True, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        return f"it took more than {PATIENCE} s"
    return "" if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]


def kill(words: Sequence[str], runs_root: Path) -> bool:
    """Whether the video was being written when the process was killed."""
    child = subprocess.Popen(command(words, runs_root), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until = time.monotonic() + PATIENCE
    try:
        while child.poll() is None and time.monotonic() < until:
            if any(file.stat().st_size for file in runs_root.glob("*/samples/*.partial.mp4")):
                child.kill()
                child.wait()
                return not list(runs_root.glob("*/samples/*.json"))
            time.sleep(0.01)
    finally:
        child.kill()
        child.wait()
    return False
