"""One table holds what is comparable and nothing else; its numbers are those of the statistics; its page leads to videos."""

from __future__ import annotations

import csv
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import numpy as np
import pandas as pd
import pytest
from commands import Command
from report_runs import Page
from scipy import stats
from scored_runs import PROMPTS, Values, scored_run

from eval.metrics.vbench.quality import RANGES, quality
from experiments.results.export import export
from experiments.results.runs import read_runs

TIDY = ["run", "metric", "mean", "low", "high", "difference", "difference_low", "difference_high", "n", "comparisons"]


def level(value: float, step: float = 0.1) -> Values:
    return {"sharpness": lambda i, seed, t: value + step * i + seed, "texture": lambda i, seed, t: value - step * i * i}


def drawn(command: Command, out: Path, *words: str) -> pd.DataFrame:
    found = command("leaderboard", *words, f"out={out / 'page.html'}", "columns=[texture:last,sharpness:last]")
    assert found.status == 0, found.err
    return pd.read_csv(out / "page.csv")


def test_numbers_are_those_of_the_statistics(command: Command, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).normal(0, 1, 5)
    base = scored_run(tmp_path, "base", level(2.0))
    other = scored_run(tmp_path, "other", {"sharpness": lambda i, seed, t: 2.5 + 0.1 * i + noise[i]})
    table = drawn(command, tmp_path, f"runs=[{other},{base}]", "baseline=base")
    assert list(table)[: len(TIDY)] == TIDY
    line = table[(table["run"] == other.name) & (table["metric"] == "sharpness")].iloc[0]
    wanted = stats.ttest_1samp(0.5 + noise, 0.0)
    low, high = wanted.confidence_interval()
    assert [line["difference"], line["difference_low"], line["difference_high"]] == pytest.approx(
        [0.5 + noise.mean(), low, high]
    )
    assert line["mean"] == pytest.approx(2.5 + 0.2 + noise.mean())
    assert line["difference_p"] == pytest.approx(wanted.pvalue)
    assert line["n"] == 5
    assert set(table["comparisons"]) == {1}, "only sharpness has two rows"
    assert table[table["run"] == base.name]["difference"].isna().all()


UNEQUAL: dict[str, dict[str, Any]] = {
    "prompts": {"prompts": PROMPTS[:4]},
    "seeds": {"seeds": (7,)},
    "lengths": {"seconds": 24},
    "weights": {"checkpoint": "cd" * 32},
    "sizes": {"size": 64},
}


@pytest.mark.parametrize("kind", UNEQUAL)
def test_what_is_not_comparable_stands_apart(kind: str, command: Command, tmp_path: Path) -> None:
    one = scored_run(tmp_path, "one", level(1.0))
    two = scored_run(tmp_path, "two", level(2.0))
    odd = scored_run(tmp_path, "odd", level(9.0), **UNEQUAL[kind])
    table = drawn(command, tmp_path, f"runs=[{one},{odd},{two}]", "baseline=one")
    tables = [set(rows["run"]) for _, rows in table.groupby("table")]
    assert sorted(tables, key=len) == [{odd.name}, {one.name, two.name}]
    assert table[table["run"] == odd.name]["difference"].isna().all()
    text = (tmp_path / "page.html").read_text()
    assert text.count("<section") == 2


def test_two_seeds_are_two_tables_and_nothing_is_averaged_over_them(command: Command, tmp_path: Path) -> None:
    runs = [scored_run(tmp_path, name, level(value), seeds=(3, 4)) for name, value in (("one", 1.0), ("two", 2.0))]
    table = drawn(command, tmp_path, f"runs=[{runs[0]},{runs[1]}]")
    sharpness = table[(table["metric"] == "sharpness") & (table["run"] == runs[0].name)]
    assert sharpness["seed"].tolist() == [3, 4]
    assert sharpness["mean"].tolist() == pytest.approx([1.2 + 3, 1.2 + 4])
    assert sharpness["n"].tolist() == [5, 5]


