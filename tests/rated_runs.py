"""A study of three small runs, and what a rater answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
from commands import Command, Outcome
from report_runs import write_run

from deepforcing.video import VideoWriter, sha256_file
from experiments.raters.answers import HEADER
from experiments.raters.key import read_key

LABELS = ("ours-and-secret", "other-policy", "third-policy")


def three_runs(tmp_path: Path) -> list[Path]:
    """Three runs of three videos of 16 x 16 px; every video differs from every other."""
    found = []
    for number, label in enumerate(LABELS):
        run = write_run(
            tmp_path / "runs", label, spec={"generator": {"name": label}, "cache": {"name": "deep_forcing"}}
        )
        for i, record in enumerate(sorted((run / "samples").glob("*.json"))):
            video = record.with_suffix(".mp4")
            frames = np.random.default_rng(10 * number + i).integers(0, 255, (24, 16, 16, 3), np.uint8)
            with VideoWriter(video, 16, 16, fps=12) as writer:
                writer.write(frames)
            told = json.loads(record.read_text()) | {
                "sha256": sha256_file(video),
                "fps": 12,
                "frames": 24,
                "seconds": 2.0,
            }
            record.write_text(json.dumps(told))
        found.append(run)
    return found


def make_study(command: Command, runs: list[Path], tmp_path: Path) -> Callable[..., Outcome]:
    def call(*words: str) -> Outcome:
        given = [f"runs=[{','.join(map(str, runs))}]", f"out={tmp_path / 'study'}", "pairs=4", "raters=5"]
        keys = {word.partition("=")[0] for word in words}
        return command("study", "make", *(word for word in given if word.partition("=")[0] not in keys), *words)

    return call


def answered(
    folder: Path, rater: int, prefer: Callable[[str, str | None], bool] = lambda question, opponent: True
) -> str:
    """What the page makes of a rater's choices. prefer: (question, opponent's run) -> whether the first video is chosen."""
    key = read_key(folder)
    lines = [",".join(HEADER)]
    for place, seen in enumerate(key.raters[rater - 1], start=1):
        pair = key.by_name[seen.pair]
        for question in key.questions:
            video = pair.first if prefer(question, pair.opponent) else pair.second
            choice = "A" if video == seen.a else "B"
            lines.append(f"{key.study},{rater},{place},{seen.pair},{question},{choice},{video},4.5")
    return "\n".join(lines) + "\n"


def table(command: Command, tmp_path: Path, *words: str) -> Outcome:
    return command("study", "table", f"study={tmp_path / 'study'}", f"answers={tmp_path}/*.csv", *words)
