"""Chosen tokens on the frames that they come from (paper, figure 7): in full colour where many layers chose the token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.figures.attention import probe_files
from experiments.figures.style import PAGE
from experiments.probes.chosen import Chosen
from experiments.results.runs import Run, read_runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

PALE, WHITE = 0.35, 250  # tokens that nobody chose: what is left of their light, in what white


@dataclass(frozen=True)
class Frame:
    """number: a latent frame. pixels: uint8 [H, W, 3], the last frame that it decodes to. share [rows, columns]: of the layers
    (of their heads, where these choose for themselves) that chose the token."""

    number: int
    pixels: np.ndarray[Any, Any]
    share: np.ndarray[Any, Any]


@dataclass(frozen=True)
class ChosenOfRun:
    label: str
    start: int
    frames: tuple[Frame, ...]


@dataclass(frozen=True)
class ChosenTokens:
    """prompt: which sample. start: first latent frame of the chunk that chose; None: the last. frames: how many."""

    prompt: int = 0
    start: int | None = None
    frames: int = 6

    def __post_init__(self) -> None:
        if not 1 <= self.frames <= 20:
            raise ValueError(f"frames={self.frames} must be a whole number of at least 1 and at most 20")

    def read(self, runs: Sequence[Path]) -> list[ChosenOfRun]:
        found = [(run, files) for run in read_runs(runs) if (files := probe_files(run, Chosen.file))]
        if not found:
            raise ValueError(
                "no run has data of chosen tokens: make one by experiments.rollout cache=deep_forcing "
                "watch=experiments.probes.chosen.Chosen"
            )
        return [self.of(run, files) for run, files in found]

    def of(self, run: Run, files: Sequence[Path]) -> ChosenOfRun:
        from deepforcing.video import iter_frames

        if not 0 <= self.prompt < len(files):
            raise ValueError(f"prompt={self.prompt} must be one of 0..{len(files) - 1}: {run.label} has {len(files)}")
        file = files[self.prompt]
        with np.load(file) as data:
            starts, frame, place, size = data["start"], data["frame"], data["place"], int(data["size"])
            choosers = len(data["choices"]) * int(data["heads"])
        kept = [int(start) for start in np.unique(starts)]
        start = self.start if self.start is not None else kept[-1] if kept else -1
        if start not in kept:
            told = f"start={start} is none of {', '.join(map(str, kept))}" if kept else "no token was chosen: too short"
            raise ValueError(f"{run.label}: {told}")
        at = frame[starts == start].ravel(), place[starts == start].ravel()
        count = np.zeros((int(frame.max()) + 1, size))
        np.add.at(count, at, 1)
        most = np.argsort(-count.sum(1), kind="stable")[: self.frames]
        most = np.sort(most[count[most].sum(1) > 0])
        (sample,) = (s for s in run.samples if Chosen.file(run.path / "probes", str(s["sample"])) == file)
        g: Any = run.record["geometry"]
        stride = g["temporal_stride"]
        rows = g["height"] // g["spatial_stride"] // g["patch"]
        wanted = {stride * int(number): int(number) for number in most}
        pixels: dict[int, np.ndarray[Any, Any]] = {}
        seen = 0
        for batch in iter_frames(run.path / "samples" / str(sample["video"])):
            pixels |= {wanted[n]: batch[n - seen] for n in wanted if seen <= n < seen + len(batch)}
            seen += len(batch)
            if len(pixels) == len(wanted):
                break
        share = (count / choosers).reshape(len(count), rows, size // rows)
        return ChosenOfRun(run.label, start, tuple(Frame(n, pixels[n], share[n]) for n in sorted(pixels)))

    def draw(self, canvas: Canvas, data: list[ChosenOfRun]) -> None:
        columns = max(len(of.frames) for of in data)
        height, width = data[0].frames[0].pixels.shape[:2]
        engine = canvas.get_layout_engine()
        if engine is not None:
            engine.set(h_pad=0.12, rect=(0, 0, 1, 0.98))  # type: ignore[call-arg]
        canvas.set_size_inches(PAGE, (PAGE * 0.95 / columns * height / width + 0.45) * len(data) + 0.45)
        grid = canvas.subplots(len(data), columns, squeeze=False)
        most = max(frame.share.max() for of in data for frame in of.frames)
        for line, of in zip(grid, data, strict=True):
            for axes in line:
                axes.set_axis_off()
            for axes, frame in zip(line, of.frames, strict=False):
                axes.imshow(lit(frame, most))
                axes.set_title(f"frame {frame.number}", fontweight="normal", fontsize=6)
            named = line[0].text(
                0, 1.25, f"{of.label}, chunk from {of.start} on", transform=line[0].transAxes, fontsize=7
            )
            named.set_in_layout(False)  # it may be wider than its frame
        canvas.suptitle(
            f"in full colour: chosen, at most by {most:.0%} of the layers; pale: by none", x=0.01, ha="left"
        )


def lit(frame: Frame, most: float) -> np.ndarray[Any, Any]:
    """The pixels, pale and grey where no layer chose the token, as they are where as many did as anywhere in the figure."""
    height, width = frame.pixels.shape[:2]
    rows, columns = frame.share.shape
    light = np.kron(frame.share / most, np.ones((height // rows, width // columns)))
    pale = PALE * frame.pixels.mean(-1, keepdims=True) + (1 - PALE) * WHITE
    made: np.ndarray[Any, Any] = (pale + (frame.pixels - pale) * light[..., None]).round().astype(np.uint8)
    return made
