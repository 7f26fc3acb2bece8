"""The depth that an adaptive sink has over time, beside what its rule looks at. Not a figure of the paper."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.figures.attention import probe_files
from experiments.figures.style import BAND, PAGE, PANEL, Ink, inks_of
from experiments.probes.depth import Depth as Probe
from experiments.results.runs import read_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

Array = np.ndarray[Any, Any]
SIGNALS = ("motion", "drift")  # each drawn as a multiple of its first value, so that runs and layers compare


@dataclass(frozen=True)
class Course:
    """A run's mean over videos. start [chunks]: latent frames; depth and signals: [chunks, layers]."""

    label: str
    ink: Ink
    start: Array
    depth: Array
    signals: dict[str, Array]


@dataclass(frozen=True)
class Depth:
    """Depth, motion and drift against time, a line per run, the mean over videos and layers; bands span the layers' means."""

    def read(self, runs: Sequence[Path]) -> list[Course]:
        found = read_runs(runs)
        ink = inks_of(found)
        courses = []
        for run, colour in zip(found, ink, strict=True):
            videos = [video for file in probe_files(run, Probe.file) if (video := course_of(file))]
            if videos:
                chunks = min(len(video["start"]) for video in videos)
                mean = {name: np.mean([v[name][:chunks] for v in videos], 0) for name in videos[0] if name != "layer"}
                signals = {name: mean[name] / mean[name][:1] for name in SIGNALS if name in mean}
                courses.append(Course(run.label, colour, mean["start"], mean["depth"], signals))
        if not courses:
            raise ValueError(
                "no run has data of an adaptive sink: make one, longer than its window, by experiments.rollout "
                "cache=adaptive_sink_motion watch=experiments.probes.depth.Depth"
            )
        return courses

    def draw(self, canvas: Canvas, data: list[Course]) -> None:
        names = ["depth", *(name for name in SIGNALS if any(name in course.signals for course in data))]
        canvas.set_size_inches(PAGE, PANEL[1] * len(names))
        for name, axes in zip(names, canvas.subplots(len(names), sharex=True, squeeze=False)[:, 0], strict=True):
            panel(axes, name, data)
        axes.set_xlabel("latent frame; bands: means of the layers")


def course_of(file: Path) -> dict[str, Array]:
    """The arrays of one video, empty where no depth was chosen."""
    with np.load(file) as data:
        return {name: data[name] for name in data.files} if "depth" in data.files else {}


def panel(axes: Axes, name: str, data: list[Course]) -> None:
    for course in data:
        values = course.depth if name == "depth" else course.signals.get(name)
        if values is None:
            continue
        axes.plot(course.start, values.mean(1), color=course.ink.light, linestyle=course.ink.line, label=course.label)
        axes.fill_between(course.start, values.min(1), values.max(1), color=course.ink.light, alpha=BAND, linewidth=0)
    axes.set_ylabel("depth (latent frames)" if name == "depth" else f"{name} / its first")
    axes.set_ylim(bottom=0)
    axes.legend()
