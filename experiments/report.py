"""Draw any set of runs as one self-contained HTML page, with the table beside it and in the terminal.

python -m experiments.report runs=[DIR,DIR,...] out=reports/name.html
"""

from __future__ import annotations

import difflib
import math
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig, OmegaConf
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from deepforcing.runs import atomic_write_text
from eval.metrics import VALUES
from eval.protocol import Protocol
from eval.store import other_weights
from experiments.command import command
from experiments.command.outputs import check_output
from experiments.command.terminal import console as plain_console
from experiments.html import Numbers, Options, page_html
from experiments.results.runs import Run, find_runs, read_runs, with_common_samples
from experiments.results.scores import read_scores
from experiments.tables import formats, prose
from experiments.tables.decay import ends_rows
from experiments.tables.estimate import number
from experiments.tables.summary import (
    MetricRow,
    arrow,
    chief_metrics,
    family,
    flat_table,
    markdown_table,
    metric_infos,
    metric_rows,
    of_samples,
    scored_samples,
    windows_and_wholes,
)
from experiments.tables.text import csv_text
from experiments.tables.vbench import PERCENT, PROTOCOLS, Comparison, choose_metrics, comparison_of


@dataclass(frozen=True)
class Report:
    """The keys of conf/report.yaml, checked. Raises ValueError with one line for a value that cannot work."""

    runs: tuple[str, ...]
    out: Path
    title: str | None
    baseline: str | None
    ends: float
    window_seconds: float | None
    chief: tuple[str, ...]
    common: bool
    max_rows: int
    page_megabytes: float

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
        if self.out.suffix != ".html":
            raise ValueError(f"out={self.out} must end in .html, as in out=reports/report.html")
        for key in ("ends", "window_seconds", "page_megabytes"):
            value = getattr(self, key)
            if value is None and key == "window_seconds":
                continue
            if not isinstance(value, int | float) or not value > 0 or not math.isfinite(value):
                raise ValueError(f"{key}={value} must be a positive number")
        if not isinstance(self.max_rows, int) or self.max_rows < 1:
            raise ValueError(f"max_rows={self.max_rows} must be a whole number of at least 1")
        known = sorted(value.name for value in VALUES)
        unknown = [name for name in self.chief if name not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, 1)
            hint = f" did you mean {near[0]}?" if near else ""
            raise ValueError(f"chief={unknown[0]} is no metric;{hint} there are {', '.join(known)}")


def from_config(config: DictConfig) -> Report:
    """Plain values out of Hydra's config; a single word is taken for a list of one."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)

    def words(key: str) -> tuple[str, ...]:
        value = values[key]
        return tuple(str(v) for v in value) if isinstance(value, list) else () if value is None else (str(value),)

    return Report(
        runs=words("runs"),
        out=Path(str(values["out"])),
        title=None if values["title"] is None else str(values["title"]),
        baseline=None if values["baseline"] is None else str(values["baseline"]),
        ends=values["ends"],
        window_seconds=values["window_seconds"],
        chief=words("chief"),
        common=values["common"],
        max_rows=values["max_rows"],
        page_megabytes=values["page_megabytes"],
    )


def baseline_index(runs: Sequence[Run], wanted: str | None) -> int:
    """Index of the run with this label or directory name; the first for None. Raises ValueError naming the choices."""
    if wanted is None:
        return 0
    found = [i for i, run in enumerate(runs) if wanted in (run.label, run.name)]
    if not found:
        raise ValueError(f"baseline={wanted} is none of the runs: {', '.join(run.label for run in runs)}")
    return found[0]


def terminal_tables(rows: Sequence[MetricRow], runs: Sequence[Run], width: int) -> Iterator[Table]:
    """Metrics by runs: "first → last" and below it the drift; as many runs side by side as there is room for."""
    name = max(len(row.info.title) for row in rows) + 4  # and an arrow
    column = max(13, *(len(run.label) for run in runs)) + 1
    at_once = max(1, (width - name) // column)
    for start in range(0, len(runs), at_once):
        part = runs[start : start + at_once]
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column("metric", no_wrap=True)
        for run in part:
            table.add_column(Text(run.label), justify="right", no_wrap=True)
        for row in rows:
            table.add_row(f"{row.info.title} {arrow(row.info)}", *(_terminal_cell(row, run) for run in part))
        yield table


def _terminal_cell(row: MetricRow, run: Run) -> Text:
    cell = row.cells.get(run.name)
    if cell is None:
        return Text("–")
    text = Text(f"{number(cell.first.value, row.decimals)}→")
    text.append(number(cell.last.value, row.decimals), style="bold" if cell.best else "")
    return text.append(f"\n{number(cell.drift.value, row.decimals, sign=True)}", style="dim")


def comparison_tables(comparisons: Sequence[Comparison], width: int) -> Iterator[Table]:
    """VBench's dimensions x 100 by runs, for each protocol; as many runs side by side as there is room for."""
    for comparison in comparisons:
        name = max(len(column.title) for column in comparison.columns) + 1
        parts: list[list[str]] = [[]]
        for run in comparison.runs:
            if parts[-1] and name + sum(len(comparison.labels[r]) + 1 for r in [*parts[-1], run]) > width:
                parts.append([])
            parts[-1].append(run)
        for part in parts:
            table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
            table.add_column(comparison.protocol, no_wrap=True)
            for run in part:
                table.add_column(Text(comparison.labels[run]), justify="right", no_wrap=True)
            for column in comparison.columns:
                cells = (comparison.cells[run, column.info.name].value for run in part)
                table.add_row(column.title, *(number(value, column.decimals) for value in cells))
            yield table


