"""A comparison as Markdown or as LaTeX: means, and below them the paired differences from the baseline."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from experiments.tables.estimate import MISSING, Estimate, interval, number
from experiments.tables.summary import arrow
from experiments.tables.text import latex_text, markdown_text
from experiments.tables.vbench import Column, Comparison


def markdown(comparison: Comparison) -> str:
    """Tables and below them a paragraph for each note."""
    heads = ["run", "prompts", *(markdown_text(heading(column)) for column in comparison.columns)]
    rule = f"|---|{'---:|' * (len(heads) - 1)}"
    parts = ["\n".join([_row(heads), rule, *(_row(cells) for cells in _means(comparison, markdown_text))])]
    if comparison.differences:
        parts.append(f"{difference_title(comparison, markdown_text)}:")
        bold = "**{}**".format
        rows = [_row(cells) for cells in _differences(comparison, markdown_text, bold, str)]
        parts.append("\n".join([_row(heads), rule, *rows]))
    return "\n\n".join([*parts, *map(markdown_text, comparison.notes)]) + "\n"


def latex(comparison: Comparison) -> str:
    """A table environment for the package booktabs; the notes are its caption."""
    heads = ["Run", "Prompts", *(latex_text(heading(column)) for column in comparison.columns)]
    lines = [
        "% needs \\usepackage{booktabs}",
        "\\begin{table}",
        "\\centering",
        f"\\caption{{{latex_text(' '.join(comparison.notes))}}}",
        f"\\begin{{tabular}}{{l{'r' * (len(heads) - 1)}}}",
        "\\toprule",
        f"{' & '.join(heads)} \\\\",
        "\\midrule",
        *(f"{' & '.join(cells)} \\\\" for cells in _means(comparison, latex_text)),
    ]
    if comparison.differences:
        title = difference_title(comparison, latex_text)
        lines += ["\\midrule", f"\\multicolumn{{{len(heads)}}}{{l}}{{{title}}} \\\\"]
        rows = _differences(comparison, latex_text, "\\textbf{{{}}}".format, "{{\\scriptsize {}}}".format)
        lines += [f"{' & '.join(cells)} \\\\" for cells in rows]
    return "\n".join([*lines, "\\bottomrule", "\\end{tabular}", "\\end{table}"]) + "\n"


def heading(column: Column) -> str:
    """Title, unit where the number is not scaled, and the better direction."""
    unit = f" ({column.info.unit})" if column.info.unit and column.scale == 1 else ""
    return f"{column.title}{unit} {arrow(column.info)}".strip()


def difference_title(comparison: Comparison, text: Callable[[str], str]) -> str:
    label = comparison.labels[comparison.baseline or ""]
    return text(f"Difference from {label}, with 95 % interval ({comparison.protocol})")


def _row(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _means(comparison: Comparison, text: Callable[[str], str]) -> Iterator[list[str]]:
    for run in comparison.runs:
        cells = [comparison.cells[run, column.info.name] for column in comparison.columns]
        numbers = [text(number(e.value, c.decimals)) for c, e in zip(comparison.columns, cells, strict=True)]
        yield [text(comparison.labels[run]), text(prompts_behind(cells)), *numbers]


def _differences(
    comparison: Comparison, text: Callable[[str], str], bold: Callable[[str], str], small: Callable[[str], str]
) -> Iterator[list[str]]:
    for run in comparison.runs:
        if run == comparison.baseline:
            continue
        found = [comparison.differences.get((run, column.info.name), MISSING) for column in comparison.columns]
        cells = []
        for column, estimate in zip(comparison.columns, found, strict=True):
            value = text(number(estimate.value, column.decimals, sign=True))
            around = text(interval(estimate, column.decimals, sign=True))
            marked = bold(value) if estimate.excludes_zero else value
            cells.append(f"{marked}{f' {small(around)}' if around else ''}{text(estimate.star)}")
        yield [text(comparison.labels[run]), text(prompts_behind(found)), *cells]


def prompts_behind(estimates: list[Estimate]) -> str:
    """The number of prompts behind a row's numbers, "10–12" where they differ."""
    counts = sorted({e.n for e in estimates if e.n})
    return "–" if not counts else str(counts[0]) if len(counts) == 1 else f"{counts[0]}–{counts[-1]}"