def test_protocols_stand_apart(command: Command, tmp_path: Path) -> None:
    dimension: Values = {"imaging_quality": lambda i, seed, t: 0.5 + i / 100}
    runs = [scored_run(tmp_path, name, dimension, protocol=name) for name in ("vbench_long", "vbench")]
    found = command(
        "leaderboard", f"runs=[{runs[0]},{runs[1]}]", f"out={tmp_path / 'page.html'}", "columns=[imaging_quality]"
    )
    assert found.status == 0, found.err
    table = pd.read_csv(tmp_path / "page.csv")
    assert table["table"].tolist() == [1, 2]
    assert table["mean"].tolist() == pytest.approx([0.52, 0.52]), "as measured, not x 100"


def test_other_networks_are_refused(command: Command, tmp_path: Path) -> None:
    runs = [scored_run(tmp_path, name, level(1.0), weights=name * 32) for name in ("ab", "cd")]
    found = command("leaderboard", f"runs=[{runs[0]},{runs[1]}]", f"out={tmp_path / 'page.html'}")
    assert found.status == 2
    assert "different weights files" in found.err
    assert not (tmp_path / "page.html").exists()


def test_quality_of_vbench_is_a_column_where_its_dimensions_are(command: Command, tmp_path: Path) -> None:
    values: Values = {name: (lambda i, seed, t, k=k: 0.8 + k / 100 + i / 1000) for k, name in enumerate(RANGES)}
    run = scored_run(tmp_path, "one", values, protocol="vbench_long")
    found = command("leaderboard", f"runs={run}", f"out={tmp_path / 'page.html'}")
    assert found.status == 0, found.err
    table = pd.read_csv(tmp_path / "page.csv").set_index("metric")
    wanted = quality({name: 0.8 + k / 100 + 0.002 for k, name in enumerate(RANGES)})
    assert table.loc["vbench_quality", "mean"] == pytest.approx(wanted)
    assert "rewards standing still" in (tmp_path / "page.html").read_text()


def test_a_run_scored_in_part_is_refused(command: Command, tmp_path: Path) -> None:
    run = scored_run(tmp_path, "one", level(1.0))
    file = run / "scores" / "texture@1.parquet"
    rows = pd.read_parquet(file)
    rows[rows["sample"] != rows["sample"].iloc[0]].to_parquet(file, index=False)
    found = command("leaderboard", f"runs={run}", f"out={tmp_path / 'page.html'}")
    assert found.status == 2
    assert "4 of 5 videos have scores of texture" in found.err


def test_runs_and_their_export_give_the_same_three_files(command: Command, tmp_path: Path) -> None:
    runs = [scored_run(tmp_path, name, level(value), seeds=(0, 1)) for name, value in (("one", 1 / 3), ("two", 2 / 7))]
    folder = export(read_runs(runs), tmp_path / "folder")
    for name, words in (("a", f"runs=[{runs[0]},{runs[1]}]"), ("b", f"folders={folder}")):
        (tmp_path / name).mkdir()
        drawn(command, tmp_path / name, words)
    for ending in ("csv", "md"):
        assert (tmp_path / "a" / f"page.{ending}").read_bytes() == (tmp_path / "b" / f"page.{ending}").read_bytes()


def test_costs_stand_beside_scores_and_are_no_comparison(command: Command, tmp_path: Path) -> None:
    runs = [
        scored_run(tmp_path, name, level(1.0), tokens=counts)
        for name, counts in (("one", (16, 32, 48)), ("two", (8, 8)))
    ]
    folder = export(read_runs(runs), tmp_path / "folder")
    for words in (f"runs=[{runs[0]},{runs[1]}]", f"folders={folder}"):
        table = drawn(command, tmp_path, words).set_index(["run", "metric"])
        assert [table.loc[(run.name, "kv_tokens"), "mean"] for run in runs] == [32, 8]
        assert table.xs("kv_tokens", level="metric")["difference"].isna().all()
        assert set(table["comparisons"]) == {2}
        assert "kv_stored" not in table.index.get_level_values("metric"), "no record says it"
    assert "KV stored" in (tmp_path / "page.md").read_text()


