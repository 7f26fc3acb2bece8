"""One table, five formats: the same numbers and marks in each, whatever is in the cells."""

from __future__ import annotations

import html
import io
import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from eval.stats.drift import of_videos
from eval.stats.means import paired_difference
from experiments.tables.estimate import Estimate, adjusted
from experiments.tables.layout import Cell, Grid, Head, Piece, means, with_differences
from experiments.tables.render import latex, markdown, page, terminal
from experiments.tables.table import Column, Row, Table, build, records
from experiments.tables.vbench import as_markdown, flat

METRICS = ("sharpness", "saturation", "somebody's own")
COLUMNS = ["run", "sample", "metric", "version", "protocol", "t_start", "t_end", "value"]


def scores(runs: dict[str, float], seconds: float = 20.0, prompts: int = 5, seed: int = 0) -> pd.DataFrame:
    """Windows of 1 s of every run and metric; runs differ by a shift and by noise."""
    rng = np.random.default_rng(seed)
    rows = [
        (run, f"p{i}-s0", metric, 1, "windows", float(t), t + 1.0, 10 + i + 0.1 * t + shift + rng.normal(0, 0.1))
        for run, shift in runs.items()
        for metric in METRICS
        for i in range(prompts)
        for t in range(int(seconds))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


ROWS = [Row("a", "first | <one>"), Row("b", "second * _one_"), Row("c", "third")]


@pytest.mark.parametrize("number", ["mean", "first", "last", "drift", "abs_drift", "slope", "fluctuation", "decay"])
def test_places_are_those_of_the_statistics(number: str) -> None:
    table = scores({"a": 0.0, "b": 0.4, "c": -0.1})
    columns = [Column(metric, number) for metric in METRICS]
    made = build(table, ROWS, columns, "a", 4.0)
    for column in columns:
        videos = of_videos(table[table["metric"] == column.metric], number, 4.0)
        for row in ROWS:
            own = videos[videos["run"] == row.name]["value"]
            assert made.cell(row.name, column).value == pytest.approx(own.mean())
            assert made.cell(row.name, column).n == 5
        for run in "bc":
            paired = paired_difference(videos, run, "a", column.metric)
            found = made.difference(run, column)
            assert [found.value, found.low, found.high, found.n, found.p] == pytest.approx(
                [paired.mean, paired.low, paired.high, paired.n, paired.p]
            )
        assert ("a", column) not in made.differences
    assert made.comparisons == 6
    again = adjusted(made.differences)
    assert {key: e.holm for key, e in again.items()} == {key: e.holm for key, e in made.differences.items()}


def test_differences_of_last_seconds_are_of_one_time() -> None:
    """The same line in both runs, of which one is shorter: its end is compared with the other's same seconds."""
    long, short = scores({"a": 0.0}, 20), scores({"b": 0.0}, 12)
    table = pd.concat([long, short])
    table["value"] = table["t_start"] + table["sample"].str[1].astype(float)
    column = Column("sharpness", "last")
    made = build(table, ROWS[:2], [column], "a", 4.0)
    assert made.cell("a", column).value == pytest.approx(17.5 + 2)
    assert made.cell("b", column).value == pytest.approx(9.5 + 2)
    assert made.difference("b", column).value == pytest.approx(0)


def test_what_was_not_scored_is_a_dash_in_every_format() -> None:
    table = scores({"a": 0.0})
    columns = [Column("sharpness"), Column("imaging_quality", "mean", "vbench_long")]
    made = build(table, ROWS[:2], columns, "a", 5.0)
    for text in formats(means(made)).values():
        assert len(re.findall("–", text.replace("--", "–"))) >= 4  # the number of prompts too
        assert "nan" not in text.lower()
    assert not made.measured(columns[1])
    assert pd.DataFrame(records(made)).set_index(["row", "metric"])["value"].isna().sum() == 3


def formats(grid: Grid) -> dict[str, str]:
    out = io.StringIO()
    Console(file=out, width=400, color_system=None).print(terminal(grid, 200)[0])
    return {
        "markdown": markdown(grid),
        "latex": latex([("", grid)], "").replace("{[}", "[").replace("$-$", "−").replace("\\textbar{}", "|"),
        "page": html.unescape(re.sub("<[^>]+>", " ", str(page(grid)))),
        "terminal": out.getvalue(),
    }


def numbers(text: str) -> list[str]:
    return sorted(re.findall(r"[+−]?\d+\.\d\d", text))


def test_all_formats_hold_the_same_numbers_and_as_many_stars() -> None:
    made = build(scores({"a": 0.0, "b": 0.4, "c": -0.01}), ROWS, [Column(m) for m in METRICS[:2]], "a", 5.0)
    grid = with_differences(made)
    found = formats(grid)
    assert len(numbers(found["markdown"])) == 6 + 4 * 3
    for name, text in found.items():
        assert numbers(text) == numbers(found["markdown"]), name
    stars = sum(bool(e.star) for e in made.differences.values())
    assert stars == 2
    assert found["markdown"].replace("second \\*", "").count("\\*") == stars
    assert found["latex"].count("{*}") == stars
    assert str(page(grid)).count("<sup>*</sup>") == stars
    assert str(page(grid)).count('<small class="different"><b>') == 2
    lines = flat(made).set_index(["run", "metric"])
    for (run, column), e in made.differences.items():
        line = lines.loc[(run, column.metric)]
        assert [line["difference"], line["difference_p_holm"]] == [e.value, e.holm]
        assert f"{e.value:+.2f}".replace("-", "−") in found["markdown"]


text = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(text, text, text), min_size=1, max_size=4), st.booleans(), st.booleans())
def test_a_table_stays_one_whatever_its_words(lines: list[tuple[str, str, str]], bold: bool, star: bool) -> None:
    rows = tuple((Head(a), (Cell((Piece(b, bold), Piece(c, small=True, star=star))), Cell())) for a, b, c in lines)
    grid = Grid("corner", (Head("x", "unit"), Head("y")), rows)
    written = markdown(grid).splitlines()
    assert len(written) == 2 + len(lines)
    assert {len(re.findall(r"(?<!\\)\|", line.replace("\\\\", ""))) for line in written} == {4}
    drawn = str(page(grid))
    assert drawn.count("<tr>") == 1 + len(lines)
    assert len(re.findall(r"</?[a-z]+(?: class=\"[a-z ]*\")?>", drawn)) == drawn.count("<")
    body = latex([("", grid)], "").split("\\midrule")[1].split("\\bottomrule")[0]
    assert len(re.findall(r"(?<!\\)&", body.replace("\\\\", "\n"))) == 2 * len(lines)
    Console(file=io.StringIO(), width=200).print(terminal(grid, 80)[0])


