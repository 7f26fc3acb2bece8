from __future__ import annotations

import base64
import csv
import hashlib
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from deepforcing.video import VideoWriter, sha256_file
from experiments import report
from experiments.figures.colours import DARK, LIGHT, inks
from experiments.tables.runs import find_runs, read_runs, with_common_samples
from experiments.tables.speed import speed

REPOSITORY = Path(__file__).parents[2]
SECONDS = 12
FPS = 2
PROMPTS = ("a red disc", "a blue ring", "a green cross")

Scores = Mapping[str, Callable[[int, float], float]]  # metric -> value of (prompt number, time)


def write_run(
    root: Path,
    label: str,
    scores: Scores | None = None,
    spec: dict[str, Any] | None = None,
    prompts: tuple[str, ...] = PROMPTS,
    name: str | None = None,
    model: dict[str, Any] | None = None,
) -> Path:
    """A small finished run: one video of 16 x 16 px per prompt, and scores in windows of 1 s."""
    run = root / (name or f"{label.replace(' ', '_')}-{hashlib.sha256(label.encode()).hexdigest()[:8]}")
    (run / "samples").mkdir(parents=True)
    record = {
        "label": label,
        "spec": {"train_seconds": 5.06, "cache": {"retention": {"sink_frames": 0}}} if spec is None else spec,
        "geometry": {"temporal_stride": 4},
        "pixel_scale": 8,
        "world": "tiny",
        "environment": {"git_commit": "c0ffee" * 6, "git_dirty": True, "packages": {"torch": "2.13.0"}, "threads": 2},
        "checkpoint": {"sha256": "ab" * 32},
        "command": f"python -m experiments.rollout label={label}",
        "identity": {"model": model or {}},
    }
    (run / "run.json").write_text(json.dumps({"schema": 1, "name": label, **record}))
    tables: dict[str, list[dict[str, Any]]] = {metric: [] for metric in scores or {}}
    for i, prompt in enumerate(prompts):
        prompt_id = hashlib.sha256(prompt.encode()).hexdigest()[:10]
        sample = f"{prompt_id}-s0"
        video = run / "samples" / f"{sample}.mp4"
        frames = np.full((SECONDS * FPS, 2, 2, 3), (30 * i + 20) % 256, np.uint8)
        with VideoWriter(video, 2, 2, fps=FPS, pixel_scale=8) as writer:
            writer.write(frames)
        digest = sha256_file(video)
        chunk = {"denoise_s": 0.05, "commit_s": 0.02, "decode_s": 0.01, "write_s": 0.02}
        chunks = [{**chunk, "tokens": 100 + k} for k in range(4)]
        shape = {"fps": FPS, "frames": SECONDS * FPS, "width": 16, "height": 16, "seconds": SECONDS, "chunk_frames": 3}
        identity = {"schema": 1, "sample": sample, "prompt_id": prompt_id, "prompt": prompt, "seed": 0}
        cost = {"wall_seconds": 1.5, "peak_memory_bytes": 3_000_000, "chunks": chunks}
        finished = {**identity, "video": video.name, "sha256": digest, **shape, **cost}
        video.with_suffix(".json").write_text(json.dumps(finished))
        for metric, value in (scores or {}).items():
            for t in range(SECONDS):
                row = {"run": run.name, "sample": sample, "metric": metric, "version": 1, "t_start": float(t)}
                row |= {"t_end": t + 1.0, "value": value(i, t), "video_sha256": digest, "window_seconds": 1.0}
                tables[metric].append(row)
    for metric, rows in tables.items():
        (run / "scores").mkdir(exist_ok=True)
        pd.DataFrame(rows).to_parquet(run / "scores" / f"{metric}@1.parquet", index=False)
    return run


def draw(out: Path, *runs: Path, **changes: Any) -> tuple[str, str]:
    """The page's text and what the terminal showed."""
    settings: dict[str, Any] = {
        "runs": tuple(str(run) for run in runs), "out": out, "title": None, "baseline": None, "ends": 5,
        "window_seconds": 1.0, "chief": (), "common": True, "max_rows": 12, "page_megabytes": 80,
    }  # fmt: skip
    text = io.StringIO()
    report.make(report.Report(**{**settings, **changes}), Console(file=text, width=100))
    return out.read_text(encoding="utf-8"), text.getvalue()


