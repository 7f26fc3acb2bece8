"""A film strip: frames of one prompt over time, a row per run, above drift curves over all prompts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import command
from experiments.command.terminal import say_quietly
from experiments.figures.drift import Panel, in_order, panel, read_panels
from experiments.figures.make import make
from experiments.figures.style import PAGE, SOFT, Ink, inks_of, wrapped

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure as Canvas
    from matplotlib.figure import SubFigure

CURVES, LETTER = 1.75, 0.085  # inches: height of the curves, width of a letter of a label
MOST_FRAMES, MOST_ROWS = 100, 100
PIXELS = 256  # of a frame's longer side, at most: more is not seen in print


@dataclass(frozen=True)
class Strip:
    """One run's frames. frames: uint8 (N, H, W, 3). times: of the frames, in seconds."""

    label: str
    ink: Ink
    frames: np.ndarray[Any, Any]
    times: Sequence[float]


@dataclass(frozen=True)
class Film:
    prompt: str
    strips: Sequence[Strip]
    panels: Sequence[Panel]


@dataclass(frozen=True)
class Filmstrip:
    """prompt: which of the samples that all runs have, in order of their ids. frames: per row, evenly spread over the video.
    metrics, window_seconds: as of figure=drift, but that metrics=[] is no curves.

    Raises ValueError for numbers out of range.
    """

    prompt: int = 0
    frames: int = 13
    metrics: str | tuple[str, ...] | None = ()
    window_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 2 <= self.frames <= MOST_FRAMES:
            raise ValueError(f"frames={self.frames} must be a whole number of at least 2 and at most {MOST_FRAMES}")

    def read(self, runs: Sequence[Path]) -> Film:
        found = in_order(runs)
        if len(found) > MOST_ROWS:
            raise ValueError(f"{len(found)} runs are too many rows for a figure, at most {MOST_ROWS}")
        if bare := next((run for run in found if run.exported or not run.record), None):
            raise ValueError(
                f"{bare.path} has scores and no videos: a filmstrip is of run directories, runs=[DIR,DIR,...]"
            )
        shared = sorted(set.intersection(*({str(s["sample"]) for s in run.samples} for run in found)))
        if not 0 <= self.prompt < len(shared):
            raise ValueError(
                f"prompt={self.prompt} must be one of 0..{len(shared) - 1}: the runs share {len(shared)} samples"
                if shared
                else "the runs share no finished sample"
            )
        metrics = None if self.metrics is None else [self.metrics] if isinstance(self.metrics, str) else self.metrics
        panels = [] if metrics is not None and not metrics else read_panels(found, metrics, self.window_seconds)
        ink = inks_of(found)
        samples = [next(s for s in run.samples if s["sample"] == shared[self.prompt]) for run in found]
        strips = [
            Strip(run.label, colour, *frames_of(run.path / "samples" / str(sample["video"]), self.frames))
            for run, colour, sample in zip(found, ink, samples, strict=True)
        ]
        return Film(str(samples[-1]["prompt"]), strips, panels)

    def draw(self, canvas: Canvas, data: Film) -> None:
        height, width = data.strips[0].frames.shape[1:3]
        frame = (
            (PAGE - LETTER * max(len(strip.label) for strip in data.strips)) / (1 + 1 / 16) / len(data.strips[0].times)
        )
        rows = max(0.2, frame * height / width + 0.06) * len(data.strips) + 0.4
        engine = canvas.get_layout_engine()
        if engine is not None:
            engine.set(h_pad=0.02, hspace=0.0)  # type: ignore[call-arg]
        canvas.set_size_inches(PAGE, rows + (CURVES if data.panels else 0))
        top, *bottom = canvas.subfigures(
            2 if data.panels else 1, 1, squeeze=False, height_ratios=[rows, CURVES][: 1 + bool(data.panels)]
        )[:, 0]
        draw_strips(top, data)
        if not data.panels:
            return
        for axes, each in zip(bottom[0].subplots(1, len(data.panels), squeeze=False)[0], data.panels, strict=True):
            panel(axes, each)
            axes.set_title(wrapped(each.title, PAGE / len(data.panels)))
            axes.set_ylabel(each.unit)
            axes.set_xlabel("seconds", color=SOFT)


def draw_strips(canvas: SubFigure, data: Film) -> None:
    import numpy as np

    canvas.suptitle(f"“{data.prompt}”", style="italic")
    for axes, strip in zip(canvas.subplots(len(data.strips), 1, squeeze=False)[:, 0], data.strips, strict=True):
        height, width = strip.frames.shape[1:3]
        step = width + max(2, width // 16)
        row = np.full((height, step * len(strip.frames) - (step - width), 4), 0, np.uint8)  # clear between frames
        for n, frame in enumerate(strip.frames):
            row[:, n * step : n * step + width] = np.dstack([frame, np.full((height, width), 255, np.uint8)])
        axes.imshow(row)
        axes.set_anchor("W")  # the room for labels is measured from there
        axes.grid(visible=False)
        axes.set_yticks([])
        axes.set_ylabel(strip.label, rotation=0, ha="right", va="center", color=strip.ink.light, fontweight="bold")
        last = strip is data.strips[-1]
        axes.set_xticks([n * step + width / 2 for n in range(len(strip.frames))])
        digits = int(strip.times[1] - strip.times[0] < 1)
        axes.set_xticklabels([f"{t:.{digits}f} s" for t in strip.times] if last else [])
        axes.tick_params(length=0)
        axes.spines[:].set_visible(False)


def frames_of(video: Path, count: int) -> tuple[np.ndarray[Any, Any], list[float]]:
    """`count` frames evenly spread over a video, and their times in seconds; large ones at every second, third ... pixel."""
    import numpy as np

    from deepforcing.video import iter_frames, probe

    info = probe(video)
    index = np.linspace(0, info.frames - 1, count).round().astype(int)
    stride = -(-max(info.height, info.width) // PIXELS)
    kept: dict[int, np.ndarray[Any, Any]] = {}
    number = 0
    for batch in iter_frames(video):  # of a long video not all frames have room in memory
        kept |= {n: batch[n - number, ::stride, ::stride] for n in set(index) & set(range(number, number + len(batch)))}
        number += len(batch)
    return np.stack([kept[min(n, number - 1)] for n in index]), [float(n / info.fps) for n in index]


def main() -> None:
    """What `python -m experiments.figures.filmstrip` did: its words as those of experiments.figure."""
    say_quietly(
        "experiments.figures.filmstrip is experiments.figure figure=filmstrip now; its own keys begin with figure."
    )
    own = ("prompt=", "frames=", "metrics=", "window_seconds=")
    words = [f"figure.{word}" if word.startswith(own) else word for word in sys.argv[1:]]
    out = [] if any(word.startswith("out=") for word in words) else ["out=reports/filmstrip.png"]
    sys.argv[1:] = ["figure=filmstrip", *out, *words]
    command("figure")(make)()


if __name__ == "__main__":
    main()
