"""What policies cost, as columns behind the scores or as a table of their own, and what a reader must know of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from experiments.results.cost import CHUNK_TIME, Costs, costs
from experiments.results.runs import Run
from experiments.tables.table import COST, Row, Table, build
from experiments.tables.words import join

COST_WORDS = (
    "Cost: latent frames and tokens that a query reads in a pass, its own chunk's among them, mean over chunks; the most that "
    "the KV cache held for a video; seconds per chunk once the window is full (denoise, commit, decode, write), as a multiple "
    "of Self Forcing's. Other work on the machine is in these times."
)


def cost_table(runs: Sequence[Run], names: Sequence[str] | None = None) -> Table:
    """Runs by what they cost, with notes; no columns if none of them was rolled out. names: of the rows; None: the runs'."""
    made = costs(runs)
    names = [run.name for run in runs] if names is None else names
    there = {name: run for name, run in zip(names, runs, strict=True) if run.name in set(made.table["run"])}
    rows = [Row(name, run.label) for name, run in there.items()]
    of = {name: run.name for name, run in there.items()}
    table = build(made.table, rows, COST if rows else (), None, 0.0, of)
    return replace(
        table,
        notes=tuple(
            cost_notes(table, replace(made, no_time={n: made.no_time[r] for n, r in of.items() if r in made.no_time}))
        ),
    )


def cost_notes(table: Table, cost: Costs) -> list[str]:
    """What the columns say, and why a time is blank."""
    if not set(COST) & set(table.columns):
        return []
    reasons: dict[str, list[str]] = {}
    for row in table.rows:
        if row.name in cost.no_time:
            reasons.setdefault(cost.no_time[row.name], []).append(row.label)
    blank = [f"{join(labels)}: {why}" for why, labels in reasons.items()]
    return [COST_WORDS, *([f"No {CHUNK_TIME.name.replace('_', ' ')} of {'; '.join(blank)}."] if blank else [])]
