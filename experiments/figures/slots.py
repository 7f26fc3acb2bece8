"""How often tokens of each cache slot are chosen over a video (paper, figure 13)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from experiments.figures.attention import probe_files
from experiments.figures.style import BAND, PAGE, PANEL, Ink, inks_of
from experiments.probes.chosen import Chosen
from experiments.results.runs import read_runs

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Share:
    """chosen [layers, slots]: the share of a slot's tokens that a choice takes, mean over choices and videos."""

    label: str
    ink: Ink
    samples: int
    chosen: np.ndarray[Any, Any]


@dataclass(frozen=True)
class Slots:
    """A line per run."""

    def read(self, runs: Sequence[Path]) -> list[Share]:
        found = read_runs(runs)
        ink = inks_of(found)
        shares = []
        for run, colour in zip(found, ink, strict=True):
            each = [share for file in probe_files(run, Chosen.file) if (share := share_of(file)) is not None]
            if each:
                shares.append(Share(run.label, colour, len(each), np.mean(each, 0)))
        if not shares:
            raise ValueError(
                "no run has data of chosen tokens: make one whose policy chooses tokens, long enough that it does, by "
                "experiments.rollout cache=deep_forcing watch=experiments.probes.chosen.Chosen"
            )
        return shares

    def draw(self, canvas: Canvas, data: list[Share]) -> None:
        canvas.set_size_inches(PAGE, PANEL[1] + 0.6)
        panel(canvas.subplots(), data)


def share_of(file: Path) -> np.ndarray[Any, Any] | None:
    """None where nothing was chosen."""
    with np.load(file) as data:
        counts, choices, size = data["counts"], data["choices"], int(data["size"])
    made: np.ndarray[Any, Any] = counts / (choices[:, None] * size) if size else counts
    return made if made.size else None


def panel(axes: Axes, data: list[Share]) -> None:
    for share in data:
        slots = np.arange(share.chosen.shape[1])
        mean = share.chosen.mean(0)
        axes.plot(slots, mean, color=share.ink.light, linestyle=share.ink.line, label=share.label)
        axes.fill_between(
            slots, share.chosen.min(0), share.chosen.max(0), color=share.ink.light, alpha=BAND, linewidth=0
        )
    axes.set_ylim(bottom=0)
    axes.set_xlabel("cache slot (latent frames, the sink first); band: all layers")
    axes.set_ylabel("share chosen")
    axes.legend()
