"""A group's table: which columns, which baseline, in which order; as a grid, as Markdown, and as the lines of the tidy csv."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from eval.metrics.vbench.quality import QUALITY, REWARD
from eval.stats.drift import NUMBERS
from experiments.board.settings import Entry, Group
from experiments.results.foreign import PROTOCOL as FOREIGN
from experiments.results.foreign import THEIRS
from experiments.tables.cost import cost_notes
from experiments.tables.estimate import interval, number
from experiments.tables.layout import Cell, Grid, Head, Piece, differences, laid_out, value, value_and_interval, verdict
from experiments.tables.render import markdown
from experiments.tables.table import COST, KNOWN, PERCENT, Column, Row, Table, build
from experiments.tables.text import markdown_text
from experiments.tables.versions import version_notes
from experiments.tables.words import INTERVALS, found_only, join, marks, plural

USUAL = (
    ("vbench_quality", "mean"), ("shape", "last"), ("presence", "last"), ("on_time", "last"), ("novelty", "last"),
    ("identity_drift", "last"), ("recall_error", "last"), ("landmark_kept", "last"), ("pan_progress", "last"),
    ("background_drift", "last"), ("texture", "last"),
    ("progress", "last"), ("cell_colour_drift", "last"), ("hue_similarity_last", "mean"), ("motion_kept", "mean"),
    ("imaging_quality", "mean"), ("aesthetic_quality", "mean"), ("dynamic_degree", "mean"), ("clip_drift", "last"),
)  # fmt: skip
"""Quality, drift, motion: those that were scored are columns."""
FIRST_CHOICE = "self_forcing"  # as baseline


@dataclass(frozen=True)
class Board:
    """A group and its table, rows in order of rank by the first column. ends: seconds called first and last."""

    group: Group
    table: Table
    ends: float

    @property
    def entries(self) -> list[Entry]:
        """In the order of the table's rows."""
        of = {entry.name: entry for entry in self.group.entries}
        return [of[row.name] for row in self.table.rows]


def asked_columns(words: Sequence[str]) -> list[tuple[str, str]]:
    """(metric, number) of "metric" or "metric:number". Raises ValueError."""
    found = []
    for word in words:
        metric, _, kind = word.partition(":")
        kind = kind or "mean"
        if metric not in KNOWN:
            raise ValueError(f"columns={word}: there is no metric {metric}; there are {', '.join(KNOWN)}")
        if kind not in NUMBERS:
            raise ValueError(f"columns={word}: {kind} is no number of a video; there are {', '.join(NUMBERS)}")
        found.append((metric, kind))
    return list(dict.fromkeys(found))


def columns_of(group: Group, asked: Sequence[tuple[str, str]]) -> list[Column]:
    """Those that were scored in the group, where VBench's dimensions are of its protocol."""
    if group.foreign is not None:
        return [Column(metric, "mean", FOREIGN) for metric in group.foreign.metrics]
    there = set(zip(group.scores["metric"], group.scores["protocol"], strict=True))
    found = []
    for metric, kind in asked:
        vbench = group.setting.protocol if metric in PERCENT and group.setting.protocol else "windows"
        for protocol in dict.fromkeys((vbench, "windows")):
            if (metric, protocol) in there and not (protocol in ("vbench", "vbench_last") and kind != "mean"):
                found.append(Column(metric, kind, protocol))
                break
    return found


def baseline_in(group: Group, wanted: str | None) -> str | None:
    """The name of the row that differences are from. None where the one asked for is not in the group."""
    for of in ("name", "label", "record"):
        for entry in group.entries:
            record = entry.run.record.get("name") if entry.run else entry.label
            if {"name": entry.name, "label": entry.label, "record": record}[of] == (wanted or FIRST_CHOICE):
                return entry.name
    return None if wanted is not None else group.entries[0].name


def boards(groups: Sequence[Group], asked: Sequence[tuple[str, str]], baseline: str | None, ends: float) -> list[Board]:
    """Raises ValueError for a baseline that is in no group, and where nothing was scored that could be a column."""
    bases = [baseline_in(group, baseline) for group in groups]
    if baseline is not None and not any(bases):
        there = dict.fromkeys(entry.label for group in groups for entry in group.entries)
        raise ValueError(f"baseline={baseline} is not one of the rows: {', '.join(there)}")
    made = []
    for group, base in zip(groups, bases, strict=True):
        columns = columns_of(group, asked)
        if columns:
            made.append(board(group, columns, base, ends))
    if not made:
        raise ValueError(
            f"none of {', '.join(dict.fromkeys(metric for metric, _ in asked))} was scored: "
            "python -m experiments.evaluate 'runs=...', or choose columns=[...]"
        )
    return made


