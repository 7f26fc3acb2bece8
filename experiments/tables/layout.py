"""What stands where: tables laid out as a grid of cells, before anybody knows whether it becomes Markdown, LaTeX or a page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from experiments.tables.estimate import Estimate, interval, number
from experiments.tables.table import Column, Row, Table

DASH = "–"


Lookup = Callable[[str, Column], Estimate]  # of a row's name


@dataclass(frozen=True)
class Piece:
    """A few words of a cell. small: below or behind the others. star: Holm's mark. kind: best, better, worse or different."""

    text: str
    bold: bool = False
    small: bool = False
    star: bool = False
    kind: str = ""


@dataclass(frozen=True)
class Cell:
    """kind: of the whole place, as of a piece. mark: a drawing behind the first two pieces, order: a number to sort rows by
    (NaN: last), href: where the first piece leads; which only pages show."""

    pieces: tuple[Piece, ...] = (Piece(DASH),)
    kind: str = ""
    mark: str = ""
    order: float | None = None
    href: str = ""


@dataclass(frozen=True)
class Head:
    """Of a column or row. unit: smaller, with the better direction. run: of which run it is the label, by its number. metric:
    of which it is the title. href: where it leads on a page."""

    text: str
    unit: str = ""
    run: int | None = None
    metric: str = ""
    href: str = ""


@dataclass(frozen=True)
class Grid:
    """corner: head of the column that holds the rows' heads."""

    corner: str
    heads: tuple[Head, ...]
    rows: tuple[tuple[Head, tuple[Cell, ...]], ...]


def words(*texts: str) -> tuple[Cell, ...]:
    return tuple(Cell((Piece(text),)) for text in texts)


def value(estimate: Estimate, decimals: int) -> Cell:
    return Cell((Piece(number(estimate.value, decimals)),))


def value_and_interval(estimate: Estimate, decimals: int, test: bool = False) -> Cell:
    """test: it is a number beside zero, which is signed, bold where its interval excludes zero, and may have a star."""
    around = interval(estimate, decimals, sign=test)
    told = Piece(number(estimate.value, decimals, sign=test), bold=test and estimate.excludes_zero)
    return Cell((told, *([Piece(around, small=True, star=test and bool(estimate.star))] if around else [])))


def prompts_behind(estimates: Sequence[Estimate]) -> str:
    """The number of prompts behind a row's numbers, "10–12" where they differ."""
    counts = sorted({estimate.n for estimate in estimates if estimate.n})
    return "–".join(str(n) for n in dict.fromkeys((counts[0], counts[-1]))) if counts else DASH


def laid_out(table: Table, rows: Sequence[Row], behind: Lookup, lay: Callable[[str, Column], Cell]) -> Grid:
    """What `lay` puts in each place, and in front how many prompts are behind a row's estimates."""
    lines = []
    for row in rows:
        counts = words(prompts_behind([behind(row.name, column) for column in table.columns]))
        lines.append((Head(row.label), (*counts, *(lay(row.name, column) for column in table.columns))))
    heads = (Head(column.heading, metric=column.metric) for column in table.columns)
    return Grid("run", (Head("prompts"), *heads), tuple(lines))


def means(table: Table) -> Grid:
    return laid_out(table, table.rows, table.cell, lambda row, c: value(table.cell(row, c), table.decimals(c)))


def differences(table: Table) -> Grid:
    """All rows but the baseline's, in what models are compared by."""
    others = [row for row in table.rows if row.name != table.baseline]

    def lay(row: str, column: Column) -> Cell:
        return value_and_interval(table.difference(row, column), table.decimals(column), test=True)

    return laid_out(replace(table, columns=table.compared), others, table.difference, lay)


def with_differences(table: Table) -> Grid:
    """Means, and below each its difference, with the verdict on one that excludes zero."""

    def lay(row: str, column: Column) -> Cell:
        difference, places = table.difference(row, column), table.decimals(column)
        pieces = [Piece(number(table.cell(row, column).value, places))]
        if math.isfinite(difference.value):
            told = number(difference.value, places, sign=True)
            pieces.append(Piece(told, difference.excludes_zero, small=True, kind=verdict(difference, column)))
            pieces.append(Piece(interval(difference, places, sign=True), small=True, star=bool(difference.star)))
        return Cell(tuple(pieces))

    return laid_out(table, table.rows, table.cell, lay)


def verdict(difference: Estimate, column: Column) -> str:
    """ "better" or "worse" for a difference that excludes zero, "different" where the column has no better direction."""
    if not difference.excludes_zero:
        return ""
    if column.higher_is_better is None:
        return "different"
    return "better" if (difference.value > 0) == column.higher_is_better else "worse"


def ours_and_paper(table: Table) -> Grid:
    """Two lines per row, ours and the paper's; one where the paper has none of the columns."""
    lines = []
    for row in table.rows:
        ours = [table.cell(row.name, column) for column in table.columns]
        cells = [value_and_interval(e, table.decimals(c)) for c, e in zip(table.columns, ours, strict=True)]
        who = words("ours") if table.has_paper else ()
        lines.append((Head(row.label), (*who, *words(prompts_behind(ours)), *cells)))
        paper = [table.paper.get((row.name, column), math.nan) for column in table.columns]
        if any(map(math.isfinite, paper)):
            lines.append((Head(""), (*words("paper", ""), *words(*(number(each, 2) for each in paper)))))
    who_head = (Head(""),) if table.has_paper else ()
    heads = (*who_head, Head("prompts"), *(Head(column.heading) for column in table.columns))
    return Grid("row", heads, tuple(lines))


def ours_and_papers_differences(table: Table, leave_out: Sequence[str]) -> Grid | None:
    """Row minus baseline, likewise, of the rows and columns that were measured; None if there are none.

    leave_out: metrics whose differences say nothing.
    """
    measured = [c for c in table.columns if any(table.difference(row.name, c).n for row in table.rows)]
    columns = [column for column in measured if column.metric not in leave_out]
    rows = [row for row in table.rows if any(table.difference(row.name, column).n for column in columns)]
    lines = []
    for row in rows:
        cells = [value_and_interval(table.difference(row.name, c), table.decimals(c), test=True) for c in columns]
        lines.append((Head(row.label), (*(words("ours") if table.has_paper else ()), *cells)))
        if any((row.name, column) in table.paper for column in table.columns):
            paper = [number(table.paper_difference(row.name, column), 2, sign=True) for column in columns]
            lines.append((Head(""), words("paper", *paper)))
    who_head = (Head(""),) if table.has_paper else ()
    return Grid("minus the baseline", (*who_head, *(Head(c.heading) for c in columns)), tuple(lines)) if rows else None
