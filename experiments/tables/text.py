"""Any text as a cell of a table: labels, prompts and names of folders may hold whatever their writers liked."""

from __future__ import annotations

import html
import unicodedata

import pandas as pd

from eval.csv_cells import guarded

LATEX = {
    **{letter: f"\\{letter}" for letter in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "−": "$-$",
    "–": "--",
    "×": r"$\times$",
    "↑": r"$\uparrow$",
    "↓": r"$\downarrow$",
}


def one_line(text: str) -> str:
    """White space, line breaks too, as single spaces; other control characters as the sign for what cannot be shown."""
    words = " ".join(text.split())
    return "".join("\ufffd" if unicodedata.category(letter) in ("Cc", "Cs") else letter for letter in words)


def latex_text(text: str) -> str:
    """Any text as LaTeX would print it, also at the beginning of a row: there a bracket or star would belong to `\\\\`."""
    escaped = "".join(LATEX.get(letter, letter) for letter in one_line(text))
    return f"{{{escaped[0]}}}{escaped[1:]}" if escaped.startswith(("[", "*")) else escaped


def markdown_text(text: str) -> str:
    """Any text inside a cell, without HTML, links, pictures and code; underscores stay, as in the names of runs.

    Brackets stay where they make no link: intervals have them.
    """
    escaped = html.escape(one_line(text), quote=False).replace("\\", "\\\\")
    for letter in "|*`":
        escaped = escaped.replace(letter, f"\\{letter}")
    return escaped.replace("](", "\\](").replace("][", "\\][").replace("]:", "\\]:")


def markdown_code(text: str) -> str:
    """Any text as code within a line."""
    return f"`{one_line(text).replace('`', chr(39))}`"


def csv_text(table: pd.DataFrame) -> str:
    """A table as CSV, a row a line; no text in it is calculated by a spreadsheet, numbers stay numbers."""
    return str(table.map(lambda cell: guarded(one_line(cell)) if isinstance(cell, str) else cell).to_csv(index=False))
