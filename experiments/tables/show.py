"""A table in the terminal."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console

from experiments.tables.layout import Grid
from experiments.tables.render import terminal


def show(grid: Grid, console: Console, out: Path) -> None:
    """Print what there is room for, and in a line what there is not. out: the file that has all of it."""
    table, left_out = terminal(grid, console.width)
    console.print(table, soft_wrap=False)
    if left_out:
        told = f"No room for {', '.join(left_out)}: {out} has them."
        console.print(told, markup=False, highlight=False, soft_wrap=True)
