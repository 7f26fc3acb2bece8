"""An experiment's report: Markdown, csv and, for a sweep, a figure."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
from omegaconf import DictConfig

from deepforcing.runs import atomic_write_text
from eval.metrics.vbench.quality import with_quality
from experiments.figures.figure import drawn, save
from experiments.figures.style import inks
from experiments.figures.sweep import Point, Sweep, SweepPanel, Swept
from experiments.reproduction.plan import Planned
from experiments.reproduction.sentences import Done, told_of_pictures, written
from experiments.reproduction.work import REAL, Results
from experiments.results.runs import read_runs
from experiments.results.scores import COLUMNS
from experiments.tables.cost import cost_table
from experiments.tables.published import PaperRow, compare, flat
from experiments.tables.table import FPS, Column, Table
from experiments.tables.text import csv_text
from experiments.tables.words import plural

MOST_PANELS = 6


def report(config: DictConfig, planned: Planned, results: Results, ends: float, out: Path) -> str:
    """Write <out>, its .csv and, for a sweep, its .png; the Markdown."""
    tables = results.tables
    table = with_quality(pd.concat(tables, ignore_index=True)) if tables else pd.DataFrame(columns=COLUMNS)
    runs = {row: path.name for row, path in results.runs.items()}
    seconds = float(next(iter(planned.configs.values())).seconds)
    if len(table):
        ends = min(ends, float(table.groupby("run")["t_end"].max().min()) / 2)  # short videos have two ends as well
    experiment = config.experiment
    published = compare(table, planned.rows, runs, planned.published, str(experiment.baseline), ends)
    known = tuple(column for column in planned.beside if column.metric in set(table["metric"]))
    rows = (*planned.rows, REAL) if REAL.name in runs else planned.rows
    beside = compare(table, rows, runs, known, str(experiment.baseline), ends)
    figure = None
    if experiment.sweep is not None:
        panels = [(published, column) for column in planned.published if column.metric != FPS.name]
        panels += [(beside, column) for name in experiment.sweep.panels for column in known if column.metric == name]
        panels = [(of, column) for of, column in panels if of.measured(column)][:MOST_PANELS]
        if panels:
            figure = out.with_suffix(".png")
            count = len({sample.prompt.id for sample in planned.samples})
            caption = f"model {planned.model}, {plural(count, 'prompt')}, {seconds:g} s; first and last: {ends:.3g} s"
            swept = Swept(str(experiment.sweep.title), caption, [sweep_panel(of, column) for of, column in panels])
            save(drawn(Sweep(), swept), figure)
    done = what_was_done(config, planned, results)
    read = done.runs
    wanted = {sample.name for sample in planned.samples}
    labels = {row.name: row.label for row in rows}
    made = [
        replace(run, label=labels[row], samples=tuple(s for s in run.samples if s["sample"] in wanted))
        for row, run in read.items()
    ]
    cost = cost_table(made, list(read))
    done = replace(
        done,
        ends=ends,
        other_world=tuple(c.metric for c in planned.beside if c not in known),
        figure=None if figure is None else figure.name,
    )
    text = written(done, published, beside, cost)
    atomic_write_text(out.with_suffix(".csv"), csv_text(flat([published, beside, cost], results.absent)))
    atomic_write_text(out, text)
    return text


def what_was_done(config: DictConfig, planned: Planned, results: Results) -> Done:
    experiment = config.experiment
    return Done(
        title=str(experiment.title),
        source=experiment.source and str(experiment.source),
        prompts_said=str(experiment.prompts_said),
        said=experiment.said and str(experiment.said),
        model=planned.model,
        paper_model=planned.paper_model,
        own_prompts=config.prompts is not None and config.prompts != experiment.prompts,
        dtype=str(config.dtype),
        protocol=str(experiment.protocol),
        seconds=float(next(iter(planned.configs.values())).seconds),
        samples=planned.samples,
        paper_seconds=float(experiment.seconds),
        paper_prompts=int(experiment.published_prompts),
        window_seconds=float(config.window_seconds),
        ends=float(config.ends),
        runs={row: read_runs([path])[0] for row, path in results.runs.items()},
        not_run={**planned.left_out, **results.failed},
        absent=results.absent,
        other_world=(),
        problems=len(results.problems),
        figure=None,
    )


def pictured(config: DictConfig, planned: Planned, results: Results) -> str:
    """Markdown below pictures that have no table: what was run and what was not."""
    return told_of_pictures(what_was_done(config, planned, results), planned.rows)


def sweep_panel(table: Table, column: Column) -> SweepPanel:
    """A column of the experiment against the places of its rows in the sweep; rows without one are level lines."""
    rows = [row for row in table.rows if isinstance(row, PaperRow)]
    ink = inks([r.label for r in rows], [r.name == REAL.name for r in rows], [r.name for r in rows])
    points = []
    for row, colour in zip(rows, ink, strict=True):
        cell = table.cell(row.name, column)
        points.append(Point(row.label, colour, row.at, cell.value, cell.low, cell.high))
    return SweepPanel(column.title + (", last" if column.number == "last" else ""), points, column.unit)
