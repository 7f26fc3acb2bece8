"""What the report says in words: labels, configs, origin, speed, and what stands behind its numbers."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from report_runs import PROMPTS, Page, Scores, draw, four_runs, write_run

from experiments.results.runs import read_runs, with_common_samples
from experiments.results.speed import speed


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    return four_runs(tmp_path)


def test_configs_mark_what_differs(tmp_path: Path) -> None:
    specs = [{"cache": {"sink": sink, "window": 21}} for sink in (0, 10)]
    runs = [write_run(tmp_path, f"r{k}", spec=spec) for k, spec in enumerate(specs)]
    html, _ = draw(tmp_path / "page.html", *runs)
    assert re.findall(r"<mark>([^<]+)</mark>", html) == ["sink: 0", "sink: 10"]


def test_labels_tell_runs_of_a_sweep_apart(tmp_path: Path) -> None:
    paths = [
        write_run(tmp_path, "deep_sink", spec={"cache": {"_target_": f"x{s}", "sink_frames": s}}, name=f"deep-{s:08x}")
        for s in (18, 0, 3)
    ]
    labels = [run.label for run in read_runs(paths)]
    assert labels == ["deep_sink sink_frames=18", "deep_sink sink_frames=0", "deep_sink sink_frames=3"]


TINY = {"decoder": "taehv", "taehv": {"sha256": "ab" * 32, "dtype": None}}


def test_a_tiny_decoder_is_in_every_label(tmp_path: Path) -> None:
    """Pages, tables, csv, figures and the terminal; beside the same run through the VAE, and within a sweep."""
    score: Scores = {"colour_drift": lambda i, t: t + i}
    whole = write_run(tmp_path, "deep_sink", score)
    tiny = write_run(tmp_path, "deep_sink", score, name="deep_sink-00000001", model=TINY)
    other = write_run(tmp_path, "a_policy_with_a_long_name", score, model=TINY)
    names = ["deep_sink", "deep_sink (tiny decoder)", "a_policy_with_a_long_name (tiny decoder)"]
    assert [run.label for run in read_runs([whole, tiny, other])] == names
    html, terminal = draw(tmp_path / "page.html", whole, tiny, other)
    page = Page(html)
    assert json.loads(page.scripts["page-data"])["labels"] == names
    assert {line["label"] for line in csv.DictReader((tmp_path / "page.csv").open())} == set(names)
    for name in names:
        assert name in page.text
        assert f"| {name} |" in (tmp_path / "page.md").read_text()
    assert "deep_sink (tiny decoder)" in terminal
    ends = re.findall(r"<text[^>]*>([^<]*(?:deep|a_pol|tiny)[^<]*)<", html)
    assert sum("tiny" in text for text in ends) == 2 * len(ends) / 3 > 0
    sweep = [
        write_run(tmp_path, "deep", spec={"cache": {"sink": s}}, name=f"deep-{s:08x}", model=TINY if s else None)
        for s in (0, 3, 6)
    ]
    labels = [run.label for run in read_runs(sweep)]
    assert labels == ["deep", "deep sink=3 (tiny decoder)", "deep sink=6 (tiny decoder)"]


def test_origin_and_commands_are_complete(tmp_path: Path, four: list[Path]) -> None:
    text = Page(draw(tmp_path / "page.html", *four)[0]).text
    assert "c0ffeec0ffee + uncommitted changes" in text
    assert f"sha256 {'ab' * 32}" in text
    assert "python -m experiments.rollout label=plain" in text
    assert f"python -m experiments.report 'runs=[{four[0]}," in text
    assert "The tiny world is not Wan" in text


def test_speed_is_of_the_second_half(tmp_path: Path) -> None:
    (run,) = read_runs([write_run(tmp_path, "fast")])
    found = speed(run.samples, temporal_stride=4)
    assert found is not None
    assert found.chunk == pytest.approx(0.1)
    assert found.fps == pytest.approx(3 * 4 / 0.1)
    assert found.tokens == (102, 103)
    assert speed([{"chunks": []}], 4) is None


def test_common_samples_of_nothing_is_everything(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path, "a", prompts=PROMPTS[:1]), write_run(tmp_path, "b", prompts=PROMPTS[1:])])
    assert [len(run.samples) for run in with_common_samples(runs)] == [1, 2]


def test_numbers_say_how_many_prompts_and_windows_are_behind_them(tmp_path: Path) -> None:
    """A value that is undefined at first, and one that is lost: in the third prompt wholly, in the second by half."""
    lost: Callable[[int, float], float] = lambda i, t: float("nan") if t >= (12, 10, 7)[i] else 1.0 + i  # noqa: E731
    runs = [
        write_run(tmp_path, "whole", {"shape": lambda i, t: 0.5 * i, "presence": lambda i, t: 1.0}),
        write_run(tmp_path, "losing", {"shape": lost, "replay": lambda i, t: float("nan") if t < 5 else 0.0}),
    ]
    html, _ = draw(tmp_path / "page.html", *runs)
    lines = list(csv.DictReader((tmp_path / "page.csv").open(encoding="utf-8")))
    found = {(line["label"], line["metric"]): line for line in lines}
    replay, shape = found["losing", "replay"], found["losing", "shape"]
    assert [replay[f"{name}_n"] for name in ("first", "last", "drift")] == ["0", "3", "0"]
    assert replay["last_share"] == "1.0"
    assert [shape[f"{name}_n"] for name in ("first", "last", "drift", "versus")] == ["3", "2", "2", "2.0"]
    assert float(shape["last_share"]) == pytest.approx((5 + 3 + 0) / 15)
    text = Page(html).text
    assert text.count("53 % of windows") == 1
    assert "2 of 3 prompts" in text
    assert "shape counts only frames in which a sprite was found" in text
    markdown = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "shape counts only frames in which a sprite was found" in markdown
    assert [line.split("|")[-2].strip() for line in markdown.splitlines() if "| shape " in line] == [
        "",
        "53 % of windows",
    ]
    other, _ = draw(tmp_path / "other.html", write_run(tmp_path, "other", {"saturation": lambda i, t: 1.0}))
    assert "sprite was found" not in other
    assert "of windows" not in other


def test_page_says_which_intervals_it_has(tmp_path: Path) -> None:
    many = tuple(f"prompt number {i}" for i in range(17))
    for prompts in (many[:3], many):
        root = tmp_path / str(len(prompts))
        runs = [
            write_run(root, "a", {"colour_drift": lambda i, t: i + t}, prompts=prompts),
            write_run(root, "b", {"colour_drift": lambda i, t: i + 2 * t}, prompts=prompts),
        ]
        text = Page(draw(tmp_path / "page.html", *runs, max_rows=1)[0]).text
        assert f"95 % intervals over {len(prompts)} prompts" in text
        assert "Student's t, which takes prompts to be normally distributed" in text


def test_prompts_and_seeds_of_a_config_are_those_of_the_videos(tmp_path: Path) -> None:
    """A run that was extended keeps its first request in run.json."""
    runs = [
        write_run(tmp_path, "deep", spec={"prompts": asked, "seeds": [0, 7], "k": k}, name=f"deep-{k:08x}")
        for k, asked in enumerate(("demo", "one"))
    ]
    html, _ = draw(tmp_path / "page.html", *runs)
    yaml = [Page(block).text for block in re.findall(r'<pre class="yaml">.*?</pre>', html, re.S)]
    assert yaml == ["prompts: 3 seeds: 1 k: 0", "prompts: 3 seeds: 1 k: 1"]
    assert re.findall(r"<mark>([^<]+)</mark>", html) == ["k: 0", "k: 1"]
    assert "counted from the videos" in html
    assert [run.label for run in read_runs(runs)] == ["deep k=0", "deep k=1"]