def board(group: Group, columns: Sequence[Column], base: str | None, ends: float) -> Board:
    seconds = group.setting.seconds
    ends = ends if seconds is None else min(ends, seconds / 2)
    rows = [Row(entry.name, entry.label) for entry in group.entries]
    columns = [*columns, *(COST if group.cost is not None and len(group.cost.table) else ())]
    table = build(group.scores, rows, columns, base if len(rows) > 1 else None, ends)
    columns = [column for column in table.columns if table.measured(column)]
    if columns:
        table = replace(table, rows=ranked(table, columns[0]))
    table = replace(table, columns=tuple(columns))
    return Board(group, replace(table, notes=notes(group, table, ends)), ends)


def ranked(table: Table, by: Column) -> tuple[Row, ...]:
    """The better first; what was not measured last."""
    sign = -1.0 if by.higher_is_better is not False else 1.0

    def place(row: Row) -> tuple[bool, float]:
        value = table.cell(row.name, by).value
        return (not math.isfinite(value), sign * value if math.isfinite(value) else 0.0)

    return tuple(sorted(table.rows, key=place))


def notes(group: Group, table: Table, ends: float) -> tuple[str, ...]:
    """What a reader must know of the numbers, a sentence or more each."""
    found = []
    kinds = dict.fromkeys(column.number for column in table.columns if column.number != "mean")
    found += [
        f"{kind.capitalize().replace('_', ' ')}: {NUMBERS[kind][0].format(ends=ends)}."
        for kind in kinds
        if kind in NUMBERS
    ]
    protocols = dict.fromkeys(
        column.protocol for column in table.columns if column.protocol in (group.setting.protocol, "windows")
    )
    if group.foreign is None:
        found.append(f"Protocol: {join(list(protocols))}.")
    percent = [column.title for column in table.columns if column.scale != 1]
    if percent:
        found.append(f"× 100: {join(percent)}; all else as measured.")
    if QUALITY.name in [column.metric for column in table.columns]:
        found.append(REWARD)
    for thing, beside, metrics in found_only([column.metric for column in table.columns]):
        names = [column.words for column in table.columns if column.metric in metrics]
        found.append(
            f"Only frames in which a {thing} was found count for {join(names)}: read them beside {Column(beside).words}."
        )
    found.append("Means over prompts, all of this one seed.")
    if table.baseline is not None:
        found.append(f"Differences: minus {table.label(table.baseline)}, paired by prompt; {marks(table.comparisons)}.")
    if any(math.isfinite(cell.low) for cell in table.cells.values()):  # one prompt gives none
        found.append(INTERVALS)
    if group.cost is not None:
        found += cost_notes(table, group.cost)
        blank = [column.title for column in COST if len(group.cost.table) and column not in table.columns]
        found += [f"No column, for no record says it: {join(blank)}."] if blank else []
    lacking = [f"{column.title} of {table.label(row.name)}" for row in table.rows for column in table.compared
               if not table.cell(row.name, column).n]  # fmt: skip
    if lacking:
        found.append(f"Not scored, or without any value: {', '.join(lacking)}.")
    made = [
        replace(entry.run, samples=tuple(map(dict, entry.samples))) for entry in group.entries if entry.run is not None
    ]
    return (*found, *version_notes(made))


def foreign_words(group: Group) -> str:
    """What is known of somebody else's scores; empty of our own."""
    one = group.foreign
    if one is None:
        return ""
    quality = ""
    if one.checked:
        quality += (
            f" Quality follows from the seven dimensions to 1e-6 in all {plural(one.checked, 'line')} that have both."
        )
    if one.unchecked:
        quality += f" In {plural(one.unchecked, 'line')} it could not be checked, for a dimension is missing."
    return (
        f"Foreign scores, by {one.said}: {one.file}, sha256 {one.digest}. They were not made here, and neither videos, "
        f"lengths, protocol nor networks' weights were seen.{quality}"
    )


