"""How alike frames are, against how far apart they are in time: a line and a 95 % band over prompts per run."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.figures.measured import measured, told
from experiments.figures.style import BAND, COLUMN, Ink, inks_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

NAME = re.compile(r"coherence_(\d+(?:\.\d+)?)s")


@dataclass(frozen=True)
class Course:
    """One run: (seconds apart, correlation, low, high), in the order of the distance."""

    label: str
    ink: Ink
    points: tuple[tuple[float, float, float, float], ...]


@dataclass(frozen=True)
class Courses:
    caption: str
    runs: tuple[Course, ...]


@dataclass(frozen=True)
class Coherence:
    """Of the metric coherence, which has a value for each distance (eval/metrics/time/coherence.py). number: of every video, as
    in experiments.table: mean, or last for what is left at the end; ends: seconds that first and last mean."""

    number: str = "mean"
    ends: float = 5.0
    window_seconds: float | None = None

    def read(self, runs: Sequence[Path]) -> Courses:
        found, every, table = measured(runs, None, self.number, "windows", self.ends, self.window_seconds)
        columns = {float(match[1]): column for column in every if (match := NAME.fullmatch(column.metric))}
        if not columns:
            raise ValueError("the runs have no scores of coherence; run experiments.evaluate metrics=[coherence] first")
        courses = []
        for run, ink in zip(found, inks_of(found), strict=True):
            cells = [(apart, table.cell(run.name, columns[apart])) for apart in sorted(columns)]
            points = tuple((apart, e.value, e.low, e.high) for apart, e in cells if math.isfinite(e.value))
            courses.append(Course(run.label, ink, points))
        return Courses(f"{told(found)}; bands: 95 % intervals", tuple(courses))

    def draw(self, canvas: Canvas, data: Courses) -> None:
        canvas.set_size_inches(COLUMN * 1.4, COLUMN)
        axes = canvas.subplots()
        apart = sorted({point[0] for run in data.runs for point in run.points})
        for run in data.runs:
            x, y = [p[0] for p in run.points], [p[1] for p in run.points]
            axes.plot(x, y, "o", ls=run.ink.line, color=run.ink.light, label=run.label)
            low, high = ([p[i] if math.isfinite(p[i]) else p[1] for p in run.points] for i in (2, 3))
            axes.fill_between(x, low, high, color=run.ink.light, alpha=BAND, lw=0)
        axes.set_xscale("log", base=2)
        axes.set_xticks(apart, [f"{x:g}" for x in apart])
        axes.minorticks_off()
        axes.set_xlabel("seconds between the frames")
        axes.set_ylabel("correlation")
        axes.legend()
        canvas.suptitle(data.caption, x=0.01, ha="left")
