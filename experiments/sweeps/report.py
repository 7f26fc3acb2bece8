"""The end of a sweep, from what is on disk: a table with paired differences, figures, and what was not run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
from hydra.utils import instantiate
from omegaconf import DictConfig

from deepforcing.runs import atomic_write_text
from eval.store import other_weights
from experiments.command.compose import compose
from experiments.reproduction.work import REAL
from experiments.results.cost import costs
from experiments.results.runs import Run, read_runs
from experiments.results.scores import read_scores
from experiments.sweeps.points import Point, Points
from experiments.tables.estimate import Estimate, adjusted
from experiments.tables.table import COST, Column, Place, Row, Table, build, records
from experiments.tables.text import csv_text, markdown_code, markdown_text
from experiments.tables.vbench import as_markdown, with_notes
from experiments.tables.versions import version_notes


def read_points(points: Points, real: Path | None) -> dict[str, Run]:
    """{row's name: its run}, of the sweep's samples alone; points of one run are one row, "a = b"; real: of real video."""
    of_run: dict[str, list[Point]] = {}
    for point in points.made:
        if (point.run / "run.json").exists():
            of_run.setdefault(point.run.name, []).append(point)
    wanted = {sample.name for sample in points.samples}
    found = {}
    for shared in of_run.values():
        (run,) = read_runs([shared[0].run])
        name = " = ".join(point.name for point in shared)
        found[name] = replace(
            run, label=name + run.mark, samples=tuple(s for s in run.samples if s["sample"] in wanted)
        )
    if real is not None:
        (run,) = read_runs([real])
        found[REAL.name] = replace(run, samples=tuple(s for s in run.samples if s["sample"] in wanted))
    return found


def table_of(points: Points, runs: Mapping[str, Run], columns: Sequence[Column], config: DictConfig) -> Table:
    """Rows by metrics and cost. With budgets every policy stands beside the baseline's at the same budget, the only fair
    comparison; without, beside one baseline. Holm's adjustment is for all differences together.

    Raises ValueError where scores are of different weights or windows.
    """
    ends, protocol = float(config.ends), str(config.protocol)
    read = read_scores(list(runs.values()), float(config.window_seconds) if protocol == "windows" else None)
    pairs = {(run.name, sample["sample"]) for run in runs.values() for sample in run.samples}
    table = read.table[read.table["protocol"] == protocol]
    mine = [pair in pairs for pair in zip(table["run"], table["sample"], strict=True)]
    scores = table[pd.Series(mine, index=table.index, dtype=bool) & table["metric"].isin([c.metric for c in columns])]
    if other := other_weights(scores):
        raise ValueError(other[0])
    cost = costs(list(runs.values()))
    every = pd.concat([scores, cost.table], ignore_index=True)
    names = {name: run.name for name, run in runs.items()}
    rows = [Row(name, run.label) for name, run in runs.items()]
    whole = build(every, rows, (*columns, *COST), None, ends, names)
    beside = bases(points, names)
    differences: dict[Place, Estimate] = {}
    for base in dict.fromkeys(beside.values()):
        part = [row for row in rows if beside.get(row.name) == base or row.name == base]
        differences |= build(every, part, columns, base, ends, {row.name: names[row.name] for row in part}).differences
    at_budgets = any(point.budget is not None for point in points.made)
    base_name = points.baseline and (f"{points.baseline} at the same budget" if at_budgets else points.baseline)
    made = replace(whole, baseline=base_name, differences=adjusted(differences))
    called = {run: name for name, run in names.items()}
    cost = replace(cost, no_time={called[run]: why for run, why in cost.no_time.items()})
    noted = with_notes(made, scores.replace({"run": called}), str(config.number), ends, cost)
    return replace(noted, notes=(*noted.notes, *version_notes(list(runs.values()))))


def bases(points: Points, names: Mapping[str, str]) -> dict[str, str]:
    """{row's name: the row that it is compared with}."""
    row_of = {part: name for name in names for part in name.split(" = ")}
    found: dict[str, str] = {}
    for point in points.made if points.baseline is not None else ():
        base = str(points.baseline) if point.budget is None else f"{points.baseline} {point.budget}"
        if {point.name, base} <= row_of.keys() and row_of[point.name] != row_of[base]:
            found[row_of[point.name]] = row_of[base]
    return found


def report(
    points: Points,
    failed: Mapping[str, str],
    columns: Sequence[Column],
    config: DictConfig,
    real: Path | None,
    out: Path,
) -> str:
    """Write <out>, its .csv, and a figure for each name in sweep.figures; the Markdown."""
    runs = read_points(points, real)
    parts = [f"# {markdown_text(str(config.sweep.title))}"]
    if runs:
        table = table_of(points, runs, columns, config)
        parts.append(as_markdown(table).rstrip())
        atomic_write_text(out.with_suffix(".csv"), csv_text(flat(table, points)))
        parts += draw(runs, columns, config, out)
    made = {part: run for name, run in runs.items() for part in name.split(" = ")}
    said = []
    for point in points.made:
        if point.name in made:
            count = f"{len(made[point.name].samples)} of {len(points.samples)} videos"
            said.append(
                f"- {markdown_text(point.name)}: {markdown_code(' '.join(point.words))}; {count}; {point.run.name}"
            )
    parts += ["## Points", "\n".join(said) or "None was made."]
    missing = {**points.left_out, **failed}
    lines = [f"- {markdown_text(f'{name}: {why}')}" for name, why in missing.items()]
    parts += ["## What was not run", "\n".join(lines) or "Nothing was left out."]
    text = "\n\n".join(parts) + "\n"
    atomic_write_text(out, text)
    return text


def draw(runs: Mapping[str, Run], columns: Sequence[Column], config: DictConfig, out: Path) -> list[str]:
    """A figure of the runs for each name of sweep.figures, as `experiments.figure` draws it; what one lacks is said."""
    from experiments.figures.figure import drawn, save  # matplotlib

    said = []
    paths = [run.path for name, run in runs.items() if name != REAL.name]
    for name, keys in (config.sweep.figures or {}).items():
        file = out.with_name(f"{out.stem}_{name}.png")
        words = [f"figure={name}", "runs=[]", *(f"figure.{key}={value}" for key, value in (keys or {}).items())]
        node = compose("figure", words).figure
        for key in ("number", "protocol", "ends", "window_seconds"):  # as the table has them
            if key in node and key not in (keys or {}):
                node[key] = config[key]
        if node.get("metrics", 0) is None:
            node.metrics = [column.metric for column in columns]
        figure = instantiate(node, _convert_="object")
        try:
            save(drawn(figure, figure.read(paths)), file)
            said.append(f"![{markdown_text(str(name))}]({file.name})")
        except ValueError as error:
            said.append(f"No figure {markdown_text(f'{name}: {error}')}.")
    return said


def flat(table: Table, points: Points) -> pd.DataFrame:
    """One line per row and column, with the policy and its budget."""
    of = {point.name: point for point in points.made}
    lines = pd.DataFrame(records(table)).drop(columns=["paper", "paper_difference"])
    known = [next((of[part] for part in str(row).split(" = ") if part in of), None) for row in lines["row"]]
    budgets = [None if point is None else point.budget for point in known]
    return lines.assign(policy=["" if point is None else point.policy for point in known], budget=budgets)
