"""From run directories to the page, the table beside it as csv and Markdown, and the terminal."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.console import Console

from deepforcing.runs import atomic_write_text
from eval.metrics.vbench.quality import QUALITY, REWARD
from eval.protocol import Protocol
from eval.store import other_weights
from experiments.command.outputs import check_output
from experiments.figures.drift import in_order as swept_in_order
from experiments.page import sentences
from experiments.page.context import Numbers, Options, page_html
from experiments.page.findings import has_intervals, survivors
from experiments.page.settings import Report, baseline_index
from experiments.page.tables import in_short, line_by_line
from experiments.results.runs import Run, find_runs, with_common_samples
from experiments.results.scores import read_scores
from experiments.tables.cost import cost_table
from experiments.tables.layout import means
from experiments.tables.over_time import (
    OverTime,
    chief_metrics,
    flat,
    in_order,
    of_both_ends,
    of_samples,
    over_time,
    scored_samples,
    windows_and_wholes,
)
from experiments.tables.render import markdown
from experiments.tables.show import show
from experiments.tables.table import PERCENT, Column, Table
from experiments.tables.text import csv_text, markdown_text
from experiments.tables.vbench import PROTOCOLS, as_markdown, choose_metrics, of_runs
from experiments.tables.versions import version_notes
from experiments.tables.words import INTERVALS, runs_argument


def compare_protocols(scores: pd.DataFrame, runs: Sequence[Run], baseline: str, common: bool) -> list[Table]:
    """VBench's table under each protocol of whole videos that has scores. common: see conf/report.yaml."""
    found = []
    for protocol in PROTOCOLS:
        table = scores[(scores["protocol"] == protocol) & scores["metric"].isin(PERCENT)]
        if len(table):
            names = choose_metrics("vbench", sorted(set(table["metric"])), protocol)
            shared = set.intersection(*(set(rows["sample"]) for _, rows in table.groupby("run")))
            found.append(of_runs(table, runs, names, baseline, common and bool(shared)))
    return found


def make(report: Report, console: Console) -> Path:
    """Read the runs, write page and tables, print the tables. Returns the page's path."""
    check_output(report.out)
    runs = swept_in_order(find_runs(report.runs))
    runs = with_common_samples(runs) if report.common else runs
    names = [run.name for run in runs]
    baseline = baseline_index(runs, report.baseline)
    read = read_scores(runs, report.window_seconds)
    window = read.window_seconds
    scores = of_samples(read.table, {(run.name, sample["sample"]) for run in runs for sample in run.samples})
    table = scores[scores["protocol"] == "windows"].drop(columns="protocol")
    table, wholes = windows_and_wholes(table, window)
    numbers = over_time(table, runs, names[baseline], report.ends)
    silent = [Column(name).words for name in in_order(table["metric"]) if name not in numbers.metrics]
    chief = chief_metrics(numbers.metrics, report.chief)
    comparisons = compare_protocols(scores, runs, names[baseline], report.common)
    of_ends = of_both_ends(table, wholes, runs, report.ends)
    lengths = "" if window == Protocol().window_seconds else f" window_seconds={window:g}"
    problems = sentences.problems(runs, scored_samples(scores), lengths)
    problems += [{"text": f"{line}.", "command": ""} for line in (*read.other, *other_weights(scores))]
    versions = version_notes(runs)
    problems += [{"text": line, "command": ""} for line in versions]
    options = Options(
        title=report.title,
        baseline=baseline,
        ends=report.ends,
        max_rows=report.max_rows,
        page_megabytes=report.page_megabytes,
        problems=tuple(problems),
        out=report.out.absolute(),
        commands=tuple(commands(runs, report, lengths, [c.columns[0].protocol for c in comparisons])),
    )
    with console.status("drawing the page (large videos are made smaller for it)"):
        page = page_html(runs, Numbers(table, numbers, chief, silent, of_ends, comparisons), options)
    atomic_write_text(report.out, page)
    cost = cost_table(runs)
    if numbers.metrics:
        atomic_write_text(report.out.with_suffix(".csv"), csv_text(flat(numbers, cost, window)))
        both = f"first {report.ends:g} s → last {report.ends:g} s"
        console.print(f"windows of {window:g} s: {both}, and the drift (last minus first)")
        show(in_short(numbers, runs, chief), console, report.out.with_suffix(".md"))
    if numbers.metrics or comparisons or cost.columns:
        text = markdown_tables(numbers, comparisons, cost, runs, report.ends, window)
        atomic_write_text(report.out.with_suffix(".md"), text)
    for comparison in comparisons:
        console.print(comparison.columns[0].protocol)
        show(means(comparison), console, report.out.with_suffix(".md"))
    if cost.columns and not comparisons:
        show(means(cost), console, report.out.with_suffix(".md"))
        console.print(" ".join(cost.notes), highlight=False, markup=False, soft_wrap=True)
    for comparison in comparisons:
        notes = [
            note for note in comparison.notes if INTERVALS not in note and note not in versions
        ]  # those are said once
        console.print(" ".join(notes), highlight=False, markup=False, soft_wrap=True)
    for problem in problems:
        console.print(" ".join(text for text in problem.values() if text), markup=False, style="yellow", soft_wrap=True)
    size = report.out.stat().st_size / 1e6
    console.print(f"report: {report.out.absolute()} ({size:.1f} MB)", markup=False, highlight=False, soft_wrap=True)
    return report.out


def markdown_tables(
    numbers: OverTime, comparisons: Sequence[Table], cost: Table, runs: Sequence[Run], ends: float, window: float
) -> str:
    """What the page says in numbers, for a README."""
    parts = []
    if numbers.metrics:
        tests = f"{numbers.tables['drift'].tests} drifts, or all {numbers.tables['last'].comparisons} differences"
        bold = f"Bold: the interval excludes zero; *: also after Holm's adjustment for all {tests} from the baseline."
        notes = [
            f"Protocol: windows of {window:g} s.",
            *([INTERVALS, bold] if has_intervals(numbers) else ["One prompt: nothing here can be told from chance."]),
            *([REWARD] if QUALITY.name in numbers.metrics else []),
            *survivors(numbers, numbers.metrics, ends),
            *version_notes(runs),
        ]
        table = markdown(line_by_line(numbers, runs, ends))
        parts.append("\n\n".join([table, *map(markdown_text, notes)]) + "\n")
    parts += map(as_markdown, comparisons)
    if cost.columns and not comparisons:  # which have it in columns of their own
        parts.append(as_markdown(cost))
    return "\n".join(parts)


def commands(runs: Sequence[Run], report: Report, lengths: str, protocols: Sequence[str]) -> list[str]:
    """The command lines of the page's footer: the rollouts' own, then the measuring and the drawing.

    lengths: the argument for the windows' length, if it is not the usual one. protocols: scored beside windows.
    """
    argument = runs_argument([str(run.path) for run in runs])
    rollouts = dict.fromkeys(str(run.record["command"]) for run in runs if run.record.get("command"))
    drawing = f"python -m experiments.report {argument} out={shlex.quote(str(report.out))}{lengths}"
    scorings = [lengths, *(f" protocol={name}" for name in protocols)]
    return [*rollouts, *(f"python -m experiments.evaluate {argument}{more}" for more in scorings), drawing]
