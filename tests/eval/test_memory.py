"""Memory of the whole command, which must not depend on how long a video is."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import eval.score

PEAK = """
import resource, sys
from experiments.evaluate import main
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(tmp_path: Path, *arguments: str) -> int:
    """Resident at most, in bytes, of one evaluation in a process of its own."""
    root = Path(eval.score.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", PEAK, *arguments],
        env=os.environ | {"PYTHONPATH": str(root), "HOME": str(tmp_path / "nothing"), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return 1024 * int(done.stdout.rsplit("peak ", 1)[1])


@pytest.mark.slow
def test_ten_times_the_length_takes_no_more_memory(make_run: Callable[..., Path], tmp_path: Path) -> None:
    """Of a run of the embedded world, which the most metrics look at, and of its videos as anybody's."""
    short, long = (make_run({"aaaaaaaaaa-s0": (0, 16 * seconds)}, f"real-{seconds:08d}") for seconds in (60, 600))
    few, many = (peak(tmp_path, f"runs={run}") for run in (short, long))
    assert many < 1.05 * few
    foreign = (["videos=" + str(run / "samples"), f"out={run / 'out'}"] for run in (short, long))
    few, many = (peak(tmp_path, *arguments) for arguments in foreign)
    assert many < 1.05 * few