class Page(HTMLParser):
    """What a browser would make of the page: tags with attributes, visible text, script contents."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self.words: list[str] = []
        self.inside: str | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        self.inside = dict(attrs).get("id") or tag if tag in ("script", "style") else None

    def handle_endtag(self, tag: str) -> None:
        self.inside = None

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.scripts[self.inside] = self.scripts.get(self.inside, "") + data
        else:
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    """Baseline drifting by 1 a second in colour; `better` by half of it, exactly; `same` is the baseline with noise."""
    noise = np.random.default_rng(0).normal(0, 1.0, (3, SECONDS))
    return [
        write_run(tmp_path, "plain", {"colour_drift": lambda i, t: i + t, "strange_thing": lambda i, t: 7.0}),
        write_run(tmp_path, "better", {"colour_drift": lambda i, t: i + t / 2, "strange_thing": lambda i, t: 9.0 + i}),
        write_run(tmp_path, "same", {"colour_drift": lambda i, t: i + t + (noise - noise.mean(0))[i, int(t)]}),
        write_run(tmp_path, "real video", {"colour_drift": lambda i, t: 0.0}, spec={"generator": "renderer"}),
    ]


def test_page_holds_every_video_and_needs_no_network(tmp_path: Path, four: list[Path]) -> None:
    html, _ = draw(tmp_path / "out" / "page.html", *four)
    page = Page(html)
    links = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert links == ["data:,"]  # the icon that browsers would ask for
    assert not re.findall(r"@import|url\(|https?://|fetch\(", html)
    videos = [attributes["data-source"] for tag, attributes in page.tags if tag == "video"]
    inside = {base64.b64decode(page.scripts[source]) for source in videos if source}
    assert len(videos) == 12
    assert inside == {video.read_bytes() for run in four for video in (run / "samples").glob("*.mp4")}
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["page.csv", "page.html", "page.md"]


def test_numbers_are_those_of_the_scores(tmp_path: Path, four: list[Path]) -> None:
    html, terminal = draw(tmp_path / "page.html", *four)
    lines = list(csv.DictReader((tmp_path / "page.csv").open(encoding="utf-8")))
    found = {(line["label"], line["metric"]): line for line in lines}
    plain, better = found["plain", "colour_drift"], found["better", "colour_drift"]
    assert float(plain["first"]) == pytest.approx(1 + 2)  # mean over prompts of i, and of t = 0..4
    assert float(plain["last"]) == pytest.approx(1 + 9)
    assert float(plain["drift"]) == pytest.approx(7)
    assert plain["versus"] == ""
    for column in ("versus", "versus_low", "versus_high"):  # the same in every prompt: the interval has no width
        assert float(better[column]) == pytest.approx(-4.5)
    assert float(better["versus_drift"]) == pytest.approx(-3.5)
    assert "3.0→10.0" in terminal
    assert "+7.0" in terminal
    assert "| colour drift ↓ | better | 2.0 | **5.5** | +3.5 |" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "against plain in the last 5 s: better in colour drift −4.5 [−4.5, −4.5]" in Page(html).text


def test_bold_and_coloured_only_what_is_beyond_doubt(tmp_path: Path, four: list[Path]) -> None:
    plain, _, same, _ = four
    html, _ = draw(tmp_path / "all.html", *four)
    assert re.findall(r'class="best">([^<]+)<', html) == ["5.5"]  # not the real video, though it is lower
    doubt, _ = draw(tmp_path / "doubt.html", plain, same)
    assert 'class="best"' not in doubt
    assert not re.search(r'class="num (better|worse)"', doubt)
    assert 'class="num better"' in html
    row = re.search(r"<tr><th>strange thing.*?</tr>", html, re.S)
    assert row is not None  # no direction is known, so no verdict, although the interval excludes zero
    assert re.findall(r'<td class="num ([a-z]*)"><span class="pair"><span>([^<]+)<', row[0]) == [("different", "+3.0")]


def test_every_metric_is_drawn_known_or_not(tmp_path: Path, four: list[Path]) -> None:
    html, _ = draw(tmp_path / "page.html", *four, chief=("colour_drift",))
    figures = re.findall(r"<figure.*?</figure>", html, re.S)
    assert len(figures) == 2
    known, unknown = figures
    assert "lower is better" in known
    assert "CIELAB" in known
    assert "strange thing" in unknown
    assert "is better" not in unknown
    assert known.count('class="line"') == 4
    assert unknown.count('class="line"') == 2
    assert 'class="trained"' in known
    assert "<th>strange" not in html.split('id="table"')[1].split("</table>")[0]


def test_text_is_escaped_everywhere(tmp_path: Path) -> None:
    nasty = '</script><img src=x onerror="alert(1)"> & <u>"q\'</u>'
    spec = {"key<u>": nasty, "train_seconds": 5, "model": nasty}
    scores: Scores = {"m<u>": lambda i, t: t}
    runs = [
        write_run(tmp_path, f"{k}{nasty}", scores, {**spec, "k": nasty * k}, (nasty,), f"n-{k:08x}") for k in (1, 2)
    ]
    html, _ = draw(tmp_path / "page.html", *runs, title=f"title {nasty}")
    page = Page(html)
    assert not any(tag in ("u", "img") for tag, _ in page.tags)
    assert f"title {nasty}" in page.text
    assert page.text.count(nasty) > 8
    assert json.loads(page.scripts["page-data"])["labels"] == [f"1{nasty}", f"2{nasty}"]


def test_run_without_scores_is_shown_and_says_how_to_score(tmp_path: Path, four: list[Path]) -> None:
    bare = write_run(tmp_path, "bare")
    html, terminal = draw(tmp_path / "page.html", four[0], bare)
    command = f"python -m experiments.evaluate 'runs=[{bare}]'"
    assert command in terminal.replace("\n", " ")
    assert command in Page(html).text
    assert len([tag for tag, _ in Page(html).tags if tag == "video"]) == 6
    alone, _ = draw(tmp_path / "alone.html", bare)
    assert len([tag for tag, _ in Page(alone).tags if tag == "video"]) == 3
    assert not (tmp_path / "alone.csv").exists()


def test_only_common_samples_count_unless_told_otherwise(tmp_path: Path) -> None:
    full = write_run(tmp_path, "full", {"colour_drift": lambda i, t: 10.0 * i})
    less = write_run(tmp_path, "less", {"colour_drift": lambda i, t: 10.0 * i}, prompts=PROMPTS[:2])
    html, terminal = draw(tmp_path / "page.html", full, less)
    assert "different videos (2 to 3 each): used here are the 2" in terminal.replace("\n", " ")
    lines = {line["label"]: line for line in csv.DictReader((tmp_path / "page.csv").open())}
    assert float(lines["full"]["last"]) == float(lines["less"]["last"]) == 5
    everything, _ = draw(tmp_path / "all.html", full, less, common=False)
    lines = {line["label"]: line for line in csv.DictReader((tmp_path / "all.csv").open())}
    assert float(lines["full"]["last"]) == 10
    assert "not rolled out" in everything
    assert "not rolled out" not in html


def test_unfinished_run_does_not_empty_the_report(tmp_path: Path, four: list[Path]) -> None:
    empty = write_run(tmp_path, "begun", prompts=())
    html, terminal = draw(tmp_path / "page.html", four[0], empty)
    assert "No finished video yet in begun" in terminal
    assert len([tag for tag, _ in Page(html).tags if tag == "video"]) == 3


def test_large_videos_are_put_in_as_smaller_copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = write_run(tmp_path, "large")
    monkeypatch.setattr("experiments.figures.preview.WIDTH", 8)
    html, _ = draw(tmp_path / "page.html", run, page_megabytes=0.0001)
    page = Page(html)
    assert "smaller copies" in page.text
    for source in (name for name in page.scripts if name.startswith("video")):
        with av.open(io.BytesIO(base64.b64decode(page.scripts[source]))) as video:
            shapes = [(frame.width, frame.height) for frame in video.decode(video=0)]
        assert shapes == [(8, 8)] * SECONDS * FPS


def test_rows_beyond_the_limit_are_counted_and_selectable(tmp_path: Path) -> None:
    prompts = tuple(f"prompt number {i}" for i in range(7))
    run = write_run(tmp_path, "many", prompts=prompts)
    html, _ = draw(tmp_path / "page.html", run, max_rows=6)
    page = Page(html)
    assert "6 of 7 rows are in this page" in page.text
    options = [json.loads(a["value"] or "") for tag, a in page.tags if tag == "option"]
    assert options == [[0, 1, 2, 3], [4, 5], list(range(6)), *([i] for i in range(6))]
    assert json.loads(page.scripts["page-data"])["first_rows"] == [0, 1, 2, 3]


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
    ramp = inks(labels, [False] * 3)
    brightness = [sum(bytes.fromhex(ink.light[1:])) for ink in ramp]
    assert brightness[1] < brightness[2] < brightness[0]  # in the order of the number, not of the runs
    plain = inks(["a", "b", "real video"], [False, False, True])
    assert [ink.light for ink in plain[:2]] == list(LIGHT[:2])
    assert plain[2].dash != "none"
    assert plain[2].light not in LIGHT
    many = inks([f"r{chr(97 + i)}" for i in range(20)], [False] * 20)
    assert len({(ink.light, ink.dash) for ink in many}) == 20
    assert len(LIGHT) == len(DARK)


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
    ends = re.findall(r'<text class="label"[^>]*>([^<]+)<', html)
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


def test_mistakes_are_told_in_one_line(tmp_path: Path, four: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"no such run directory: .*nowhere"):
        find_runs([str(four[0]), str(tmp_path / "nowhere")])
    with pytest.raises(ValueError, match="it holds 4 runs, write"):
        find_runs([str(tmp_path)])
    found = find_runs([str(four[2]), str(tmp_path / "*-*")])
    assert (found[0], len(found)) == (four[2], 4)  # in the order given, each once
    twin = write_run(tmp_path / "copy", "plain")
    with pytest.raises(ValueError, match="two of the runs are called"):
        read_runs([four[0], twin])
    with pytest.raises(ValueError, match="baseline=nobody is none of the runs: plain, better"):
        draw(tmp_path / "page.html", *four[:2], baseline="nobody")
    with pytest.raises(ValueError, match=r"must end in \.html"):
        draw(tmp_path / "page.txt", four[0])
    with pytest.raises(ValueError, match="ends=0 must be a positive number"):
        draw(tmp_path / "page.html", four[0], ends=0)
    (four[0] / "run.json").write_text("{")
    with pytest.raises(ValueError, match=r"run\.json cannot be read as JSON"):
        read_runs(four)


def test_common_samples_of_nothing_is_everything(tmp_path: Path) -> None:
    runs = read_runs([write_run(tmp_path, "a", prompts=PROMPTS[:1]), write_run(tmp_path, "b", prompts=PROMPTS[1:])])
    assert [len(run.samples) for run in with_common_samples(runs)] == [1, 2]


def test_command_line(tmp_path: Path, four: list[Path]) -> None:
    """The real command: page and table, a clean folder, status 2 and one line for a wrong directory."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "experiments.report", *arguments]
        return subprocess.run(command, cwd=work, env=environment, capture_output=True, text=True, timeout=120)

    work = tmp_path / "work"
    work.mkdir()
    good = run(f"runs=[{four[0]},{four[1]}]", "out=page/x.html", "window_seconds=1")
    assert good.returncode == 0, good.stderr
    assert f"report: {work}/page/x.html" in good.stdout
    assert sorted(str(p.relative_to(work)) for p in work.rglob("*")) == [
        "page",
        "page/x.csv",
        "page/x.html",
        "page/x.md",
    ]
    bad = run("runs=runs/nothing-*")
    assert bad.returncode == 2
    assert bad.stderr.count("\n") == 1
    assert "no such run directory: runs/nothing-*" in bad.stderr


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
    for prompts, kind in ((many[:3], "(Student's t) over 3 prompts"), (many, "(bootstrap) over 17 prompts")):
        root = tmp_path / str(len(prompts))
        runs = [
            write_run(root, "a", {"colour_drift": lambda i, t: i + t}, prompts=prompts),
            write_run(root, "b", {"colour_drift": lambda i, t: i + 2 * t}, prompts=prompts),
        ]
        text = Page(draw(tmp_path / "page.html", *runs, max_rows=1)[0]).text
        assert f"95 % intervals {kind}" in text
        assert "Student's t with fewer than 16 prompts" in text


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


