"""A sweep of two points that takes seconds, and what it leaves: for tests of launchers."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from commands import BLUE, RED

POINTS = "points={a:['cache.retention.window_frames=6'],b:['cache.retention.window_frames=9']}"
SMALL = ("launcher.gpus=0", "launcher.cpus=1", "launcher.minutes=30")
ROOT = Path(__file__).parents[1]


def words(checkpoint: Path, folder: Path, *more: str) -> tuple[str, ...]:
    given = {"seconds": "2", "prompts": f"['{RED}','{BLUE}']", "model.checkpoint": str(checkpoint), "ends": "1"}
    given |= {"runs_root": str(folder / "runs"), "out": str(folder / "out.md"), "metrics": "[saturation]"}
    given |= {"window_seconds": "0.5", "baseline": "a", "device": "cpu", "sweep.figures": "{}", "threads": "1"}
    typed = {word.partition("=")[0] for word in more}
    return ("run", POINTS, *(f"{key}={value}" for key, value in given.items() if key not in typed), *more)


def scores(folder: Path) -> pd.DataFrame:
    """The final table, without what depends on the machine's load."""
    table = pd.read_csv(folder / "out.csv")
    return table[~table["metric"].isin(["chunk_time", "fps"])].reset_index(drop=True)


def videos(folder: Path) -> dict[str, bytes]:
    return {f"{p.parts[-3]}/{p.name}": p.read_bytes() for p in sorted((folder / "runs").glob("*/samples/*.mp4"))}