def test_a_terminal_shows_as_many_columns_as_fit_and_says_what_it_left_out() -> None:
    heads = tuple(Head(f"number_{i} ↓") for i in range(6))
    rows = tuple(
        (Head(f"a long name of run {i}"), tuple(Cell((Piece(f"{i}.{j}"),)) for j in range(6))) for i in range(30)
    )
    for width in (120, 80, 60, 40, 10):
        table, left_out = terminal(Grid("run", heads, rows), width)
        shown = len(table.columns) - 1
        assert left_out == [head.text for head in heads[shown:]]
        assert shown == {120: 6, 80: 5, 60: 3, 40: 2, 10: 1}[width]
        out = io.StringIO()
        Console(file=out, width=width, color_system=None).print(table)
        assert max(map(len, out.getvalue().splitlines())) <= width
        if width >= 40:
            assert "29.1" in out.getvalue(), "nothing that is shown is cut"


def test_a_terminal_changes_rows_and_columns_where_all_then_have_room() -> None:
    heads = tuple(Head(f"a metric of this name, number {i}") for i in range(12))
    rows = tuple((Head(name), tuple(Cell((Piece(f"{j}.5"),)) for j in range(12))) for name in ("one", "two"))
    table, left_out = terminal(Grid("run", heads, rows), 60)
    assert not left_out
    assert [str(column.header) for column in table.columns] == ["run", "one", "two"]
    assert table.row_count == 12


def test_a_table_without_differences_says_nothing_of_them() -> None:
    made = build(scores({"a": 0.0, "b": 1.0}), ROWS[:2], [Column("sharpness")], None, 5.0)
    assert made.differences == {}
    assert "Difference" not in as_markdown(made)


def test_estimates_of_families_do_not_mix() -> None:
    """Cells and differences are adjusted apart, and what is no test does not count."""
    e = Estimate(1.0, 0.5, 1.5, 5, 0.02)
    cells = {("a", Column("x")): e, ("b", Column("x")): Estimate(1.0, 0.5, 1.5, 5, math.nan)}
    made = Table(ROWS, (Column("x"),), adjusted(cells), "a", adjusted({("b", Column("x")): e, ("c", Column("x")): e}))
    assert made.tests == 1
    assert made.comparisons == 2
    assert made.cell("a", Column("x")).holm == 0.02
    assert made.difference("b", Column("x")).holm == 0.04
