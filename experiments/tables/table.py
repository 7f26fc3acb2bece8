"""One model of a table: rows by columns, in each place an estimate, and its difference from the baseline's row.

What a column is says where its numbers come from: which number of every video, of which metric, under which protocol. The
statistics are those of `eval.stats`; what is missing is NaN, never 0.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import pandas as pd

from eval.measure.metric import Value
from eval.metrics import VALUES
from eval.metrics.vbench.quality import QUALITY
from eval.stats.drift import NUMBERS, OF_THE_END, of_videos
from eval.stats.means import paired_differences, summarise
from experiments.results.cost import COSTS
from experiments.results.cost import PROTOCOL as COST_PROTOCOL
from experiments.tables.estimate import MISSING, Estimate, adjusted, comparisons, decimals_for

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
PERCENT = (*DIMENSIONS, QUALITY.name)  # printed x 100, as papers do
FPS = Value("fps", "frames a second", None, "pixel frames a second, once the window is full")
JUDGED = Value(
    "visual_stability", "0 to 100", True, "as a vision-language model judges the whole video (experiments.judge)"
)
KNOWN = {value.name: value for value in (*VALUES, QUALITY, FPS, JUDGED, *COSTS)}
LEVELS = (
    "mean",
    "first",
    "last",
    "speed",
    "cost",
)  # numbers that are as good as their metric says; they need no word in a title
TITLES = {
    QUALITY.name: "VBench Quality",
    FPS.name: "FPS",
    "kv_frames": "KV frames read",
    "kv_tokens": "KV tokens read",
    "kv_stored": "KV stored",
    "chunk_time": "time per chunk",
}
SUFFIXES = {
    "abs_drift": " absolute drift",
    **{name: f" {name}" for name in NUMBERS if name not in (*LEVELS, "abs_drift")},
}


@dataclass(frozen=True)
class Column:
    """One number of every video, of a metric under a protocol: `number` of eval.stats.drift.NUMBERS, "speed" of FPS, or
    "cost" of those of results.cost."""

    metric: str
    number: str = "mean"
    protocol: str = "windows"

    @property
    def value(self) -> Value:
        """How to speak of the metric; without unit and direction where nobody knows it."""
        return KNOWN.get(self.metric, Value(self.metric, "", None, ""))

    @property
    def words(self) -> str:
        """The metric's name as running text has it, with the floor that it has."""
        return self.metric.replace("_", " ") + (f" ({self.value.floor})" if self.value.floor else "")

    @property
    def title(self) -> str:
        """As papers print it."""
        if self.metric in TITLES:
            return TITLES[self.metric] + SUFFIXES.get(self.number, "")
        title = self.words + SUFFIXES.get(self.number, "")
        return title.title() if self.metric in DIMENSIONS else title

    @property
    def higher_is_better(self) -> bool | None:
        return self.value.higher_is_better if self.number in LEVELS else NUMBERS[self.number][1]

    @property
    def arrow(self) -> str:
        return {None: "", True: "↑", False: "↓"}[self.higher_is_better]

    @property
    def scale(self) -> float:
        return 100.0 if self.metric in PERCENT else 1.0

    @property
    def unit(self) -> str:
        """Of the numbers as printed; none where they are scaled."""
        if self.scale != 1 or self.metric == FPS.name or self.number == "decay":
            return ""
        return f"{self.value.unit}/min".lstrip("/") if self.number == "slope" else self.value.unit

    @property
    def heading(self) -> str:
        """Title, unit and the better direction."""
        return f"{self.title}{f' ({self.unit})' if self.unit else ''} {self.arrow}".strip()


COST = tuple(Column(value.name, "cost", COST_PROTOCOL) for value in COSTS)
NOT_COMPARED = (FPS.name, *(value.name for value in COSTS))  # no comparison of what models make


@dataclass(frozen=True)
class Row:
    """name: of the row, by which its places are found. label: as it is printed."""

    name: str
    label: str


Place = tuple[str, Column]


