"""Where the last chunk looks (paper, figures 4 and 16): attention mass on every cached frame, a panel a layer, a row a head."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.figures.style import PAGE, PANEL
from experiments.probes.attention import SEVERAL, Attention
from experiments.results.runs import Run, read_runs
from experiments.tables.words import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas

MOST_PANELS = 12


@dataclass(frozen=True)
class LastChunk:
    """Mean over samples. mass [passes, layers, heads, slots]: passes are the denoising steps and then the clean one; slots in
    order of their frames. frames: of the slots, -1 for chosen tokens of several. start: first latent frame of the chunk."""

    label: str
    samples: int
    start: int
    frames: tuple[int, ...]
    mass: np.ndarray[Any, Any]


@dataclass(frozen=True)
class LastChunkAttention:
    """layers: which ones; None: at most four, evenly spread. step: of denoising, 0-based; -1: the clean pass."""

    layers: tuple[int, ...] | None = None
    step: int = 0

    def read(self, runs: Sequence[Path]) -> LastChunk:
        found = read_last_chunk(runs)
        passes, layers = found.mass.shape[:2]
        if not -1 <= self.step < passes - 1:
            raise ValueError(f"step={self.step} must be one of 0..{passes - 2}, or -1 for the clean pass")
        wrong = [layer for layer in self.layers or () if not 0 <= layer < layers]
        if wrong or (self.layers is not None and not 1 <= len(self.layers) <= MOST_PANELS):
            raise ValueError(f"layers={list(self.layers or ())} must be 1 to {MOST_PANELS} of 0..{layers - 1}")
        return found

    def draw(self, canvas: Canvas, data: LastChunk) -> None:
        count = data.mass.shape[1]
        layers = self.layers or tuple(dict.fromkeys(np.linspace(0, count - 1, min(4, count)).round().astype(int)))
        columns = min(4, len(layers))
        rows = -(-len(layers) // columns)
        canvas.set_size_inches(PAGE, PANEL[1] * 1.15 * rows + 0.4)
        grid = canvas.subplots(rows, columns, squeeze=False, sharex=True, sharey=True)
        shown = data.mass[self.step][list(layers)]
        for axes, layer, mass in zip(grid.flat, layers, shown, strict=False):
            image = axes.imshow(mass, aspect="auto", cmap="viridis", vmin=0, vmax=shown.max())
            axes.set_title(f"layer {layer}")
            axes.grid(visible=False)
            axes.set_xticks(*ticks(data.frames))
            axes.set_yticks(range(mass.shape[0]))
            image.set_rasterized(True)
        for axes in [*grid.flat][len(layers) :]:
            axes.set_axis_off()
        canvas.colorbar(image, ax=grid, label="attention mass", pad=0.01)
        canvas.supxlabel("latent frame read", fontsize="medium")
        canvas.supylabel("head", fontsize="medium")
        which = "clean pass" if self.step == -1 else f"denoising step {self.step + 1}"
        canvas.suptitle(f"{title(data)}, {which}", x=0.01, ha="left")


def title(data: LastChunk) -> str:
    return f"{data.label}: chunk from latent frame {data.start} on, mean over its queries and {plural(data.samples, 'video')}"


def ticks(frames: Sequence[int]) -> tuple[list[int], list[str]]:
    """Every third slot's frame."""
    at = list(range(0, len(frames), 3))
    return at, ["…" if frames[i] == SEVERAL else str(frames[i]) for i in at]


def read_last_chunk(runs: Sequence[Path]) -> LastChunk:
    """Of the first run that the probe watched. Raises ValueError where there is none, or its videos differ in length."""
    for run in read_runs(runs):
        files = probe_files(run, Attention.file)
        if files:
            return mean_of(run, [last_chunk(file) for file in files])
    raise ValueError(
        "no run has attention data: make one by experiments.rollout watch=experiments.probes.attention.Attention"
    )


def probe_files(run: Run, file: Any) -> list[Path]:
    """Of the finished samples: what is left of a rollout that was killed does not count."""
    return [path for s in run.samples if (path := file(run.path / "probes", str(s["sample"]))).is_file()]


def last_chunk(file: Path) -> tuple[int, tuple[int, ...], np.ndarray[Any, Any]]:
    with np.load(file) as data:
        last = data["start"] == data["start"].max()
        mass, kind, step, layer, slots = (data[key][last] for key in ("mass", "kind", "step", "layer", "slots"))
        start = int(data["start"].max())
    steps, layers = int(step.max()) + 1, int(layer.max()) + 1
    at = np.where(kind == 1, steps, step)
    if len(mass) != (steps + 1) * layers or (slots != slots[0]).any():
        raise ValueError(
            f"{file.name}: heads or passes of the last chunk read different slots, which is no one picture"
        )
    made = np.zeros((steps + 1, layers, *mass.shape[1:]), mass.dtype)
    made[at, layer] = mass
    order = np.argsort(slots[0], kind="stable")
    return start, tuple(int(frame) for frame in slots[0][order]), made[..., order]


def mean_of(run: Run, found: Sequence[tuple[int, tuple[int, ...], np.ndarray[Any, Any]]]) -> LastChunk:
    start, frames, _ = found[0]
    if any(other[:2] != (start, frames) for other in found):
        raise ValueError(f"{run.label}: its videos end at different chunks")
    return LastChunk(run.label, len(found), start, frames, np.mean([mass for _, _, mass in found], 0))
