"""Runs by dimensions as papers print them: VBench's order and names, x 100, differences from a baseline with intervals.

A pure function of the tidy table; the statistics are those of `eval.stats`, a missing number is NaN.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd

from eval.metric import Value
from eval.metrics.vbench_quality import QUALITY, REWARD
from eval.stats.drift import NUMBERS, of_videos
from eval.stats.means import overall, paired_difference
from eval.stats.samples import one_protocol
from eval.stats.vbench import PAIRWISE
from experiments.results.runs import Run
from experiments.results.scores import Scores
from experiments.tables import prose
from experiments.tables.estimate import MISSING, Estimate, adjusted, comparisons, decimals_for
from experiments.tables.summary import MetricInfo, metric_infos

# The eight dimensions of VBench that long-video papers report, in VBench's order (Huang et al., CVPR 2024, table 1).
DIMENSIONS = (
    "subject_consistency",
    "background_consistency",
    "temporal_flickering",
    "motion_smoothness",
    "dynamic_degree",
    "aesthetic_quality",
    "imaging_quality",
    "overall_consistency",
)
PERCENT = (*DIMENSIONS, QUALITY.name)  # printed x 100
PROTOCOLS = {
    "vbench": "vbench (VBench over the whole video)",
    "vbench_long": "vbench_long (clips of 2 s, encoded once more as VBench-Long does)",
    "vbench_long_memory": "vbench_long_memory (clips of 2 s without VBench-Long's encoding: not the published protocol)",
    "vbench_last": "vbench_last (the last 2 s of a video, its own pixels: not the published protocol)",
}
LEVELS = ("mean", "first", "last")  # numbers of which more is better where it is of the metric


@dataclass(frozen=True)
class Column:
    """A metric as it is printed: its numbers times `scale`, with `decimals`."""

    info: MetricInfo
    scale: float
    decimals: int

    @property
    def title(self) -> str:
        if self.info.name == QUALITY.name:
            return "VBench Quality"
        return self.info.title.title() if self.info.name in DIMENSIONS else self.info.title


@dataclass(frozen=True)
class Comparison:
    """What a table says, scaled. cells, differences: by (run, metric); differences: run - baseline, paired by sample."""

    protocol: str
    runs: tuple[str, ...]
    labels: Mapping[str, str]
    baseline: str | None
    columns: tuple[Column, ...]
    cells: Mapping[tuple[str, str], Estimate]
    differences: Mapping[tuple[str, str], Estimate]
    notes: tuple[str, ...]
    number: str = "mean"  # of every video, see eval.stats.drift.NUMBERS

    @property
    def comparisons(self) -> int:
        """How many differences were tested, for which Holm's adjustment is."""
        return comparisons(self.differences.values())


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
    found = sorted({*scores.table["protocol"].astype(str), *(["windows"] if scores.other else [])})
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
    table: pd.DataFrame,
    runs: Sequence[str],
    labels: Mapping[str, str],
    metrics: Sequence[str],
    values: Sequence[Value],
    baseline: str | None,
    protocol: str,
    number: str = "mean",
    ends: float = 5.0,
) -> Comparison:
    """The comparison of `runs` in their order by `metrics` in theirs. table: of one protocol, whose name is printed.

    values: how to speak of metrics that VBench does not have. number, ends: of every video, see eval.stats.drift.of_videos.
    Raises ValueError for scores of several protocols.
    """
    one_protocol(table, "a comparison")
    videos = table if number == "mean" else of_videos(table, number, ends)
    summary = overall(videos).set_index(["run", "metric"])
    found = {key: _estimate(row) for key, row in summary.iterrows()}
    raw = {(run, name): found.get((run, name), MISSING) for run in runs for name in metrics}
    parts = {str(name): rows for name, rows in videos.groupby("metric")}
    versus = {
        (run, name): _versus(parts[name], run, baseline, name)
        if {(run, name), (baseline, name)} <= found.keys()
        else MISSING
        for run in runs
        for name in metrics
        if baseline is not None and run != baseline
    }
    versus = adjusted(versus)
    known = {
        info.name: replace(info, higher_is_better=True) if info.name in DIMENSIONS else info
        for info in metric_infos(metrics, values)
    }
    if number not in LEVELS:
        known = {name: _of_number(info, number) for name, info in known.items()}
    columns = tuple(
        _column(known[name], [raw[run, name] for run in runs], [e for (_, n), e in versus.items() if n == name])
        for name in metrics
    )
    scale = {column.info.name: column.scale for column in columns}
    cells, differences = (
        {key: e.times(scale[key[1]]) for key, e in numbers.items()} for numbers in (raw, versus)
    )  # fmt: skip
    result = Comparison(protocol, tuple(runs), labels, baseline, columns, cells, differences, (), number)
    said: tuple[str, ...] = ()
    if number != "mean":
        said = (f"Numbers: {NUMBERS[number][0].format(ends=ends)}.",)
        if table.groupby(["run", "sample"])["t_end"].max().round().nunique() > 1:
            said += ("Videos have unequal lengths: the end is each one's own.",)
    return replace(result, notes=(*said, *_notes(result, table, set(found))))


