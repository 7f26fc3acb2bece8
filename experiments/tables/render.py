"""A grid in every format: Markdown, LaTeX, a page's HTML, and the terminal. Nothing else writes tables of estimates."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Callable, Sequence

from markupsafe import Markup
from rich import box
from rich.table import Table as Terminal
from rich.text import Text

from experiments.tables.layout import Cell, Grid, Head, Piece
from experiments.tables.text import latex_text, markdown_text

NARROWEST = 13  # letters that the heads of rows have in the terminal, or a third of the line


def markdown(grid: Grid) -> str:
    def told(piece: Piece) -> str:
        text = markdown_text(piece.text)
        return (f"**{text}**" if piece.bold and text else text) + ("\\*" if piece.star else "")

    heads = [markdown_text(text) for text in [grid.corner, *map(_head, grid.heads)]]
    lines = [f"| {' | '.join(heads)} |", f"|---|{'---:|' * len(grid.heads)}"]
    for head, cells in grid.rows:
        lines.append(f"| {' | '.join([markdown_text(_head(head)), *(joined(cell, told) for cell in cells)])} |")
    return "\n".join(lines)


def _head(head: Head) -> str:
    return f"{head.text}{f' ({head.unit})' if head.unit else ''}"


def joined(cell: Cell, told: Callable[[Piece], str]) -> str:
    """A cell's pieces one after the other, the small ones apart."""
    return "".join((" " if piece.small and i else "") + told(piece) for i, piece in enumerate(cell.pieces)).strip()


def latex(parts: Sequence[tuple[str, Grid]], caption: str) -> str:
    """One table environment for the package booktabs. parts: grids of the same columns, with a title or without."""
    corner, front, *columns = [parts[0][1].corner, *map(_head, parts[0][1].heads)]
    heads = [latex_text(text) for text in (corner.capitalize(), front.capitalize(), *columns)]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{latex_text(caption)}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        f"{' & '.join(heads)} \\\\",
    ]

    def told(piece: Piece) -> str:
        text = latex_text(piece.text)
        text = f"{{\\scriptsize {text}}}" if piece.small and text else text
        return (f"\\textbf{{{text}}}" if piece.bold and text else text) + (latex_text("*") if piece.star else "")

    for title, grid in parts:
        lines.append("\\midrule")
        lines += [f"\\multicolumn{{{len(heads)}}}{{l}}{{{latex_text(title)}}} \\\\"] if title else []
        lines += [
            f"{' & '.join([latex_text(head.text), *(joined(cell, told) for cell in cells)])} \\\\"
            for head, cells in grid.rows
        ]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def page(grid: Grid, kind: str = "") -> Markup:
    """A table element. kind: its class. Heads that are labels of runs have the run's colour; they and titles of metrics carry
    data-run and data-metric, by which the page's script finds what belongs to a run or a metric.
    """

    def head(of: Head, number: bool) -> str:
        unit = f"<small>{html.escape(of.unit)}</small>" if of.unit else ""
        text = link(html.escape(of.text), of.href) if of.run is None else run_label(of)
        about = f' data-run="{of.run}"' if of.run is not None else ""
        about += f' data-metric="{html.escape(of.metric)}"' if of.metric else ""
        return f'<th class="num"{about}>{text}{unit}</th>' if number else f"<th{about}>{text}{unit}</th>"

    def piece(of: Piece) -> str:
        text = html.escape(of.text)
        text = f"<b>{text}</b>" if of.bold and (of.small or not of.kind) else text
        text += "<sup>*</sup>" if of.star else ""
        name = f' class="{of.kind}"' if of.kind else ""
        return f"<small{name}>{text}</small>" if of.small else f"<span{name}>{text}</span>" if of.kind else text

    def cell(of: Cell) -> str:
        pieces = [*map(piece, of.pieces)]
        if of.mark:
            pieces = [f'<span class="pair"><span>{pieces[0]}</span>{pieces[1]}{of.mark}</span>', *pieces[2:]]
        pieces[0] = link(pieces[0], of.href)
        order = "" if of.order is None else f' data-order="{of.order if math.isfinite(of.order) else ""}"'
        return f'<td class="num{f" {of.kind}" if of.kind else ""}"{order}>{"".join(pieces)}</td>'

    heads = f"<th>{html.escape(grid.corner)}</th>{''.join(head(of, number=True) for of in grid.heads)}"
    rows = "\n".join(f"<tr>{head(of, number=False)}{''.join(map(cell, cells))}</tr>" for of, cells in grid.rows)
    name = f' class="{kind}"' if kind else ""
    return Markup(f"<table{name}>\n<thead><tr>{heads}</tr></thead>\n<tbody>{rows}\n</tbody></table>")


def link(text: str, href: str) -> str:
    return f'<a href="{html.escape(href)}">{text}</a>' if href else text


def run_label(head: Head) -> str:
    colour = f"--c: var(--run{head.run})"
    inside = f'<span class="swatch"></span>{html.escape(head.text)}'
    return f'<a class="run-label" href="#run{head.run}" style="{colour}">{inside}</a>'


def terminal(grid: Grid, width: int) -> tuple[Terminal, list[str]]:
    """The table in so many letters a line, and the heads of what was left out of it: the last columns, or none where rows and
    columns change places and then all have room. Small pieces are on lines of their own.
    """
    most = max(NARROWEST, width // 3)  # of the rows' heads
    if fitting(grid, width, most) < len(grid.heads):
        turned = transposed(grid)
        grid = turned if fitting(turned, width, most) == len(turned.heads) else grid
    count = max(1, fitting(grid, width, most))
    table = Terminal(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column(Text(grid.corner), width=front(grid, most), overflow="fold")
    for i, head in enumerate(grid.heads[:count]):
        column = letters(grid, i)
        lines = textwrap.wrap(_head(head), column, break_long_words=False, break_on_hyphens=False)
        table.add_column(Text("\n".join(lines)), justify="right", width=column, no_wrap=True)
    for head, cells in grid.rows:
        table.add_row(Text(_head(head)), *map(_terminal_cell, cells[:count]))
    return table, [_head(head) for head in grid.heads[count:]]


def front(grid: Grid, most: int) -> int:
    """Letters of the column of the rows' heads."""
    return min(most, max(len(grid.corner), *(len(_head(head)) for head, _ in grid.rows), 1))


def letters(grid: Grid, column: int) -> int:
    """Of a column: a head is broken between words, a number not at all."""
    lines = [line for _, cells in grid.rows for line in _terminal_cell(cells[column]).plain.split("\n")]
    return max(map(len, [*_head(grid.heads[column]).split(), *lines]))


def fitting(grid: Grid, width: int, most: int) -> int:
    """How many of the columns have room. Two letters are between columns, one at each end of the line."""
    room = width - 2 - front(grid, most)
    for i in range(len(grid.heads)):
        room -= 2 + letters(grid, i)
        if room < 0:
            return i
    return len(grid.heads)


def transposed(grid: Grid) -> Grid:
    """Rows as columns."""
    rows = [(head, tuple(cells[i] for _, cells in grid.rows)) for i, head in enumerate(grid.heads)]
    return Grid(grid.corner, tuple(head for head, _ in grid.rows), tuple(rows))


def _terminal_cell(cell: Cell) -> Text:
    text = Text()
    for i, piece in enumerate(cell.pieces):
        style = "dim" if piece.small else "bold" if piece.bold else ""
        text.append(f"{chr(10) if piece.small and i else ''}{piece.text}{'*' if piece.star else ''}", style=style)
    return text
