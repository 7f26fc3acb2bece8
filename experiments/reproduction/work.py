"""An experiment's rows made and scored; one that fails does not keep the others."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from rich.console import Console

from deepforcing.script import is_schedule
from eval.score import score
from eval.videos import open_run
from experiments.command import say
from experiments.command.terminal import bar
from experiments.command.words import describe
from experiments.reference import reference_run
from experiments.reproduction.plan import Planned
from experiments.results.runs import read_runs
from experiments.results.scores import COLUMNS
from experiments.results.speed import speed
from experiments.tables.published import PaperRow
from experiments.tables.table import FPS
from experiments.videos import rollout

REAL = PaperRow("real_video", "Real video (what the world's renderer draws)")


@dataclass
class Results:
    """What came of it. runs: {row: run directory}; failed: {row: why}; absent: {metric: why}."""

    runs: dict[str, Path] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    absent: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    tables: list[pd.DataFrame] = field(default_factory=list)

    def fail(self, row: str, error: Exception) -> None:
        if os.environ.get("DEEPFORCING_TRACEBACK"):
            raise error
        self.failed[row] = describe(error)
        say(f"row {row}: {self.failed[row]}")


def make_videos(planned: Planned, results: Results, out: Console) -> None:
    """Row by row; one that fails does not keep the others."""
    for number, (row, config) in enumerate(planned.configs.items(), start=1):
        out.print(f"{row} ({number} of {len(planned.configs)} rows)", style="bold")
        try:
            results.runs[row] = rollout(config, out).path
        except Exception as error:
            results.fail(row, error)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()  # the next row's memory is planned from what the device has free
    make_reference(planned, results)


def make_reference(planned: Planned, results: Results) -> None:
    """The real videos of the embedded world's prompts, beside its rows; a schedule has none."""
    if planned.world is not None and not any(is_schedule(sample.prompt.text) for sample in planned.samples):
        config = next(iter(planned.configs.values()))
        seconds = float(config.seconds)
        results.runs[REAL.name] = reference_run(config.runs_root, planned.samples, seconds, world=planned.world).path


def score_videos(planned: Planned, results: Results, device: torch.device, shard: str, out: Console) -> None:
    names = {sample.name for sample in planned.samples}
    with bar(out, "videos scored") as bars:
        for row, path in results.runs.items():
            for protocol in planned.protocols.values():
                if row == REAL.name and protocol.name != "windows":
                    continue  # no row of the published table
                task = bars.add_task(f"{row}, {protocol.name}", total=None, visible=False)

                def tick(done: int, total: int, _: str, task: Any = task) -> None:
                    bars.update(task, completed=done, total=total, visible=True)

                try:
                    group = open_run(path)
                    group = replace(group, videos=tuple(video for video in group.videos if video.name in names))
                    metrics = planned.measurements(protocol.name)
                    found = score(group, metrics, protocol, device, tick, shard)
                except Exception as error:
                    results.fail(row, error)
                    continue
                results.tables.append(found.table)
                results.absent |= found.absent
                results.problems += found.problems
            results.tables.append(speeds(path, names))


def speeds(path: Path, names: set[str]) -> pd.DataFrame:
    """FPS of each video of a run as rows of the tidy table."""
    (run,) = read_runs([path])
    found = []
    for sample in run.samples:
        stride = (run.record.get("geometry") or {}).get("temporal_stride")
        one = speed([sample], stride) if stride else None
        if one is not None and sample["sample"] in names:
            seconds = sample["frames"] / sample["fps"]
            found.append((run.name, sample["sample"], FPS.name, 1, "speed", 0.0, seconds, one.fps))
    return pd.DataFrame(found, columns=COLUMNS)