@dataclass(frozen=True)
class Table:
    """Everything scaled as it is printed. cells, differences, paper: by (row's name, column).

    differences: row - baseline, paired by prompt and seed. paper: numbers that somebody else has published. notes: what a
    reader must know, a sentence or more each.
    """

    rows: Sequence[Row]
    columns: tuple[Column, ...]
    cells: Mapping[Place, Estimate]
    baseline: str | None = None
    differences: Mapping[Place, Estimate] = field(default_factory=dict)
    paper: Mapping[Place, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def cell(self, row: str, column: Column) -> Estimate:
        return self.cells.get((row, column), MISSING)

    def difference(self, row: str, column: Column) -> Estimate:
        return self.differences.get((row, column), MISSING)

    def paper_difference(self, row: str, column: Column) -> float:
        base = self.paper.get((self.baseline or "", column), math.nan)
        return self.paper.get((row, column), math.nan) - base

    def label(self, name: str | None) -> str:
        return next((row.label for row in self.rows if row.name == name), str(name or ""))

    @property
    def comparisons(self) -> int:
        """How many differences were tested: Holm's adjustment is for all of them."""
        return comparisons(self.differences.values())

    @property
    def tests(self) -> int:
        """How many of the cells are tests against zero, likewise."""
        return comparisons(self.cells.values())

    @property
    def has_paper(self) -> bool:
        return bool(self.paper)

    @property
    def compared(self) -> tuple[Column, ...]:
        """The columns by which models are compared: not what they cost."""
        return tuple(column for column in self.columns if column.metric not in NOT_COMPARED)

    def measured(self, column: Column) -> bool:
        return any(math.isfinite(self.cell(row.name, column).value) for row in self.rows)

    def decimals(self, column: Column) -> int:
        if column.scale != 1 or column.metric == FPS.name:
            return 2
        values = [self.cell(row.name, column).value for row in self.rows]
        return decimals_for(values, [self.difference(row.name, column).value for row in self.rows])


def build(
    scores: pd.DataFrame,
    rows: Sequence[Row],
    columns: Sequence[Column],
    baseline: str | None,
    seconds: float,
    runs: Mapping[str, str] | None = None,
) -> Table:
    """The table of tidy scores. runs: {row's name: its `run`}; None: rows are called as runs are.

    seconds: of the first and of the last. A difference of last seconds is of one time: where runs are of unequal length, it
    is taken at the end of the shortest.
    """
    runs = {row.name: row.name for row in rows} if runs is None else runs
    names = {run: name for name, run in runs.items()}
    base = None if baseline is None else runs.get(baseline)
    cells: dict[Place, Estimate] = {}
    differences: dict[Place, Estimate] = {}
    for number, protocol in dict.fromkeys((column.number, column.protocol) for column in columns):
        of = {column.metric: column for column in columns if (column.number, column.protocol) == (number, protocol)}
        every = scores[(scores["protocol"] == protocol) & scores["run"].isin(names)]
        part = every[every["metric"].isin(of)]
        if not len(part):
            continue
        cells |= placed(summarise(numbers_of_videos(part, every, number, seconds, None), "value"), names, of)
        if base is not None and number != "cost":
            together = float(every.groupby("run")["t_end"].max().min())
            videos = numbers_of_videos(part, every, number, seconds, together)
            differences |= placed(paired_differences(videos, base), names, of)
    return Table(tuple(rows), tuple(columns), adjusted(cells), baseline, adjusted(differences))


def placed(summary: pd.DataFrame, names: Mapping[str, str], of: Mapping[str, Column]) -> dict[Place, Estimate]:
    """The lines of a summary as estimates, scaled. names: {run: row's name}; of: {metric: its column}."""
    found = {}
    for line in summary.to_dict("records"):
        column = of[line["metric"]]
        p = math.nan if column.metric in NOT_COMPARED else line["p"]
        one = Estimate(line["mean"], line["low"], line["high"], int(line["n"]), p)
        found[names[line["run"]], column] = one.times(column.scale)
    return found


def numbers_of_videos(
    part: pd.DataFrame, every: pd.DataFrame, number: str, seconds: float, end: float | None
) -> pd.DataFrame:
    """`of_videos` of a part of the scores; how long a video is, all of its scores say."""
    if number in ("speed", "cost"):
        return of_videos(part, "mean")
    if number not in OF_THE_END:
        return of_videos(part, number, seconds)
    found = of_videos(every, number, seconds, end)
    return found[found["metric"].isin(part["metric"].unique())]  # of a whole column Arrow looks at every cell


def records(table: Table) -> list[dict[str, object]]:
    """One line per row and column for CSV and parquet; NaN where there is no number."""
    lines = []
    for row in table.rows:
        for column in table.columns:
            cell, difference = table.cell(row.name, column), table.difference(row.name, column)
            line: dict[str, object] = {"row": row.name, "label": row.label, "metric": column.metric}
            line |= {"title": column.title, "number": column.number, "protocol": column.protocol, "scale": column.scale}
            line |= {"value": cell.value, "low": cell.low, "high": cell.high, "n": cell.n}
            line |= {"baseline": table.baseline, "difference": difference.value, "difference_low": difference.low}
            line |= {"difference_high": difference.high, "difference_n": difference.n, "difference_p": difference.p}
            line |= {"difference_p_holm": difference.holm, "comparisons": table.comparisons}
            line |= {"paper": table.paper.get((row.name, column), math.nan)}
            lines.append(line | {"paper_difference": table.paper_difference(row.name, column)})
    return lines
