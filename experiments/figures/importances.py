"""What a search found to matter: the importance of each setting for drift and for motion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.figures.style import COLUMN, LIGHT, NOTE
from experiments.tables.words import plural

if TYPE_CHECKING:
    from matplotlib.figure import Figure as Canvas


@dataclass(frozen=True)
class Shares:
    """objectives: {title: importance of each setting, in their order}; of one objective they add up to 1."""

    settings: tuple[str, ...]
    objectives: dict[str, tuple[float, ...]]
    caption: str


@dataclass(frozen=True)
class Importances:
    """study: of experiments.search, beside whose runs its journal lies; None: the only one there. Optuna's PED-ANOVA: how
    differently a setting is chosen in the better trials than in all of them."""

    study: str | None = None

    def read(self, runs: Sequence[Path]) -> Shares:
        from experiments.searching.importance import importances  # Optuna

        known = sorted({journal for run in runs for journal in run.parent.glob(".searches/*.journal")})
        if self.study is not None:
            known = [journal for journal in known if journal.stem == self.study]
        if len(known) != 1:
            names = ", ".join(sorted(journal.stem for journal in known)) or "none"
            raise ValueError(f"beside these runs lie the studies: {names}; say which by figure.study=NAME")
        found, trials = importances(known[0])
        settings = tuple(next(iter(found.values())))
        ordered = {title: tuple(shares[name] for name in settings) for title, shares in found.items()}
        return Shares(
            tuple(short(name) for name in settings), ordered, f"importance of settings, {plural(trials, 'trial')}"
        )

    def draw(self, canvas: Canvas, data: Shares) -> None:
        canvas.set_size_inches(COLUMN * 1.5, COLUMN * (0.5 + 0.12 * len(data.settings)))
        axes = canvas.subplots()
        thick = 0.8 / len(data.objectives)
        for number, (title, shares) in enumerate(data.objectives.items()):
            places = [row + (number - (len(data.objectives) - 1) / 2) * thick for row in range(len(shares))]
            axes.barh(places, shares, thick * 0.9, color=LIGHT[number], label=title)
        axes.set_yticks(range(len(data.settings)), data.settings)
        axes.invert_yaxis()
        axes.set_xlim(0, 1)
        axes.set_xlabel("importance")
        axes.legend(fontsize=NOTE)
        canvas.suptitle(data.caption, x=0.01, ha="left")


def short(key: str) -> str:
    """A rollout's key without what all of them share."""
    parts = [part for part in key.split(".") if part not in ("cache", "retention", "_target_")]
    return (parts[-1] if parts else key).removesuffix("_frames").replace("_", " ")
