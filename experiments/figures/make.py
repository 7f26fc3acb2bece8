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
    from experiments.command.words import is_list
    from experiments.figures.figure import check_format, drawn, save
    from experiments.results.runs import find_runs

    out = check_format(Path(str(config.out)))
    if config.runs is None:
        raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
    runs = find_runs([str(pattern) for pattern in (config.runs if is_list(config.runs) else [config.runs])])
    check_values(config.figure, "figure")
    figure = instantiate(config.figure, _convert_="object")
    check_output(out)
    save(drawn(figure, figure.read(runs)), out)
    print(f"figure: {out.absolute()}")
