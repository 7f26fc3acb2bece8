"""The report page's tables: what the template prints in each cell, as text.

Numbers come from `experiments.tables`; a missing one is an empty text or a dash.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup

from experiments.figures.interval import interval_mark
from experiments.results.runs import Run
from experiments.tables import prose
from experiments.tables.decay import EndsRow
from experiments.tables.estimate import MISSING, Estimate, interval, number
from experiments.tables.formats import prompts_behind
from experiments.tables.summary import MetricRow, arrow, family, percent_of_windows
from experiments.tables.vbench import Comparison


def vbench_table(comparison: Comparison, runs: Sequence[Run]) -> dict[str, Any]:
    """Runs by dimensions under one protocol, each number with its difference from the baseline below it."""
    rows = []
    for i, run in enumerate(runs):
        means = [comparison.cells[run.name, column.info.name] for column in comparison.columns]
        cells = []
        for column, mean in zip(comparison.columns, means, strict=True):
            versus = comparison.differences.get((run.name, column.info.name), MISSING)
            cells.append({"value": number(mean.value, column.decimals), **_difference(versus, column.decimals)})
        rows.append({"run": i, "prompts": prompts_behind(means), "cells": cells})
    heads = [column.title for column in comparison.columns]
    return {"title": comparison.protocol, "heads": heads, "rows": rows, "note": " ".join(comparison.notes)}


def _difference(versus: Estimate, decimals: int) -> dict[str, str]:
    """For a dimension of VBench, where higher is better in all."""
    text = number(versus.value, decimals, sign=True) if math.isfinite(versus.value) else ""
    verdict = prose.verdict(versus.value, True) if versus.excludes_zero else ""
    around = interval(versus, decimals, sign=True)
    return {"difference": text, "interval": around, "star": versus.star, "verdict": verdict}


def movement(rows: Sequence[MetricRow], of_ends: Sequence[EndsRow], runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Two blocks of lines by runs: numbers of both ends together, and every metric's slope and fluctuation."""
    found = []
    if of_ends:
        lines = [_ends_line(row, runs) for row in of_ends]
        found.append({"title": "The end against the beginning", "lines": lines})
    if any(math.isfinite(cell.slope.value) for row in rows for cell in row.cells.values()):
        found.append({"title": "Slope per minute, and fluctuation", "lines": [_slope_line(row, runs) for row in rows]})
    return found


def _ends_line(row: EndsRow, runs: Sequence[Run]) -> dict[str, Any]:
    cells = []
    for estimate in (row.cells.get(run.name, MISSING) for run in runs):
        texts = [number(estimate.value, row.decimals), interval(estimate, row.decimals)]
        cells.append({"texts": [text for text in texts if text], "sure": False})
    return {"title": row.title, "unit": row.unit, "cells": cells}


def _slope_line(row: MetricRow, runs: Sequence[Run]) -> dict[str, Any]:
    cells: list[dict[str, Any]] = []
    for cell in (row.cells.get(run.name) for run in runs):
        if cell is None or not math.isfinite(cell.slope.value):
            cells.append({"texts": ["–"], "sure": False})
            continue
        around = interval(cell.slope, row.decimals, sign=True) + cell.slope.star
        texts = [number(cell.slope.value, row.decimals, sign=True), around]
        texts.append(f"fluctuation {number(cell.fluctuation.value, row.decimals)}")
        cells.append({"texts": [text for text in texts if text], "sure": cell.slope.excludes_zero})
    return {"title": f"{row.info.title} {arrow(row.info)}".strip(), "unit": row.info.unit, "cells": cells}


def ends_row(row: MetricRow, runs: Sequence[Run]) -> dict[str, Any]:
    """One column of the table of first and last seconds: a cell or None per run."""
    cells = []
    for run in runs:
        cell = row.cells.get(run.name)
        cells.append(
            cell
            and {
                "first": number(cell.first.value, row.decimals),
                "last": number(cell.last.value, row.decimals),
                "drift": number(cell.drift.value, row.decimals, sign=True),
                "star": cell.drift.star,
                "interval": interval(cell.drift, row.decimals, sign=True),
                "best": cell.best,
                "share": percent_of_windows(cell.share),
            }
        )
    return {"title": row.info.title, "unit": row.info.unit, "arrow": arrow(row.info), "cells": cells}


def paired(
    runs: Sequence[Run], short: Sequence[MetricRow], every: Sequence[MetricRow], base: int, ends: float
) -> dict[str, Any]:
    """Differences from the baseline, table and sentences; without another run to compare with, empty. every: all metrics
    of the report, of which `short` shows some."""
    baseline = runs[base]
    compared = [
        i for i, run in enumerate(runs) if any(c.versus for r in short for n, c in r.cells.items() if n == run.name)
    ]
    context: dict[str, Any] = {"baseline": base, "compared": compared, "paired": [], "paired_note": ""}
    context |= {"findings": [], "findings_notes": []}
    if not compared:
        return context
    prompts = len({sample["prompt_id"] for sample in baseline.samples})
    blocks: list[tuple[str, str, Callable[[Any], Estimate | None]]] = [
        (f"In the last {ends:g} s", "versus", lambda cell: cell.versus),
        ("In drift (last minus first)", "versus_drift", lambda cell: cell.versus_drift),
    ]
    for title, name, pick in blocks:
        rows = []
        for row in short:
            cells = [row.cells.get(runs[i].name) for i in compared]
            rows.append(_paired_row(row, [pick(cell) if cell else None for cell in cells], prompts))
        note = f"*: also told from zero after Holm's adjustment for all {prose.plural(family(every, name), 'comparison')} of "
        note += f"this kind in the report, {family(short, name)} of them in this table."
        context["paired"].append({"title": title, "rows": rows, "note": note})
    context["paired_note"] = (
        f"Run minus {baseline.label}, paired by prompt and seed, with 95 % intervals. Green: better, the interval "
        "excluding zero; red: worse, likewise; no colour: the interval includes zero, or neither direction is better. "
        "Marks of one line share a scale."
    )
    context["findings"] = prose.findings(runs, short, base, ends)
    context["findings_notes"] = prose.findings_notes(short, every)
    return context


def _paired_row(row: MetricRow, estimates: Sequence[Estimate | None], prompts: int) -> dict[str, Any]:
    """One line of a paired table; a cell that fewer than `prompts` prompts are behind says how many."""
    ends = [abs(v) for e in estimates if e for v in (e.value, e.low, e.high) if math.isfinite(v)]
    cells = []
    for e in estimates:
        if e is None or not math.isfinite(e.value):
            cells.append({"text": "", "star": "", "interval": "", "mark": "", "verdict": "", "prompts": ""})
            continue
        cells.append(
            {
                "text": number(e.value, row.decimals, sign=True),
                "star": e.star,
                "interval": interval(e, row.decimals, sign=True),
                "mark": Markup(interval_mark(e.value, e.low, e.high, max(ends))),
                "verdict": prose.verdict(e.value, row.info.higher_is_better) if e.excludes_zero else "",
                "prompts": f"{e.n} of {prose.plural(prompts, 'prompt')}" if e.n < prompts else "",
            }
        )
    return {"title": row.info.title, "arrow": arrow(row.info), "cells": cells}