def compare_protocols(scores: pd.DataFrame, runs: Sequence[Run], baseline: str, common: bool) -> list[Comparison]:
    """VBench's table under each protocol of whole videos that has scores. common: see conf/report.yaml."""
    found = []
    for protocol in PROTOCOLS:
        table = scores[(scores["protocol"] == protocol) & scores["metric"].isin(PERCENT)]
        if len(table):
            names = choose_metrics("vbench", sorted(set(table["metric"])), protocol)
            shared = set.intersection(*(set(rows["sample"]) for _, rows in table.groupby("run")))
            found.append(comparison_of(table, runs, names, VALUES, baseline, protocol, common and bool(shared)))
    return found


def make(report: Report, console: Console) -> Path:
    """Read the runs, write page and tables, print the tables. Returns the page's path."""
    check_output(report.out)
    runs = read_runs(find_runs(report.runs))
    runs = with_common_samples(runs) if report.common else runs
    names = [run.name for run in runs]
    baseline = baseline_index(runs, report.baseline)
    read = read_scores(runs, report.window_seconds)
    report = replace(report, window_seconds=read.window_seconds)
    scores = of_samples(read.table, {(run.name, sample["sample"]) for run in runs for sample in run.samples})
    table = scores[scores["protocol"] == "windows"].drop(columns="protocol")
    table, wholes = windows_and_wholes(table, report.window_seconds)
    measured = set(table.loc[table["value"].notna(), "metric"])
    infos = metric_infos(sorted(set(table["metric"])), VALUES)
    silent = [info.title for info in infos if info.name not in measured]
    infos = [info for info in infos if info.name in measured]
    real = [run.name for run in runs if run.is_real]
    rows = metric_rows(table, infos, names, names[baseline], real, report.ends)
    chief = chief_metrics([info.name for info in infos], report.chief)
    comparisons = compare_protocols(scores, runs, names[baseline], report.common)
    of_ends = ends_rows(table, wholes, VALUES, report.ends)
    lengths = "" if report.window_seconds == Protocol().window_seconds else f" window_seconds={report.window_seconds:g}"
    problems = prose.problems(runs, scored_samples(scores), lengths)
    problems += [{"text": f"{line}.", "command": ""} for line in (*read.other, *other_weights(scores))]
    options = Options(
        title=report.title,
        baseline=baseline,
        ends=report.ends,
        max_rows=report.max_rows,
        page_megabytes=report.page_megabytes,
        problems=tuple(problems),
        commands=tuple(commands(runs, report, lengths, [c.protocol for c in comparisons])),
    )
    with console.status("drawing the page (large videos are made smaller for it)"):
        page = page_html(runs, Numbers(table, rows, chief, silent, of_ends, comparisons), options)
    atomic_write_text(report.out, page)
    labels = {run.name: run.label for run in runs}
    if rows:
        atomic_write_text(report.out.with_suffix(".csv"), csv_text(flat_table(rows, labels, report.window_seconds)))
        both = f"first {report.ends:g} s → last {report.ends:g} s"
        console.print(f"windows of {report.window_seconds:g} s: {both}, and the drift (last minus first)")
        for part in terminal_tables([row for row in rows if row.info.name in chief], runs, console.width):
            console.print(part, soft_wrap=False)
    if rows or comparisons:
        text = markdown_tables(rows, comparisons, labels, report)
        atomic_write_text(report.out.with_suffix(".md"), text)
    for part in comparison_tables(comparisons, console.width):
        console.print(part, soft_wrap=False)
    for comparison in comparisons:
        notes = [note for note in comparison.notes if prose.INTERVALS not in note]  # those the page says
        console.print(" ".join(notes), highlight=False, markup=False, soft_wrap=True)
    for problem in problems:
        console.print(" ".join(text for text in problem.values() if text), markup=False, style="yellow", soft_wrap=True)
    size = report.out.stat().st_size / 1e6
    console.print(f"report: {report.out.absolute()} ({size:.1f} MB)", markup=False, highlight=False, soft_wrap=True)
    return report.out


def markdown_tables(
    rows: Sequence[MetricRow], comparisons: Sequence[Comparison], labels: Mapping[str, str], report: Report
) -> str:
    """What the page says in numbers, for a README."""
    parts = []
    if rows:
        protocol = f"Protocol: windows of {report.window_seconds:g} s."
        tests = (
            f"Bold: the interval excludes zero; *: also after Holm's adjustment for all "
            f"{family(rows, 'drift')} drifts, or all {family(rows, 'versus')} differences from the baseline."
        )
        notes = [protocol, prose.INTERVALS, tests, *prose.survivors(rows, report.ends)]
        parts.append(markdown_table(rows, list(labels), labels, report.ends, notes))
    return "\n".join([*parts, *map(formats.markdown, comparisons)])


def commands(runs: Sequence[Run], report: Report, lengths: str, protocols: Sequence[str]) -> list[str]:
    """The command lines of the page's footer: the rollouts' own, then the measuring and the drawing.

    lengths: the argument for the windows' length, if it is not the usual one. protocols: scored beside windows.
    """
    argument = prose.runs_argument([str(run.path) for run in runs])
    rollouts = dict.fromkeys(str(run.record["command"]) for run in runs if run.record.get("command"))
    drawing = f"python -m experiments.report {argument} out={shlex.quote(str(report.out))}{lengths}"
    scorings = [lengths, *(f" protocol={name}" for name in protocols)]
    return [*rollouts, *(f"python -m experiments.evaluate {argument}{more}" for more in scorings), drawing]


def main_task(config: DictConfig) -> None:
    make(from_config(config), plain_console())


main = command("report")(main_task)

if __name__ == "__main__":
    main()
