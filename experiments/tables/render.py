"""A grid in every format: Markdown, LaTeX, a page's HTML, and the terminal. Nothing else writes tables of estimates."""

from __future__ import annotations

import html
import math
from collections.abc import Callable, Iterator, Sequence

from markupsafe import Markup
from rich import box
from rich.table import Table as Terminal
from rich.text import Text

from experiments.tables.layout import Cell, Grid, Head, Piece
from experiments.tables.text import latex_text, markdown_text

NARROWEST = 13  # letters of a column in the terminal


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
    """A table element. kind: its class. Heads that are labels of runs have the run's colour."""

    def head(of: Head, number: bool) -> str:
        unit = f"<small>{html.escape(of.unit)}</small>" if of.unit else ""
        text = link(html.escape(of.text), of.href) if of.run is None else run_label(of)
        return f'<th class="num">{text}{unit}</th>' if number else f"<th>{text}{unit}</th>"

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
    return f'<span class="run-label" style="{colour}"><span class="swatch"></span>{html.escape(head.text)}</span>'


def terminal(grid: Grid, width: int) -> Iterator[Terminal]:
    """As many columns side by side as there is room for; small pieces on lines of their own."""
    name = max(len(_head(head)) for head, _ in grid.rows) + 1
    parts: list[list[int]] = [[]]
    room = width - name
    for i, head in enumerate(grid.heads):
        wanted = max(NARROWEST, *(len(line) for line in _head(head).split("\n"))) + 1
        if parts[-1] and room < wanted:
            parts.append([])
            room = width - name
        parts[-1].append(i)
        room -= wanted
    for part in parts:
        table = Terminal(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
        table.add_column(Text(grid.corner), no_wrap=True)
        for i in part:
            table.add_column(Text(_head(grid.heads[i])), justify="right", no_wrap=True)
        for head, cells in grid.rows:
            table.add_row(Text(_head(head)), *(_terminal_cell(cells[i]) for i in part))
        yield table


def _terminal_cell(cell: Cell) -> Text:
    text = Text()
    for i, piece in enumerate(cell.pieces):
        style = "dim" if piece.small else "bold" if piece.bold else ""
        text.append(f"{chr(10) if piece.small and i else ''}{piece.text}{'*' if piece.star else ''}", style=style)
    return text
