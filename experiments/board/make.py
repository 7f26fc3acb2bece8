"""From runs, folders and foreign scores to the page, its Markdown and its csv."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from rich.console import Console

from deepforcing.runs import atomic_write_text
from experiments.board.page import page_html
from experiments.board.settings import Group, groups_of_foreign, groups_of_runs
from experiments.board.tables import USUAL, Board, as_markdown, asked_columns, boards, tidy, title
from experiments.command.outputs import check_output
from experiments.results.cost import costs
from experiments.results.foreign import read_foreign
from experiments.results.runs import Run
from experiments.results.scores import read_scores
from experiments.tables.comparisons import find_sources
from experiments.tables.layout import means
from experiments.tables.show import show
from experiments.tables.text import csv_text, markdown_text


@dataclass(frozen=True)
class Asked:
    """The keys of conf/leaderboard.yaml. labels: {a run's name: its label}, of an experiment's rows."""

    runs: Sequence[str]
    folders: Sequence[str]
    scores: Path | None
    source: str | None
    baseline: str | None
    columns: Sequence[tuple[str, str]]
    ends: float
    window_seconds: float | None
    title: str
    out: Path
    labels: Mapping[str, str]


def find_groups(asked: Asked) -> list[Group]:
    """Everything that was named, parted into what may be compared. Raises ValueError in one line."""
    foreign = None if asked.scores is None else read_foreign(asked.scores, asked.source)
    groups: list[Group] = []
    if asked.runs or asked.folders or foreign is None:
        runs = [relabelled(run, asked.labels) for run in find_sources([*asked.runs], [*asked.folders])]
        if nameless := [run for run in runs if not run.record]:
            raise ValueError(
                f"{nameless[0].path} says neither prompts nor seeds, so it can stand in no table: runs= takes run directories, "
                "folders= what experiments.export made"
            )
        scores = read_scores(runs, asked.window_seconds)
        if scores.other:
            raise ValueError(scores.other[0])
        # In one order, wherever they were read from: sums depend on it in the last bit.
        table = scores.table.sort_values(["run", "metric", "protocol", "sample", "t_start", "t_end"], ignore_index=True)
        groups += groups_of_runs(runs, table, costs(runs), [metric for metric, _ in asked.columns])
    return groups + (groups_of_foreign(foreign) if foreign else [])


def relabelled(run: Run, labels: Mapping[str, str]) -> Run:
    label = labels.get(str(run.record.get("name")))
    return run if label is None else replace(run, label=label + run.mark)


def make(asked: Asked, console: Console) -> Path:
    """Write the page, and .md and .csv beside it. Returns the page's path. Raises ValueError before anything is written."""
    check_output(asked.out)
    made = boards(find_groups(asked), asked.columns, asked.baseline, asked.ends)
    page, text, lines = page_html(made, asked.title, asked.out), text_of(made, asked.title), csv_text(tidy(made))
    for ending, written in ((".csv", lines), (".md", text), (".html", page)):
        atomic_write_text(asked.out.with_suffix(ending), written)
    for board in made:
        console.print(f"\n{title(board)}: {len(board.table.rows)} rows", style="bold")
        show(means(board.table), console, asked.out.with_suffix(".md"))
    if len(made) > 1:
        console.print(f"{len(made)} tables: {apart(made)}")
    console.print(f"leaderboard: {asked.out.absolute()}")
    return asked.out


def text_of(made: Sequence[Board], headline: str) -> str:
    return "\n".join([f"# {markdown_text(headline)}\n", *map(as_markdown, made)])


def apart(made: Sequence[Board]) -> str:
    """In what the settings of the tables differ."""
    settings = [board.group.setting for board in made]
    names = {
        "prompts": "prompts", "seed": "seeds", "seconds": "lengths", "size": "sizes or frame rates",
        "weights": "the model's weights", "start": "given beginnings", "protocol": "protocols",
        "foreign": "where scores come from",
    }  # fmt: skip
    return "they differ in " + ", ".join(
        said for name, said in names.items() if len({getattr(setting, name) for setting in settings}) > 1
    )


__all__ = ["USUAL", "Asked", "asked_columns", "make"]