def add_scores(run: Path, metric: str, protocol: str, spans: list[tuple[float, float]], value: float) -> None:
    """Scores of every video of a run: `value` in every span, and a hundredth more a prompt."""
    records = [json.loads(path.read_text()) for path in sorted((run / "samples").glob("*.json"))]
    rows = [
        {"run": run.name, "sample": record["sample"], "metric": metric, "version": 1, "protocol": protocol}
        | {"t_start": start, "t_end": end, "value": value + i / 100, "video_sha256": record["sha256"]}
        | {"weights_sha256": "", "window_seconds": 2.0 if protocol == "windows" else 0.0, "frames": 4}
        for i, record in enumerate(records)
        for start, end in spans
    ]
    path = run / "scores" / f"{metric}@1.parquet"
    path.parent.mkdir(exist_ok=True)
    old = [pd.read_parquet(path)] if path.exists() else []
    pd.concat([*old, pd.DataFrame(rows)]).to_parquet(path, index=False)


def test_vbench_is_drawn_over_time_and_printed_by_protocol(tmp_path: Path) -> None:
    windows = [(float(t), t + 2.0) for t in range(0, SECONDS, 2)]
    runs = [write_run(tmp_path, label) for label in ("plain", "better")]
    for k, run in enumerate(runs):
        add_scores(run, "imaging_quality", "windows", windows, 0.5)
        add_scores(run, "imaging_quality", "vbench_long", windows, 0.5 + k / 8)
        add_scores(run, "clip_drift", "windows", windows, 0.1)
        add_scores(run, "clip_drift_first_last", "windows", [(0.0, float(SECONDS))], 0.25)
        add_scores(run, "flow_magnitude", "windows", windows[:3], 4.0)
        add_scores(run, "flow_magnitude", "windows", windows[3:], 2.0)
        add_scores(run, "saturation", "windows", windows, float("nan"))
    add_scores(runs[0], "aesthetic_quality", "vbench_long", windows, 0.4)
    html, terminal = draw(tmp_path / "page.html", *runs, window_seconds=2.0)
    text = Page(html).text
    assert re.findall(r"<figure.*?<b>([^<]+)<", html, re.S) == ["imaging quality", "flow magnitude", "clip drift"]
    assert "without any value: saturation" in text
    part = html.split('id="vbench"')[1].split("</table>")[0]
    better = part.split("better</span>")[1]
    values = re.findall(r'<td class="num">(?:<b>)?([^<]+)<', better)
    assert values == ["3", *["–"] * 5, "–", "63.50", "–"]  # prompts, then the eight in VBench's order
    assert "<b>+12.50</b></small><small>[+12.50, +12.50]<" in better
    assert "Protocol: vbench_long (clips of 2 s, encoded once more" in text
    moved = html.split('id="movement"')[1].split("</table>")[0]
    assert re.findall(r'<td class="num">([^<]+)<', moved) == ["0.501", "0.501", "0.260", "0.260"]
    assert "protocol=vbench_long" in text
    assert re.search(r"Imaging Quality +51\.00 +63\.50", terminal)
    assert "| better | 3 | – | – | – | – | – | – | 63.50 | – |" in (tmp_path / "page.md").read_text(encoding="utf-8")
    lines = list(csv.DictReader((tmp_path / "page.csv").open(encoding="utf-8")))
    slopes = {line["metric"]: float(line["slope"]) for line in lines if line["label"] == "plain"}
    assert slopes["flow_magnitude"] < 0
    assert slopes["clip_drift"] == pytest.approx(0, abs=1e-9)
