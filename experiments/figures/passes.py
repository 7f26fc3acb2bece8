"""Attention of the last chunk at every denoising step and in the clean pass (paper, figure 11): is its pattern the same?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.figures.attention import LastChunk, read_last_chunk, ticks, title
from experiments.figures.style import INK, PAGE, PANEL, ordered_ink

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class PassesAttention:
    """A line per pass: mass on every slot, mean over layers and heads."""

    def read(self, runs: Sequence[Path]) -> LastChunk:
        return read_last_chunk(runs)

    def draw(self, canvas: Canvas, data: LastChunk) -> None:
        canvas.set_size_inches(PAGE, PANEL[1] + 0.6)
        axes = canvas.subplots()
        panel(axes, data)
        canvas.suptitle(title(data), x=0.01, ha="left")


def panel(axes: Axes, data: LastChunk) -> None:
    steps = len(data.mass) - 1
    for number, mass in enumerate(data.mass.mean((1, 2))):
        clean = number == steps
        colour = INK if clean else ordered_ink(number / max(1, steps - 1)).light
        name = "clean pass" if clean else f"denoising step {number + 1}"
        axes.plot(range(len(mass)), mass, color=colour, linestyle="--" if clean else "-", label=name, marker=".")
    axes.set_xticks(*ticks(data.frames))
    axes.set_ylim(bottom=0)
    axes.set_xlabel("latent frame read")
    axes.set_ylabel("attention mass")
    axes.legend(ncols=3)
