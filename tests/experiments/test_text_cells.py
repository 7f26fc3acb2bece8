"""Labels, prompts and names of folders in tables: no formula, no HTML, no LaTeX of theirs gets out of its cell."""

from __future__ import annotations

import csv
import html
import io
import json
import re
from pathlib import Path

import pandas as pd
import pytest
from commands import Command
from hypothesis import given
from hypothesis import strategies as st
from report_runs import Scores, add_scores, draw, write_run

from eval.csv_cells import bare, guarded
from experiments.figures.figure import drawn, save
from experiments.figures.filmstrip import Filmstrip
from experiments.tables.text import csv_text, latex_text, markdown_code, markdown_text

FORMULAS = ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1", "\n=1", "'=1+1", "＝1+1", "-0.12+cmd|' /C calc'!A0"]


@pytest.mark.parametrize("text", FORMULAS)
def test_formulas_are_text(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert bare(guarded(text)) == text


@pytest.mark.parametrize("text", ["−0.12", "a=1", "", "don't", "–", "1+1"])
def test_other_texts_stay(text: str) -> None:
    assert guarded(text) == text


@given(st.text(st.sampled_from("'=+-@1.e a\t\n"), max_size=6))
def test_guarding_can_be_taken_back(text: str) -> None:
    assert bare(guarded(text)) == text


def test_a_csv_table_holds_no_formula_and_its_numbers() -> None:
    table = pd.DataFrame({"label": FORMULAS, "value": [-0.12] * len(FORMULAS), "none": [None] * len(FORMULAS)})
    rows = list(csv.reader(io.StringIO(csv_text(table), newline="")))
    assert [row[0] for row in rows[1:]] == [f"'{text.strip()}" for text in FORMULAS]
    assert {row[1] for row in rows[1:]} == {"-0.12"}
    assert pd.read_csv(io.StringIO(csv_text(table)))["value"].tolist() == table["value"].tolist()


MARKDOWN_LETTERS = st.text(st.sampled_from("ab|*`<>&[](): \n\r\t\\_!\"'\x1b\u2028"), max_size=30)


@given(MARKDOWN_LETTERS)
def test_a_markdown_cell_is_one_cell_of_plain_text(text: str) -> None:
    cell = markdown_text(text)
    assert not re.search(r"[\n\r\t\x1b\u2028<>]", cell)
    unescaped = re.sub(r"\\([!-/:-@\[-`{-~])", "\0", cell)  # what a backslash stands before is a letter
    assert not re.search(r"[|*`]|\]\(|\]\[|\]:", unescaped)
    shown = html.unescape(re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell))
    assert shown == " ".join(text.split()).replace("\x1b", "\ufffd")
    assert markdown_code(text).count("`") == 2


def test_what_markdown_shows_of_usual_cells() -> None:
    assert markdown_text("deep_sink sink_frames=3") == "deep_sink sink_frames=3"
    assert markdown_text("+2.00 [−0.48, +4.48]") == "+2.00 [−0.48, +4.48]"
    assert markdown_text("[a](javascript:x) <img src=x>") == "[a\\](javascript:x) &lt;img src=x&gt;"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("[2cm] a", "{[}2cm] a"),
        ("*a", "{*}a"),
        ("a\n\n\\input{/etc/passwd}", "a \\textbackslash{}input\\{/etc/passwd\\}"),
        ("%\n\\end{tabular}", "\\% \\textbackslash{}end\\{tabular\\}"),
        ("a\x1bb", "a\ufffdb"),
    ],
)
def test_latex_of_a_label_stays_in_its_cell(text: str, expected: str) -> None:
    assert latex_text(text) == expected


NASTY = "=cmd|' /C calc'!A0 <img src=x onerror=alert(1)> [x](javascript:alert) \\input{x} $\\frac"


def test_every_writer_escapes_what_a_run_says(tmp_path: Path, command: Command) -> None:
    """A label and a prompt that are a formula, HTML, a link, LaTeX and broken mathematics; and a metric's name."""
    scores: Scores = {"colour_drift": lambda i, t: -t, "=m<u>": lambda i, t: t}
    runs = [write_run(tmp_path, f"{NASTY}{k}", scores, {"k": k}, (NASTY,), f"n-{k:08x}") for k in (1, 2)]
    draw(tmp_path / "page.html", *runs)
    folder = tmp_path / "<b>folder"
    folder.mkdir()
    rows = pd.concat([pd.read_parquet(path) for path in sorted((runs[0] / "scores").glob("*.parquet"))])
    rows.assign(protocol="windows").drop(columns=["run", "video_sha256"]).to_parquet(folder / "scores.parquet")
    both = [f"runs=[{','.join(map(str, runs))}]", f"folders=['{folder}']", "window_seconds=1", "metrics=all"]
    for name in ("table.csv", "table.md", "table.tex"):
        status, _, err = command("table", *both, f"out={tmp_path / name}", f"baseline={runs[0].name}")
        assert (status, err) == (0, "")
    for file in (tmp_path / "page.csv", tmp_path / "table.csv"):
        found = pd.read_csv(file, keep_default_na=False, dtype=str)
        assert f"'{NASTY}1" in set(found["label"])
        assert "'=m<u>" in set(found["metric"])
        assert not [cell for cell in found.to_numpy().ravel() if cell.startswith(("=", "+", "@"))]
        numbers = pd.read_csv(file)
        assert (numbers.select_dtypes("number") < 0).any().any()
    for file in (tmp_path / "page.md", tmp_path / "table.md"):
        text = file.read_text()
        assert "onerror" in text
        assert "<img" not in text
        assert "<b>" not in text
        assert "<u>" not in text
        assert "](javascript" not in text.replace("\\](", "")
        for table in text.split("\n\n"):
            counts = {len(re.findall(r"(?<!\\)\|", line)) for line in table.splitlines() if line.startswith("| ")}
            assert len(counts) <= 1
    latex = (tmp_path / "table.tex").read_text()
    assert "\\input{" not in latex
    assert "\\textbackslash{}input" in latex


def test_dollar_signs_in_figures_are_dollar_signs(tmp_path: Path) -> None:
    run = write_run(tmp_path, "$\\frac$", prompts=("$x^$",), name="n-01234567")
    add_scores(run, "colour_drift", "windows", [(0.0, 2.0), (2.0, 4.0)], 1.0)
    figure = Filmstrip(0, 2, "colour_drift")
    save(drawn(figure, figure.read([run])), tmp_path / "x.svg")
    assert {"“$x^$”", "$\\frac$"} <= set(re.findall(r"<text[^>]*>([^<]*)<", (tmp_path / "x.svg").read_text()))


def test_json_of_the_page_is_no_script(tmp_path: Path) -> None:
    run = write_run(tmp_path, "</script><script>alert(1)</script>", {"colour_drift": lambda i, t: t}, name="n-01234567")
    page, _ = draw(tmp_path / "page.html", run)
    assert "<script>alert" not in page
    assert json.loads(re.findall(r'id="page-data">(.*?)</script>', page, re.S)[0])["labels"] == [
        "</script><script>alert(1)</script>"
    ]