def test_labels_are_text_and_numbers_lead_to_videos(command: Command, tmp_path: Path) -> None:
    evil = "=cmd()|<script>alert(1)</script>"
    run = scored_run(tmp_path / "ru ns#1", "one", level(1.0), label=evil)
    other = scored_run(tmp_path / "ru ns#1", "two", level(0.5))
    video = run / "samples" / f"{sorted((run / 'samples').glob('*.json'))[0].stem}.mp4"
    video.write_bytes(b"video")
    (tmp_path / "pages").mkdir()
    drawn(command, tmp_path / "pages", f"runs=['{run}','{other}']")
    html, markdown = ((tmp_path / "pages" / f"page.{ending}").read_text() for ending in ("html", "md"))
    assert "<script>alert" not in html + markdown
    assert evil in Page(html).text
    with open(tmp_path / "pages" / "page.csv", newline="") as file:
        labels = {line["label"] for line in csv.DictReader(file)}
    assert f"'{evil}" in labels
    page = Page(html)
    ids = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    links = [str(attributes["href"]) for tag, attributes in page.tags if tag == "a"]
    inside = [link[1:] for link in links if link.startswith("#")]
    assert inside
    assert set(inside) <= ids
    files = [tmp_path / "pages" / unquote(link) for link in links if not link.startswith("#")]
    assert all(file.exists() for file in files)
    assert video.resolve() in {file.resolve() for file in files}
    assert not re.search(r'(src|href)="(https?:)?//', html), "the page is whole by itself"


@pytest.mark.parametrize("best_first", [True, False])
def test_rows_are_ranked_by_the_first_column(best_first: bool, command: Command, tmp_path: Path) -> None:
    metric = "texture" if best_first else "background_drift"  # more is better, less is better
    runs = [
        scored_run(tmp_path, f"r{k}", {metric: lambda i, seed, t, k=k: k + i / 9}) for k in (2, 3, 1)
    ]  # fmt: skip
    found = command("leaderboard", f"runs=[{','.join(map(str, runs))}]", f"out={tmp_path / 'page.html'}")
    assert found.status == 0, found.err
    means = pd.read_csv(tmp_path / "page.csv")["mean"].tolist()
    assert means == sorted(means, reverse=best_first)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no runs given"),
        (("runs=nowhere/*",), "no such run directory"),
        (("folders={tmp}/plain",), "no scored folder"),
        (("runs={one}", "baseline=nobody"), "baseline=nobody is not one of the rows: one"),
        (("runs={one}", "columns=[sharpnes]"), "no metric sharpnes"),
        (("runs={one}", "columns=[sharpness:median]"), "median is no number of a video"),
        (("runs={one}", "columns=[shape]"), "none of shape was scored"),
        (("runs={one}", "source=me"), "source="),
        (("runs={one}", "folders={folder}"), "two of the runs and folders are called one-"),
        (("scores={tmp}/none.csv",), "is no file"),
    ],
)
def test_bad_words_are_one_line(words: tuple[str, ...], said: str, command: Command, tmp_path: Path) -> None:
    one = scored_run(tmp_path, "one", level(1.0))
    folder = export(read_runs([one]), tmp_path / "folder")
    (tmp_path / "plain").mkdir()
    told = [word.format(tmp=tmp_path, one=one, folder=folder) for word in words]
    found = command("leaderboard", *told, f"out={tmp_path / 'page.html'}")
    assert found.status == 2
    assert len(found.err.splitlines()) == 1
    assert said in found.err
    assert not (tmp_path / "page.html").exists()
