"""Runs by VBench's dimensions, or by any metrics, under one protocol, as papers print them: what stands beside the numbers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from eval.metrics.vbench.quality import QUALITY, REWARD
from eval.stats.drift import NUMBERS
from eval.stats.samples import one_protocol
from eval.stats.vbench import PAIRWISE
from experiments.results.cost import Costs, costs
from experiments.results.runs import Run
from experiments.results.scores import Scores
from experiments.tables.cost import cost_notes
from experiments.tables.layout import differences, means
from experiments.tables.render import latex, markdown
from experiments.tables.table import COST, DIMENSIONS, PERCENT, Column, Row, Table, build, records
from experiments.tables.text import markdown_text
from experiments.tables.versions import version_notes
from experiments.tables.words import INTERVALS, ONE_PROMPT, join, marks

PROTOCOLS = {
    "vbench": "vbench (VBench over the whole video)",
    "vbench_long": "vbench_long (clips of 2 s, encoded once more as VBench-Long does)",
    "vbench_long_memory": "vbench_long_memory (clips of 2 s without VBench-Long's encoding: not the published protocol)",
    "vbench_last": "vbench_last (the last 2 s of a video, its own pixels: not the published protocol)",
}


def choose_metrics(wanted: str | Sequence[str], scored: Sequence[str], protocol: str) -> list[str]:
    """Names in the order of the columns. wanted: "vbench" (the eight, and their Quality where it can be told), "all" that
    were scored, or names.

    Raises ValueError, saying what there is, if none of them was scored.
    """
    if wanted == "vbench":
        names = [*DIMENSIONS, *([QUALITY.name] if QUALITY.name in scored else [])]
    elif wanted == "all":
        names = [n for n in PERCENT if n in scored] + sorted(set(scored) - set(PERCENT))
    else:
        names = list(dict.fromkeys([wanted] if isinstance(wanted, str) else wanted))
    if not set(names) & set(scored):
        there = f"there are {', '.join(sorted(set(scored)))}" if scored else "run experiments.evaluate first"
        raise ValueError(f"protocol {protocol} has no scores of {', '.join(names) or 'any metric'}; {there}")
    return names


def choose_protocol(scores: Scores, wanted: str | None) -> str:
    """The protocol asked for, or the only one. Raises ValueError, naming those that were scored."""
    found: list[str] = sorted({*map(str, scores.table["protocol"]), *(["windows"] if scores.other else [])})
    if wanted is None and len(found) == 1:
        return str(found[0])
    if wanted in found:
        return str(wanted)
    if not found:
        raise ValueError("these runs have no scores; run experiments.evaluate first")
    asked = "scores follow several protocols" if wanted is None else f"protocol={wanted} was not scored"
    raise ValueError(f"{asked}: choose protocol={' or protocol='.join(found)}")


def common_samples(table: pd.DataFrame) -> pd.DataFrame:
    """Only the samples (prompt and seed) that every scored run has, so that means are over the same prompts.

    Raises ValueError if no sample is common to all.
    """
    runs = [set(rows["sample"]) for _, rows in table.groupby("run")]
    common = set.intersection(*runs) if runs else set()
    if runs and not common:
        raise ValueError("the runs have no prompt and seed in common; common=false takes each run's own")
    return table[table["sample"].isin(common)]


def compare(
    scores: pd.DataFrame,
    rows: Sequence[Row],
    metrics: Sequence[str],
    baseline: str | None,
    number: str = "mean",
    ends: float = 5.0,
    cost: Costs | None = None,
) -> Table:
    """Rows by metrics in their order, with notes. scores: of one protocol, which is said; number, ends: of every video, see
    eval.stats.drift.of_videos. cost: of the same videos, in columns behind the others. Raises ValueError for scores of
    several protocols.
    """
    one_protocol(scores, "a comparison")
    (protocol,) = set(scores["protocol"]) or {"windows"}
    columns = [Column(metric, number, str(protocol)) for metric in metrics]
    if cost is not None and len(cost.table):
        every = pd.concat([scores, cost.table], ignore_index=True)
        table = build(every, rows, [*columns, *COST], baseline, ends)
    else:
        table = build(scores, rows, columns, baseline, ends)
    return with_notes(table, scores, number, ends, cost)


def with_notes(table: Table, scores: pd.DataFrame, number: str, ends: float, cost: Costs | None = None) -> Table:
    """What a reader must know of a table of these scores. Its rows are called as the scores' runs."""
    said: tuple[str, ...] = ()
    (protocol,) = set(scores["protocol"]) or {"windows"}
    if number != "mean":
        said = (f"Numbers: {NUMBERS[number][0].format(ends=ends)}.",)
        if scores.groupby(["run", "sample"])["t_end"].max().round().nunique() > 1:
            said += (
                "Videos have unequal lengths: the end is each one's own, in differences of runs that of the shortest run.",
            )
    notes = _notes(replace(table, columns=table.compared), scores, str(protocol))
    costs_said = cost_notes(table, cost) if cost is not None else []
    return replace(table, notes=(*said, *notes, *costs_said))


