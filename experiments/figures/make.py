"""From a config to a picture on disk."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from omegaconf import DictConfig


def make(config: DictConfig) -> None:
    """conf/figure.yaml. Raises ValueError or OSError in one line, what is typed wrong before anything is read."""
    from hydra.utils import instantiate

    from experiments.command.kinds import check_values
    from experiments.command.outputs import check_output
    from experiments.figures.figure import check_format, drawn, save
    from experiments.results.runs import find_runs
    from experiments.tables.comparisons import words

    out = check_format(Path(str(config.out)))
    patterns, folders = words(config.runs), words(config.folders)
    runs = [*(find_runs(patterns) if patterns or not folders else []), *map(Path, folders)]
    check_values(config.figure, "figure")
    figure = instantiate(config.figure, _convert_="object")
    check_output(out)
    save(drawn(figure, figure.read(runs)), out)
    print(f"figure: {out.absolute()}")