def comparison_of(
    table: pd.DataFrame,
    runs: Sequence[Run],
    metrics: Sequence[str],
    values: Sequence[Value],
    baseline: str | None,
    protocol: str,
    common: bool,
    number: str = "mean",
    ends: float = 5.0,
) -> Comparison:
    """As `compare`, of runs, which give names and labels; common: of the samples that every scored run has, and says so.

    Raises ValueError as `compare` and `common_samples` do.
    """
    table = table[table["metric"].isin(metrics)]
    used = common_samples(table) if common else table
    labels = {run.name: run.label for run in runs}
    found = compare(used, list(labels), labels, metrics, values, baseline, protocol, number, ends)
    of = {run.name: len(run.samples) for run in runs if run.samples}
    counts = used.groupby("run")["sample"].nunique()
    partial = [name for name in of if 0 < counts.get(name, 0) < of[name]]
    if partial:
        least = prose.join(sorted({f"{counts[name]} of {of[name]}" for name in partial}))
        found = replace(
            found, notes=(*found.notes, f"Scored under this protocol and used here: {least} videos of a run.")
        )
    if len(used) < len(table):
        counts = table.groupby("run")["sample"].nunique()
        left = f"Only the {used['sample'].nunique()} videos that every run has; the runs have {counts.min()} to {counts.max()}."
        found = replace(found, notes=(*found.notes, left))
    return found


def flat(comparison: Comparison) -> pd.DataFrame:
    """One line per run and metric for CSV and parquet: value, difference from the baseline, intervals, prompts; NaN
    where there is no number. `scale`: what the scores of the tidy table were multiplied by."""
    lines = []
    for run in comparison.runs:
        for column in comparison.columns:
            name = column.info.name
            cell, versus = comparison.cells[run, name], comparison.differences.get((run, name), MISSING)
            line: dict[str, object] = {"run": run, "label": comparison.labels[run], "protocol": comparison.protocol}
            line |= {"metric": name, "title": column.title, "number": comparison.number, "scale": column.scale}
            line |= {"value": cell.value, "low": cell.low, "high": cell.high, "n": cell.n}
            line |= {"baseline": comparison.baseline, "difference": versus.value, "difference_low": versus.low}
            line |= {"difference_high": versus.high, "difference_n": versus.n, "difference_p": versus.p}
            lines.append(line | {"difference_p_holm": versus.holm, "comparisons": comparison.comparisons})
    return pd.DataFrame(lines)


def _of_number(info: MetricInfo, number: str) -> MetricInfo:
    """How to speak of a metric's drift, slope ..."""
    title = f"{info.title} {'absolute drift' if number == 'abs_drift' else number}"
    unit = f"{info.unit}/min".lstrip("/") if number == "slope" else info.unit
    return replace(info, title=title, unit=unit, higher_is_better=NUMBERS[number][1])


