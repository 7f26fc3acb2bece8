"""Policies ranked, with intervals and paired differences: a page, Markdown and a tidy csv. `--help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def leaderboard_task(config: DictConfig) -> None:
    from experiments.board.make import USUAL, Asked, asked_columns, make  # pandas: --help does without
    from experiments.command.terminal import console
    from experiments.tables.comparisons import words

    out = Path(str(config.out))
    if out.suffix != ".html":
        raise ValueError(f"out={out} must end in .html, as in out=reports/leaderboard.html; .md and .csv go beside it")
    if config.source is not None and config.scores is None:
        raise ValueError("source= says of whom scores=FILE.csv is, and there is none")
    experiment = config.experiment
    columns = words(config.columns)
    if not columns and experiment:
        columns = [f"{metric}:{kind}" for metric, kind in experiment.metrics.items() if kind != "speed"]
    baseline = config.baseline if config.baseline is not None else experiment and experiment.baseline
    title = config.title if config.title is not None else experiment and experiment.title
    asked = Asked(
        runs=words(config.runs),
        folders=words(config.folders),
        scores=None if config.scores is None else Path(str(config.scores)),
        source=None if config.source is None else str(config.source),
        baseline=None if baseline is None else str(baseline),
        columns=asked_columns(columns) if columns else USUAL,
        ends=float(config.ends),
        window_seconds=config.window_seconds,
        title=str(title or "Leaderboard of cache policies"),
        out=out,
        labels={str(name): str(row.label) for name, row in experiment.rows.items()} if experiment else {},
    )
    make(asked, console())


main = command("leaderboard")(leaderboard_task)

if __name__ == "__main__":
    main()
