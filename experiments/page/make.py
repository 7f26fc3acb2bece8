"""From run directories to the page, the table beside it as csv and Markdown, and the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from deepforcing.runs import atomic_write_text
from eval.metrics import VALUES
from eval.metrics.vbench_quality import QUALITY, REWARD
from eval.protocol import Protocol
from eval.store import other_weights
from experiments.command.outputs import check_output
from experiments.page.context import Numbers, Options, page_html
from experiments.page.settings import Report, baseline_index
from experiments.page.terminal import comparison_tables, terminal_tables
from experiments.results.runs import Run, find_runs, read_runs, with_common_samples
from experiments.results.scores import read_scores
from experiments.tables import formats, prose
from experiments.tables.decay import ends_rows
from experiments.tables.summary import (
    MetricRow,
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
    window = read.window_seconds
    scores = of_samples(read.table, {(run.name, sample["sample"]) for run in runs for sample in run.samples})
    table = scores[scores["protocol"] == "windows"].drop(columns="protocol")
    table, wholes = windows_and_wholes(table, window)
    measured = set(table.loc[table["value"].notna(), "metric"])
    infos = metric_infos(sorted(set(table["metric"])), VALUES)
    silent = [info.title for info in infos if info.name not in measured]
    infos = [info for info in infos if info.name in measured]
    real = [run.name for run in runs if run.is_real]
    rows = metric_rows(table, infos, names, names[baseline], real, report.ends)
    chief = chief_metrics([info.name for info in infos], report.chief)
    comparisons = compare_protocols(scores, runs, names[baseline], report.common)
    of_ends = ends_rows(table, wholes, VALUES, report.ends)
    lengths = "" if window == Protocol().window_seconds else f" window_seconds={window:g}"
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
        atomic_write_text(report.out.with_suffix(".csv"), csv_text(flat_table(rows, labels, window)))
        both = f"first {report.ends:g} s → last {report.ends:g} s"
        console.print(f"windows of {window:g} s: {both}, and the drift (last minus first)")
        for part in terminal_tables([row for row in rows if row.info.name in chief], runs, console.width):
            console.print(part, soft_wrap=False)
    if rows or comparisons:
        text = markdown_tables(rows, comparisons, labels, report.ends, window)
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
    rows: Sequence[MetricRow], comparisons: Sequence[Comparison], labels: Mapping[str, str], ends: float, window: float
) -> str:
    """What the page says in numbers, for a README."""
    parts = []
    if rows:
        protocol = f"Protocol: windows of {window:g} s."
        tests = (
            f"Bold: the interval excludes zero; *: also after Holm's adjustment for all "
            f"{family(rows, 'drift')} drifts, or all {family(rows, 'versus')} differences from the baseline."
        )
        rewards = [REWARD] if any(row.info.name == QUALITY.name for row in rows) else []
        notes = [protocol, prose.INTERVALS, tests, *rewards, *prose.survivors(rows, ends)]
        parts.append(markdown_table(rows, list(labels), labels, ends, notes))
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
