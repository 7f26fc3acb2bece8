"""Scores that others published: read as they are, checked line by line, marked, and never in a table with our own."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from commands import Command
from scipy import stats
from scored_runs import scored_run

from experiments.results.foreign import read_foreign

SEVEN = (
    "dynamic_degree", "motion_smoothness", "temporal_flickering", "imaging_quality", "aesthetic_quality",
    "subject_consistency", "background_consistency",
)  # fmt: skip
HEAD = ["label", "seed", "prompt", "quality", *SEVEN, "subject_clip2clip"]
# Of VBench's scripts/constant.py: what Quality takes for least and greatest.
LEAST = {
    "subject_consistency": 0.1462,
    "background_consistency": 0.2615,
    "temporal_flickering": 0.6293,
    "motion_smoothness": 0.706,
}
GREATEST = {"motion_smoothness": 0.9975}


def line(label: str, seed: int, prompt: object, rng: np.random.Generator) -> list[object]:
    values = {name: float(rng.uniform(0.75, 0.99)) for name in SEVEN}
    parts = [
        (values[name] - LEAST.get(name, 0.0))
        / (GREATEST.get(name, 1.0) - LEAST.get(name, 0.0))
        * (0.5 if name == SEVEN[0] else 1)
        for name in SEVEN
    ]
    return [label, seed, prompt, sum(parts) / 6.5, *values.values(), float(rng.uniform(0.5, 0.9))]


def lines(seed: int = 0) -> list[list[object]]:
    """sf and sf+rule with seeds 0 and 1, 20 prompts; other with seed 0 and 12 prompts."""
    rng = np.random.default_rng(seed)
    found = [line(label, s, p, rng) for label in ("sf", "sf+rule") for s in (0, 1) for p in range(20)]
    return found + [line("other", 0, p, rng) for p in range(12)]


def write(path: Path, rows: list[list[object]], head: list[str] = HEAD) -> Path:
    with open(path, "w", newline="") as file:
        csv.writer(file).writerows([head, *rows])
    return path


def test_means_and_paired_differences_by_seed(command: Command, tmp_path: Path) -> None:
    rows = lines()
    file = write(tmp_path / "scores.csv", rows)
    found = command(
        "leaderboard", f"scores={file}", "source='Somebody, 2026'", "baseline=sf", f"out={tmp_path / 'page.html'}"
    )
    assert found.status == 0, found.err
    table = pd.read_csv(tmp_path / "page.csv")
    assert [(set(part["run"]), set(part["seed"])) for _, part in table.groupby("table")] == [
        ({"sf", "sf+rule"}, {0}), ({"other"}, {0}), ({"sf", "sf+rule"}, {1})
    ]  # fmt: skip
    every = pd.DataFrame(rows, columns=HEAD)
    for seed in (0, 1):
        for metric in ("quality", "imaging_quality", "subject_clip2clip"):
            of = {
                name: every[(every["label"] == name) & (every["seed"] == seed)][metric].to_numpy(float)
                for name in ("sf", "sf+rule")
            }
            told = table[(table["run"] == "sf+rule") & (table["metric"] == metric) & (table["seed"] == seed)].iloc[0]
            wanted = stats.ttest_rel(of["sf+rule"], of["sf"])
            assert told["mean"] == pytest.approx(of["sf+rule"].mean(), abs=1e-12)
            assert told["difference"] == pytest.approx((of["sf+rule"] - of["sf"]).mean(), abs=1e-12)
            assert [told["difference_low"], told["difference_high"]] == pytest.approx([*wanted.confidence_interval()])
            assert told["n"] == 20
            assert told["comparisons"] == 9
    page = (tmp_path / "page.html").read_text()
    assert "Somebody, 2026" in page
    assert hashlib.sha256(file.read_bytes()).hexdigest() in page
    assert "all 92 lines that have both" in page
    assert "Foreign: " in (tmp_path / "page.md").read_text()


def test_foreign_scores_never_share_a_table_with_ours(command: Command, tmp_path: Path) -> None:
    file = write(tmp_path / "scores.csv", lines())
    run = scored_run(tmp_path, "sf", {"imaging_quality": lambda i, seed, t: 0.6}, protocol="vbench_long")
    found = command("leaderboard", f"runs={run}", f"scores={file}", "baseline=sf", f"out={tmp_path / 'page.html'}")
    assert found.status == 0, found.err
    table = pd.read_csv(tmp_path / "page.csv")
    for _, part in table.groupby("table"):
        assert part["foreign"].nunique(dropna=False) == 1
    assert table["foreign"].isna().sum() == 1


def test_cells_may_be_empty_and_prompts_texts_with_numbers(tmp_path: Path) -> None:
    head = ["label", "seed", "index", "prompt", "subject_consistency", "object_class"]
    rows: list[list[object]] = [
        ["a", 0, 0, 'a "stop" sign, still', "", 0.5],
        ["a", 0, 1, 'a "stop" sign, still', 0.25, ""],
    ]
    found = read_foreign(write(tmp_path / "full.csv", rows, head), None)
    assert found.metrics == ("subject_consistency", "object_class")
    assert len(found.prompts["a", 0]) == 2
    assert found.table["value"].notna().sum() == 2
    assert (found.checked, found.unchecked) == (0, 0)


Edit = Callable[[list[list[object]]], object]


def put(row: int, column: str, value: object) -> Edit:
    return lambda rows: rows[row].__setitem__(HEAD.index(column), value)


@pytest.mark.parametrize(
    ("edit", "said"),
    [
        (put(4, "imaging_quality", 1.01), "line 6: imaging_quality is '1.01'"),
        (put(4, "imaging_quality", "-0.1"), "line 6: imaging_quality is '-0.1'"),
        (put(4, "imaging_quality", "nan"), "line 6: imaging_quality is 'nan'"),
        (put(4, "imaging_quality", "good"), "line 6: imaging_quality is 'good'"),
        (put(0, "quality", 0.5), "line 2: quality is 0.5, and 0."),
        (put(7, "seed", "one"), "line 9: seed 'one'"),
        (put(7, "seed", "-1"), "line 9: seed '-1'"),
        (put(7, "label", ""), "line 9: label is empty"),
        (put(7, "prompt", "a\x1b[2Jb"), "line 9: prompt has the control character"),
        (put(1, "prompt", 0), "line 3: label sf, seed 0, prompt 0 is in line 2 too"),
        (lambda rows: rows[3].pop(), "line 5: has 11 cells, the first line 12"),
        (lambda rows: rows.clear(), "holds no scores"),
    ],
)
def test_bad_rows_are_one_line_with_their_number(edit: Edit, said: str, command: Command, tmp_path: Path) -> None:
    rows = lines()
    edit(rows)
    file = write(tmp_path / "scores.csv", rows)
    found = command("leaderboard", f"scores={file}", f"out={tmp_path / 'page.html'}")
    assert found.status == 2
    assert len(found.err.splitlines()) == 1
    assert said in found.err
    assert not (tmp_path / "page.html").exists()


def test_quality_may_be_off_by_a_millionth_and_no_more(tmp_path: Path) -> None:
    rows = lines()
    exact = float(str(rows[0][3]))
    rows[0][3] = exact + 0.9e-6
    assert read_foreign(write(tmp_path / "a.csv", rows), None).checked == 92
    rows[0][3] = exact + 1.1e-6
    with pytest.raises(ValueError, match="follows from its seven dimensions"):
        read_foreign(write(tmp_path / "b.csv", rows), None)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "holds no scores"),
        (b"label,prompt,quality\n", "line 1: no column seed"),
        (b"label,seed,prompt\n", "line 1: no column of a metric"),
        (b"label,seed,prompt,x,x\n", "line 1: the column 'x' is there twice"),
        (b"label,seed,prompt,x\na,0,0,0.5\nb,0,\xff,0.5\n", "line 3: is not UTF-8"),
        (b'label,seed,prompt,x\na,0,"0,0.5\n', "line 2"),
    ],
)
def test_files_that_are_no_such_table(data: bytes, said: str, tmp_path: Path) -> None:
    (tmp_path / "scores.csv").write_bytes(data)
    with pytest.raises(ValueError, match=said):
        read_foreign(tmp_path / "scores.csv", None)