def of_runs(
    scores: pd.DataFrame,
    runs: Sequence[Run],
    metrics: Sequence[str],
    baseline: str | None,
    common: bool,
    number: str = "mean",
    ends: float = 5.0,
) -> Table:
    """As `compare`, of runs, which give names and labels; common: of the samples that every scored run has, and says so.

    Raises ValueError as `compare` and `common_samples` do.
    """
    scores = scores[scores["metric"].isin(metrics)]
    used = common_samples(scores) if common else scores
    made = costs(runs)
    counted = set(zip(used["run"], used["sample"], strict=True))
    spent = [pair in counted for pair in zip(made.table["run"], made.table["sample"], strict=True)]
    made = replace(made, table=made.table[pd.Series(spent, index=made.table.index, dtype=bool)])
    table = compare(used, [Row(run.name, run.label) for run in runs], metrics, baseline, number, ends, made)
    of = {run.name: len(run.samples) for run in runs if run.samples}
    counts = used.groupby("run")["sample"].nunique()
    notes = table.notes
    partial = [name for name in of if 0 < counts.get(name, 0) < of[name]]
    if partial:
        least = join(sorted({f"{counts[name]} of {of[name]}" for name in partial}))
        notes = (*notes, f"Scored under this protocol and used here: {least} videos of a run.")
    if len(used) < len(scores):
        counts = scores.groupby("run")["sample"].nunique()
        left = f"Only the {used['sample'].nunique()} videos that every run has; the runs have {counts.min()} to {counts.max()}."
        notes = (*notes, left)
    names = {name: set(rows["sample"]) for name, rows in used.groupby("run")}
    told = [
        replace(run, samples=tuple(s for s in run.samples if s["sample"] in names.get(run.name, ()))) for run in runs
    ]
    return replace(table, notes=(*notes, *version_notes(told)))


def flat(table: Table) -> pd.DataFrame:
    """One line per run and metric for CSV and parquet. `scale`: what the scores of the tidy table were multiplied by."""
    lines = pd.DataFrame(records(table)).rename(columns={"row": "run"})
    names = ["run", "label", "protocol", "metric", "title", "number", "scale", "value", "low", "high", "n", "baseline"]
    return lines[[*names, *(column for column in lines if column.startswith("difference")), "comparisons"]]


def as_markdown(table: Table) -> str:
    """Means, the differences below them, and a paragraph for each note."""
    parts = [markdown(means(table))]
    if table.differences:
        parts += [f"{markdown_text(_difference_title(table))}:", markdown(differences(table))]
    return "\n\n".join([*parts, *map(markdown_text, table.notes)]) + "\n"


def as_latex(table: Table) -> str:
    """A table environment; the notes are its caption."""
    parts = [("", means(table))]
    if table.differences:
        parts.append((_difference_title(table), differences(table)))
    return latex(parts, " ".join(table.notes))


def _difference_title(table: Table) -> str:
    interval = ", with 95 % interval" if tested(table) else ""
    return f"Difference from {table.label(table.baseline)}{interval} ({table.columns[0].protocol})"


def tested(table: Table) -> bool:
    """Whether a difference has an interval: of one prompt none has, and nothing is said of any."""
    return any(math.isfinite(each.low) for each in table.differences.values())


def _notes(table: Table, scores: pd.DataFrame, protocol: str) -> list[str]:
    """What a reader must know: protocol, scale, how means are taken, what was not scored."""
    names = [row.name for row in table.rows]
    rows = scores[scores["run"].isin(names) & scores["metric"].isin([c.metric for c in table.columns])]
    length = float((rows["t_end"] - rows["t_start"]).median())
    told = PROTOCOLS.get(protocol, f"{protocol} of {length:g} s (not VBench's protocol)")
    others = [c.title for c in table.columns if c.scale == 1]
    scale = "Scores × 100" + (f", but {join(others)} as measured" if others else "")
    notes = [f"Protocol: {told}. {scale if len(others) < len(table.columns) else 'Scores as measured'}."]
    notes.append("Means over prompts, seeds of a prompt averaged first.")
    if QUALITY.name in [c.metric for c in table.columns]:
        notes.append(REWARD)
    if table.differences:
        told = f"{marks(table.comparisons)}. {INTERVALS}" if tested(table) else ONE_PROMPT
        notes.append(f"Differences are run minus {table.label(table.baseline)}, paired by prompt and seed; {told}")
    per_sample = rows[rows["value"].notna()].groupby(["run", "metric", "sample"]).size()
    if protocol.startswith("vbench_long") and per_sample.groupby(["run", "metric"]).nunique().gt(1).any():
        notes.append("Videos have unequal numbers of clips: VBench-Long's own mean over all clips would differ.")
    lengths = rows.groupby(["run", "metric", "sample"])["t_end"].max().round(1)
    pairwise = [c.title for c in table.columns if c.metric in PAIRWISE]
    if protocol == "vbench" and pairwise and lengths.groupby(["run", "metric"]).nunique().gt(1).any():
        notes.append(f"Videos have unequal lengths: VBench's own {join(pairwise)} would weigh longer videos more.")
    places = [(name, column) for name in names for column in table.columns]
    for words, lacking, everywhere in (
        ("Not scored", [place for place in places if place not in table.cells], "no run"),
        (
            "Scored, but without any value",
            [p for p in places if p in table.cells and not table.cell(*p).n],
            "every run",
        ),
    ):
        if lacking:
            notes.append(f"{words}: {_told(table, lacking, everywhere)}.")
    return notes


def _told(table: Table, places: Sequence[tuple[str, Column]], everywhere: str) -> str:
    """ "Dynamic Degree, Imaging Quality (no run); Aesthetic Quality (longlive)"."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for column in table.columns:
        lacking = tuple(row.name for row in table.rows if (row.name, column) in places)
        if lacking:
            groups.setdefault(lacking, []).append(column.title)
    labels = {lacking: join([table.label(name) for name in lacking]) for lacking in groups}
    labels[tuple(row.name for row in table.rows)] = everywhere
    return "; ".join(f"{', '.join(titles)} (in {labels[lacking]})" for lacking, titles in groups.items())