def grid(board: Board, hrefs: dict[str, str]) -> Grid:
    """For the page: value, interval, difference with its interval. hrefs: {row's name: where its numbers lead}."""
    table = board.table

    def lay(row: str, column: Column) -> Cell:
        cell, difference, places = table.cell(row, column), table.difference(row, column), table.decimals(column)
        pieces = [Piece(number(cell.value, places))]
        around = interval(cell, places)
        if around and column not in COST:  # what a policy reads is the same for every prompt
            pieces.append(Piece(around, small=True))
        if math.isfinite(difference.value):
            told = number(difference.value, places, sign=True)
            pieces.append(Piece(told, difference.excludes_zero, small=True, kind=verdict(difference, column)))
            pieces.append(Piece(interval(difference, places, sign=True), small=True, star=bool(difference.star)))
        return Cell(tuple(pieces), order=cell.value, href=hrefs.get(row, "") if math.isfinite(cell.value) else "")

    made = laid_out(table, table.rows, table.cell, lay)
    heads = [made.heads[0]]
    heads += [Head(c.title, " ".join(filter(None, (c.unit, c.arrow, kind_word(c))))) for c in table.columns]
    rows = tuple(
        (replace(head, href=hrefs.get(row.name, "")), (replace(cells[0], order=float(cell_n(cells[0]))), *cells[1:]))
        for row, (head, cells) in zip(table.rows, made.rows, strict=True)
    )
    return Grid("policy", tuple(heads), rows)


def kind_word(column: Column) -> str:
    """Which part of a video a level is of; other numbers say it in the title."""
    return {"last": "at the end", "first": "at the beginning"}.get(column.number, "")


def cell_n(cell: Cell) -> float:
    text = cell.pieces[0].text.partition("–")[0]
    return float(text) if text.isdigit() else math.nan


def as_markdown(board: Board) -> str:
    """Means with intervals, the differences below them, then the notes."""
    table = board.table

    def lay(row: str, column: Column) -> Cell:
        return (value if column in COST else value_and_interval)(table.cell(row, column), table.decimals(column))

    means = laid_out(table, table.rows, table.cell, lay)
    heads = [means.heads[0], *(Head(c.heading, kind_word(c)) for c in table.columns)]
    parts = [f"## {markdown_text(title(board))}"]
    parts += [markdown_text(foreign_words(board.group))] if board.group.foreign else []
    parts.append(markdown(Grid("policy", tuple(heads), means.rows)))
    if table.differences:
        parts += [f"Minus {markdown_text(table.label(table.baseline))}:", markdown(differences(table))]
    return "\n\n".join([*parts, *map(markdown_text, table.notes)]) + "\n"


def title(board: Board) -> str:
    setting = board.group.setting
    return f"Foreign: {setting.title}" if setting.foreign else f"{setting.title}, model {setting.model}"


TIDY = ["run", "metric", "mean", "low", "high", "difference", "difference_low", "difference_high", "n", "comparisons"]


def tidy(boards: Sequence[Board]) -> pd.DataFrame:
    """One line per row and column of all tables, as measured (not x 100). table: by number, from 1 on, as on the page.

    metric: of foreign scores as their file calls it. comparisons: of the table, which Holm's adjustment is for.
    """
    lines = []
    for number_, made in enumerate(boards, start=1):
        table, setting = made.table, made.group.setting
        for row in table.rows:
            for column in table.columns:
                cell, versus = table.cell(row.name, column).times(1 / column.scale), table.difference(row.name, column)
                versus = versus.times(1 / column.scale)
                name = THEIRS if setting.foreign and column.metric == QUALITY.name else column.metric
                values = (row.name, name, cell.value, cell.low, cell.high, versus.value, versus.low, versus.high)
                line: dict[str, object] = dict(zip(TIDY, (*values, cell.n, table.comparisons), strict=True))
                line |= {"label": row.label, "number": column.number, "protocol": column.protocol, "table": number_}
                line |= {"suite": setting.suite, "seconds": setting.seconds, "seed": setting.seed}
                line |= {"baseline": table.baseline, "difference_p": versus.p, "difference_p_holm": versus.holm}
                lines.append(line | {"foreign": setting.foreign})
    return pd.DataFrame(lines)
