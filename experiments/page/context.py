"""The report page: from runs and their tidy score table to one self-contained HTML file.

Everything is inside the file: style, script, curves (SVG) and videos (base64), so that it can be mailed, archived
with a paper and opened without a network. Text from prompts and configs is escaped by jinja2.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from markupsafe import Markup

from eval.stats.means import curves
from experiments.figures.drift import Curve, Panel, panels
from experiments.figures.style import inks_of
from experiments.page import sentences
from experiments.page.curves import drift_svg
from experiments.page.findings import findings, findings_notes, has_intervals, movement_note, survivors
from experiments.page.groups import groups
from experiments.page.tables import compared, drawn, first_and_last, movement, paired
from experiments.page.template import STYLE, filled, inside
from experiments.page.video_grid import ROWS_AT_ONCE, video_grid
from experiments.results.configs import difference_rows, differing, yaml_lines
from experiments.results.runs import Run
from experiments.results.speed import PARTS, speed
from experiments.tables.cost import cost_table
from experiments.tables.estimate import number
from experiments.tables.layout import means, with_differences
from experiments.tables.over_time import OverTime
from experiments.tables.table import Column, Table
from experiments.tables.words import plural

HERE = Path(__file__).parent
FEW_PROMPTS = 6  # with fewer the interval of a mean is wider than the prompts are apart, and bands hide the curves


@dataclass(frozen=True)
class Options:
    """What the page shows beside the numbers.

    baseline: index of the run that differences are taken from. ends: seconds called "first" and "last". max_rows: rows
    of videos (prompt and seed) in the page. page_megabytes: videos that would make it larger are made smaller.
    problems: what is missing, from sentences.problems. commands: the lines that make these runs and this page again.
    out: where the page goes; links are relative to its folder.
    """

    title: str | None
    baseline: int
    ends: float
    max_rows: int
    page_megabytes: float
    problems: tuple[dict[str, str], ...]
    commands: tuple[str, ...]
    out: Path


@dataclass(frozen=True)
class Numbers:
    """What was measured. windows: tidy table, of which the curves are. over_time: its numbers; chief: metrics of the short
    tables. silent: titles of metrics without any value. both_ends: see tables.over_time. vbench: a table per protocol of
    VBench's that has scores.
    """

    windows: pd.DataFrame
    over_time: OverTime
    chief: Sequence[str]
    silent: Sequence[str]
    both_ends: Table
    vbench: Sequence[Table]


def page_html(runs: Sequence[Run], numbers: Numbers, options: Options) -> str:
    """The page as text."""
    page = page_context(runs, numbers, options)
    return filled(HERE / "page.html.j2", page=page, css=inside(STYLE), js=inside(HERE / "script.js"))


def page_context(runs: Sequence[Run], numbers: Numbers, options: Options) -> dict[str, Any]:
    """Everything the template reads."""
    table, of_time = numbers.windows, numbers.over_time
    short = [metric for metric in of_time.metrics if metric in numbers.chief]
    tested, prompts = has_intervals(of_time), len({sample["prompt_id"] for run in runs for sample in run.samples})
    labels = [run.label for run in runs]
    ink = inks_of(runs)
    videos = video_grid(runs, options.max_rows, options.page_megabytes, options.out)
    seconds = max([videos["video_seconds"], *(float(table["t_end"].max()) for _ in range(1) if len(table))])
    lengths = {run.train_seconds for run in runs if run.train_seconds}
    train = lengths.pop() if len(lengths) == 1 else None
    drawn_panels = panels(runs, curves(table), of_time.metrics, seconds)
    specs = [run.config for run in runs]
    marked = differing([run.config for run in runs if not run.is_real])  # a renderer shares no key with a model
    return {
        "title": options.title or sentences.title(runs, seconds),
        "lead": sentences.lead(runs, train, len(of_time.metrics)),
        "problems": options.problems,
        "labels": labels,
        "inks": ink,
        "ends": f"{options.ends:g}",
        "seconds": round(seconds, 4),
        "clock": f"{int(seconds // 60)}:{seconds % 60:04.1f}",
        "train_share": round(100 * train / seconds, 2) if train and train < seconds else None,
        "groups": groups([_panel(i, metric, drawn_panels[i]) for i, metric in enumerate(of_time.metrics)]),
        "curves_note": sentences.curves_note(numbers.silent, tested),
        "vbench": [
            {"title": of.columns[0].protocol, "table": drawn(with_differences(of), runs), "note": " ".join(of.notes)}
            for of in numbers.vbench
        ],
        "table": drawn(first_and_last(of_time, runs, short), runs) if short else "",
        "table_note": sentences.table_note(options.ends, of_time.tables["drift"].tests),
        "table_caveats": survivors(of_time, short, options.ends),
        **videos,
        **differences(of_time, runs, short, options.baseline, options.ends),
        "movement": movement(of_time, numbers.both_ends, runs, options.ends),
        "movement_note": movement_note(of_time),
        **_speed(runs),
        "differences": difference_rows(specs, marked),
        "configs": [
            {**origin(run, options.out.parent), "lines": list(yaml_lines(spec, marked))}
            for run, spec in zip(runs, specs, strict=True)
        ],
        "band": "" if not tested else "spread" if prompts < FEW_PROMPTS else "interval",
        "configs_note": "prompts and seeds are how many are behind this page, counted from the videos. All else is from "
        "run.json, which keeps what a run's first command asked for: a run that was extended since has more videos than "
        "its command below would make.",
        "origins": sentences.origins(runs),
        "commands": options.commands,
        "caveats": sentences.caveats(runs, bool(of_time.metrics), bool(numbers.vbench), tested),
        "data": {
            "seconds": round(seconds, 4),
            "labels": labels,
            "runs": [origin(run, options.out.parent) for run in runs],
            "first_rows": list(range(min(ROWS_AT_ONCE, len(videos["rows"])))),
            "curves": [[_curve_data(curve) for curve in panel.curves] for panel in drawn_panels],
        },
    }


def origin(run: Run, folder: Path) -> dict[str, str]:
    """Where a run's numbers come from: its record, also as a link from the page's folder, and the command that made it."""
    path = run.path / "run.json"
    link = quote(os.path.relpath(path.resolve(), folder.resolve()).replace(os.sep, "/"))
    return {"path": str(path), "link": link, "command": str(run.record.get("command") or "")}


def differences(
    numbers: OverTime, runs: Sequence[Run], metrics: Sequence[str], base: int, ends: float
) -> dict[str, Any]:
    """Differences from the baseline, tables and sentences; without another run to compare with, empty."""
    baseline, others = runs[base], compared(numbers, runs, metrics)
    context: dict[str, Any] = {"baseline": base, "paired": [], "paired_note": "", "findings": [], "findings_notes": []}
    if not others:
        return context
    prompts = len({sample["prompt_id"] for sample in baseline.samples})
    for title, which in ((f"In the last {ends:g} s", "last"), ("In drift (last minus first)", "drift")):
        table = numbers.tables[which]
        here = sum(math.isfinite(numbers.difference(which, run.name, metric).p) for run in others for metric in metrics)
        note = f"*: also told from zero after Holm's adjustment for all {plural(table.comparisons, 'comparison')} of this kind "
        note = f"{note}in the report, {here} of them in this table." if table.comparisons else ""
        grid = paired(numbers, which, others, metrics, prompts)
        context["paired"].append({"title": title, "table": drawn(grid, runs), "note": note})
    context["paired_note"] = sentences.paired_note(baseline.label, has_intervals(numbers))
    context["findings"] = findings(numbers, runs, metrics, base, ends)
    context["findings_notes"] = findings_notes(numbers, metrics)
    return context


def _panel(index: int, metric: str, panel: Panel) -> dict[str, Any]:
    directions = {None: "", True: "↑ higher is better", False: "↓ lower is better"}
    column = Column(metric)
    svg = Markup(drift_svg(panel, index))  # escapes its texts itself
    told = {"title": column.words, "unit": column.value.unit, "description": column.value.description}
    return {
        "index": index,
        "metric": metric,
        **told,
        "direction": directions[column.value.higher_is_better],
        "svg": svg,
    }


def _curve_data(curve: Curve) -> dict[str, Any]:
    means = [float(f"{value:.4g}") if math.isfinite(value) else None for value in curve.mean]
    return {"run": curve.run, "t": [round(t, 3) for t in curve.t], "mean": means}


def _speed(runs: Sequence[Run]) -> dict[str, Any]:
    rows = []
    for i, run in enumerate(runs):
        stride = (run.record.get("geometry") or {}).get("temporal_stride") or 4
        found = speed(run.samples, int(stride))
        if found is None:
            continue
        texts = [number(found.chunk, 3), *(number(found.parts[part], 3) for part in PARTS), number(found.fps, 1)]
        tokens = "–" if found.tokens is None else " to ".join(f"{t:,}" for t in sorted(set(found.tokens)))
        rows.append({"run": i, "cells": [*texts, tokens, number(found.wall, 1), number(found.memory / 1e6, 0)]})
    cost = cost_table(runs)
    titles = [
        ("a chunk", "s"),
        *((part.removesuffix("_s"), "s") for part in PARTS),
        ("frames", "per s"),
        ("tokens attended", "per chunk"),
    ]
    titles += [("one video", "s, wall"), ("peak memory", "MB")]
    return {
        "cost": drawn(means(cost), runs) if cost.columns else "",
        "cost_note": " ".join(cost.notes),
        "speed": rows,
        "speed_columns": [{"title": title, "unit": unit} for title, unit in titles],
        "speed_note": "Medians over chunks of the second half of each video, where the window is full, as the rollouts "
        "ran: other work on the machine is in these times. For a clean measurement: python -m experiments.bench.",
    }
