"""Answers of raters: what the table counts, and files that cannot be counted."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from commands import Command, Outcome
from rated_runs import answered, make_study, table, three_runs

from experiments.raters.answers import gather
from experiments.raters.design import QUESTIONS
from experiments.raters.key import read_key


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return three_runs(tmp_path)


@pytest.fixture
def make(command: Command, runs: list[Path], tmp_path: Path) -> Callable[..., Outcome]:
    return make_study(command, runs, tmp_path)


def test_the_table_counts_what_was_chosen(
    make: Callable[..., Outcome], command: Command, runs: list[Path], tmp_path: Path
) -> None:
    make()
    other = runs[1].name
    for rater in range(1, 5):  # all prefer ours to `other` in colour; half of them to the third; nobody in motion

        def prefer(question: str, opponent: str | None, rater: int = rater) -> bool:
            return opponent is None or (question != "motion" and (opponent == other or rater % 2 == 0))

        (tmp_path / f"answers-{rater}.csv").write_text(answered(tmp_path / "study", rater, prefer))
    status, out, err = table(command, tmp_path)
    assert (status, err) == (0, "")
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in out.splitlines()
        if line.startswith("|")
    }
    assert rows["other-policy"][1] == "8"  # 2 pairs x 4 raters
    assert rows["other-policy"][2].startswith("100.0 [")
    assert rows["other-policy"][3].startswith("0.0 [")
    assert rows["third-policy"][2].startswith("50.0 [")
    low, high = map(float, re.findall(r"[\d.]+", rows["other-policy"][2])[1:])
    assert (low, high) == (pytest.approx(51.0, abs=0.1), 100.0)  # Wilson's of 4 of 4
    assert rows["agreement"][3] == "–"  # all gave one answer: nothing could have disagreed
    assert "paper" not in out.split("\n\n")[0]
    assert table(command, tmp_path, f"out={tmp_path / 'table.csv'}").status == 0
    with open(tmp_path / "table.csv") as file:
        told = list(csv.DictReader(file))
    assert len(told) == 2 * len(QUESTIONS)
    assert {row["raters"] for row in told} == {"4"}


def test_the_papers_table_stands_beside_runs_of_its_kind(
    make: Callable[..., Outcome], command: Command, runs: list[Path], tmp_path: Path
) -> None:
    for run, generator, cache in zip(
        runs, ("deep_forcing", "self_forcing", "self_forcing"), ("deep_forcing", "self_forcing", "sink"), strict=True
    ):
        record = json.loads((run / "run.json").read_text())
        record["spec"] = {"generator": {"_target_": f"baselines.x.{generator}"}, "cache": {"name": cache}}
        (run / "run.json").write_text(json.dumps(record))
    make()
    (tmp_path / "answers-1.csv").write_text(answered(tmp_path / "study", 1))
    out = table(command, tmp_path).out
    assert out.count("paper") >= 1
    assert "| 85.9 | 86.9 | 84.8 | 87.9 |" in out
    assert "One rater gives no interval" in out
    other = table(command, tmp_path, "format=latex").out
    assert "85.9 & 86.9" in other


def changed(text: str, line: int, cell: int, value: str) -> str:
    rows = [row.split(",") for row in text.splitlines()]
    rows[line][cell] = value
    return "\n".join(map(",".join, rows)) + "\n"


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "another study": (lambda t: t.replace(t.split("\n")[1][:12], "0123456789ab"), "answers of another study"),
    "cut in a line": (lambda t: t[: len(t) // 2], "was cut off in line"),
    "cut after a line": (lambda t: "\n".join(t.split("\n")[:9]) + "\n", r"was cut off: it has 8 answers of 24"),
    "cut in its last number": (lambda t: t[: t.rstrip().rindex(",") + 1], "was cut off in line 25"),
    "empty": (lambda t: "", "is no file of answers"),
    "a web page": (lambda t: "<html>", "is no file of answers"),
    "a number that nobody has": (lambda t: changed(t, 3, 1, "77"), "line 4: rater '77' is not a number from 1 to 5"),
    "two raters": (lambda t: t + "\n".join(t.split("\n")[1:]).replace(",1,", ",2,", 1), r"line 26: rater 2 saw|second time"),
    "a choice that is none": (lambda t: changed(t, 2, 5, "C"), "line 3: choice 'C' is neither A nor B"),
    "an edited choice": (
        lambda t: changed(t, 2, 5, "B" if t.split("\n")[2].split(",")[5] == "A" else "A"), "line 3: video .* was not at",
    ),
    "a line twice": (lambda t: t + t.split("\n")[5] + "\n", "line 26: answers .* a second time"),
    "a formula": (lambda t: changed(t, 2, 7, "=1+1"), "line 3: seconds '=1"),
}  # fmt: skip


def test_files_that_cannot_be_counted(make: Callable[..., Outcome], command: Command, tmp_path: Path) -> None:
    """Each is a line; the others are counted, and the status says that not all were."""
    make()
    key = read_key(tmp_path / "study")
    bad, good = tmp_path / "a1.csv", tmp_path / "a2.csv"
    good.write_text(answered(tmp_path / "study", 2))
    for name, (spoil, says) in FAULTS.items():
        bad.write_text(spoil(answered(tmp_path / "study", 1)))
        gathered = gather([bad, good], key)
        assert [answers.rater for answers in gathered.answers] == [2], name
        (problem,) = gathered.problems
        assert re.search(rf"a1\.csv.*({says})", problem), (name, problem)
        assert "\n" not in problem
    status, out, err = table(command, tmp_path)
    assert (status, err.count("\n")) == (1, 1)
    assert "1 rater," in out
    good.unlink()
    status, out, err = table(command, tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 2)


def test_raters_who_answered_twice_and_who_did_not_look(
    make: Callable[..., Outcome], command: Command, tmp_path: Path
) -> None:
    make()
    folder = tmp_path / "study"
    (tmp_path / "a1.csv").write_text(answered(folder, 1))
    (tmp_path / "a2.csv").write_text(answered(folder, 2))
    (tmp_path / "a2 (1).csv").write_text(answered(folder, 2))
    status, out, err = table(command, tmp_path)
    assert status == 1
    assert "rater 2 is there 2 times with the same answers" in err
    assert "2 raters" in out
    (tmp_path / "a2 (1).csv").write_text(answered(folder, 2, lambda question, opponent: question != "motion"))
    status, out, err = table(command, tmp_path)
    assert (status, err.count("\n")) == (1, 1)
    assert "rater 2 answered twice, and differently" in err
    assert "1 rater," in out
    (tmp_path / "a2 (1).csv").unlink()
    (tmp_path / "a2.csv").write_text(answered(folder, 2, lambda question, opponent: opponent is not None))
    status, out, err = table(command, tmp_path)
    assert status == 0
    assert "rater 2 preferred a spoiled video" in err
    assert "Left out for preferring a spoiled video: 1 raters" in out


def test_a_damaged_key_is_one_line(make: Callable[..., Outcome], command: Command, tmp_path: Path) -> None:
    make()
    path = tmp_path / "study" / "key.json"
    whole = path.read_text()
    for text in (
        whole[:100],
        "[]",
        whole.replace('"questions"', '"qestions"'),
        whole.replace('"schema": 1', '"schema": 9'),
    ):
        path.write_text(text)
        status, out, err = table(command, tmp_path, f"answers={path}")
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert "key.json" in err