def _estimate(row: pd.Series) -> Estimate:
    return Estimate(float(row["mean"]), float(row["low"]), float(row["high"]), int(row["n"]))


def _versus(table: pd.DataFrame, run: str, baseline: str | None, metric: str) -> Estimate:
    assert baseline is not None
    paired = paired_difference(table, run, baseline, metric)
    return Estimate(paired.mean, paired.low, paired.high, paired.n, paired.p)


def _column(info: MetricInfo, cells: Sequence[Estimate], differences: Sequence[Estimate]) -> Column:
    if info.name in PERCENT:
        return Column(info, 100.0, 2)
    return Column(info, 1.0, decimals_for([e.value for e in cells], [e.value for e in differences]))


def _notes(comparison: Comparison, table: pd.DataFrame, found: set[object]) -> list[str]:
    """What a reader must know: protocol, scale, how means are taken, what was not scored."""
    rows = table[table["run"].isin(comparison.runs) & table["metric"].isin([c.info.name for c in comparison.columns])]
    length = float((rows["t_end"] - rows["t_start"]).median())
    protocol = PROTOCOLS.get(comparison.protocol, f"{comparison.protocol} of {length:g} s (not VBench's protocol)")
    others = [c.title for c in comparison.columns if c.scale == 1]
    scale = "Scores × 100" + (f", but {prose.join(others)} as measured" if others else "")
    notes = [f"Protocol: {protocol}. {scale if len(others) < len(comparison.columns) else 'Scores as measured'}."]
    notes.append("Means over prompts, seeds of a prompt averaged first.")
    if QUALITY.name in [c.info.name for c in comparison.columns]:
        notes.append(REWARD)
    if comparison.differences:
        notes.append(
            f"Differences are run minus {comparison.labels[comparison.baseline or '']}, paired by prompt and seed; "
            f"{prose.marks(comparison.comparisons)}. {prose.INTERVALS}"
        )
    per_sample = rows[rows["value"].notna()].groupby(["run", "metric", "sample"]).size()
    if comparison.protocol.startswith("vbench_long") and per_sample.groupby(["run", "metric"]).nunique().gt(1).any():
        notes.append("Videos have unequal numbers of clips: VBench-Long's own mean over all clips would differ.")
    lengths = rows.groupby(["run", "metric", "sample"])["t_end"].max().round(1)
    pairwise = [c.title for c in comparison.columns if c.info.name in PAIRWISE]
    if comparison.protocol == "vbench" and pairwise and lengths.groupby(["run", "metric"]).nunique().gt(1).any():
        notes.append(
            f"Videos have unequal lengths: VBench's own {prose.join(pairwise)} would weigh longer videos more."
        )
    for words, pairs in (
        ("Not scored", [key for key in comparison.cells if key not in found]),
        ("Scored, but without any value", [k for k, e in comparison.cells.items() if k in found and not e.n]),
    ):
        if pairs:
            everywhere = "no run" if words == "Not scored" else "every run"
            notes.append(f"{words}: {_told(comparison, pairs, everywhere)}.")
    return notes


def _told(comparison: Comparison, pairs: Sequence[tuple[str, str]], everywhere: str) -> str:
    """ "Dynamic Degree, Imaging Quality (no run); Aesthetic Quality (longlive)"."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for column in comparison.columns:
        lacking = tuple(run for run in comparison.runs if (run, column.info.name) in pairs)
        if lacking:
            groups.setdefault(lacking, []).append(column.title)
    labels = {lacking: prose.join([comparison.labels[run] for run in lacking]) for lacking in groups}
    labels[comparison.runs] = everywhere
    return "; ".join(f"{', '.join(titles)} (in {labels[lacking]})" for lacking, titles in groups.items())
