"""The report: one page that holds videos, numbers and figures."""

from __future__ import annotations

import base64
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from urllib.parse import unquote

import av
import numpy as np
import pytest
from report_runs import FPS, PROMPTS, SECONDS, Page, Scores, add_scores, draw, four_runs, write_run

from deepforcing.video import VideoWriter
from eval.metrics.vbench.quality import RANGES
from experiments.results.runs import find_runs, read_runs

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def four(tmp_path: Path) -> list[Path]:
    return four_runs(tmp_path)


def test_page_holds_every_video_and_needs_no_network(tmp_path: Path, four: list[Path]) -> None:
    html, _ = draw(tmp_path / "out" / "page.html", *four)
    page = Page(html)
    links = [value for _, attributes in page.tags for key, value in attributes.items() if key in ("src", "href")]
    assert links[0] == "data:,"  # the icon that browsers would ask for
    assert all(link.startswith("#") or link.endswith("/run.json") for link in links[1:])  # in the page, and to records
    assert not re.findall(r"@import|url\((?!#c)|https?://|fetch\(", html)
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


def test_stars_are_holms_over_all_metrics_of_the_report(tmp_path: Path) -> None:
    """One difference that is told from zero alone, beside nineteen of nothing."""

    def series(shift: float, seed: int) -> dict[str, Callable[[int, float], float]]:
        rng = np.random.default_rng(seed)
        noise = rng.normal(0, 1, (20, 6, SECONDS + 1))
        noise -= noise.mean(1, keepdims=True)
        names = ["colour_drift", *(f"other{k:02}" for k in range(19))]
        return {
            n: lambda i, t, k=k: float(noise[k, i, int(t)]) + (shift if not k else 0.0) for k, n in enumerate(names)
        }

    prompts = tuple(f"prompt {i}" for i in range(6))
    runs = [write_run(tmp_path, f"run{k}", series(1.2 * k, k), prompts=prompts) for k in range(2)]
    html, _ = draw(tmp_path / "page.html", *runs, chief=("colour_drift",))
    lines = [line for line in csv.DictReader((tmp_path / "page.csv").open()) if line["label"] == "run1"]
    p = [float(line["versus_p"]) for line in lines]
    (drift,) = [line for line in lines if line["metric"] == "colour_drift"]
    assert (
        float(drift["versus_p"]) == min(p) < 0.05 < float(drift["versus_p_holm"]) == pytest.approx(min(1, 20 * min(p)))
    )
    part = html.split('id="paired"')[1].split("</table>")[0]
    assert "for all 20 comparisons of this kind in the report, 1 of them in this table" in part
    assert '<td class="num worse">' in part
    assert "<sup>*</sup>" not in part
    assert "all 40 drifts, or all 20 differences" in (tmp_path / "page.md").read_text(encoding="utf-8")


def test_bold_and_coloured_only_what_is_beyond_doubt(tmp_path: Path, four: list[Path]) -> None:
    plain, _, same, _ = four
    html, _ = draw(tmp_path / "all.html", *four)
    assert re.findall(r'class="best">([^<]+)<', html) == ["5.5"]  # not the real video, though it is lower
    doubt, _ = draw(tmp_path / "doubt.html", plain, same)
    assert 'class="best"' not in doubt
    assert not re.search(r'class="num (better|worse)"', doubt)
    assert 'class="num better"' in html
    row = re.search(r"<tr><th[^>]*>strange thing.*?</tr>", html, re.S)
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
    monkeypatch.setattr("experiments.page.preview.WIDTH", 8)
    for path in run.glob("samples/*.mp4"):
        with VideoWriter(path, 32, 32, fps=FPS) as writer:
            writer.write(np.random.default_rng(0).integers(0, 256, (SECONDS * FPS, 32, 32, 3), dtype=np.uint8))
    size = sum(path.stat().st_size for path in run.glob("samples/*.mp4"))
    html, _ = draw(tmp_path / "page.html", run, page_megabytes=(size - 1) * 4 / 3 / 1e6)
    page = Page(html)
    assert "smaller copies" in page.text
    for source in (name for name in page.scripts if name.startswith("video")):
        with av.open(io.BytesIO(base64.b64decode(page.scripts[source]))) as video:
            shapes = [(frame.width, frame.height) for frame in video.decode(video=0)]
        assert shapes == [(8, 8)] * SECONDS * FPS


def test_videos_that_do_not_fit_are_files_beside_the_page(tmp_path: Path) -> None:
    """The same bytes, found from the page's folder; an earlier page's stay; an interrupted page leaves the old one."""
    run = write_run(tmp_path / "runs", "large % a#b")
    out = tmp_path / "reports" / "my page.html"
    html, _ = draw(out, run, page_megabytes=0.0001)
    page = Page(html)
    assert "my page_videos/" in page.text
    links = [unquote(str(of["data-link"])) for tag, of in page.tags if tag == "video"]
    assert len(links) == 3
    originals = sorted(path.read_bytes() for path in run.glob("samples/*.mp4"))
    assert sorted((out.parent / link).read_bytes() for link in links) == originals
    assert not [name for name in page.scripts if name.startswith("video")]
    before = {path: path.read_bytes() for path in out.parent.rglob("*") if path.is_file()}
    other = write_run(tmp_path / "runs", "another")
    draw(out, run, other, page_megabytes=0.0001)
    assert all(path.read_bytes() == content for path, content in before.items() if path.suffix == ".mp4")


def test_one_prompt_says_nothing_of_intervals(tmp_path: Path) -> None:
    scores = {"colour_drift": lambda i, t: t, "sharpness": lambda i, t: 5.0 + t % 2}
    runs = [write_run(tmp_path, label, scores, prompts=("a red disc",)) for label in ("one", "two")]
    for run in runs:
        add_scores(run, "imaging_quality", "vbench_long", [(0, 2), (2, 4)], 0.6)
    html, terminal = draw(tmp_path / "page.html", *runs)
    for text in (Page(html).text, terminal, (tmp_path / "page.md").read_text(encoding="utf-8")):
        assert not re.search(r"(?<!ordering )\binterval", text.replace("95 % interval |", "")), text
        assert "excludes zero" not in text
    assert "nothing here can be told from chance" in Page(html).text
    assert 'id="bands"' not in html


def test_runs_of_a_sweep_stand_in_the_order_of_its_number(tmp_path: Path) -> None:
    runs = [write_run(tmp_path, f"deep_sink sink_frames={n}", {"colour_drift": lambda i, t: t}) for n in (6, 12, 0)]
    html, _ = draw(tmp_path / "page.html", *runs)
    assert re.findall(r'data-toggle="\d".*?</svg>([^<]+)<', html) == [f"deep_sink sink_frames={n}" for n in (0, 6, 12)]


def test_rows_beyond_the_limit_are_counted_and_selectable(tmp_path: Path) -> None:
    prompts = tuple(f"prompt number {i}" for i in range(7))
    run = write_run(tmp_path, "many", prompts=prompts)
    html, _ = draw(tmp_path / "page.html", run, max_rows=6)
    page = Page(html)
    assert "6 of 7 rows are in this page" in page.text
    options = [json.loads(a["value"] or "") for tag, a in page.tags if tag == "option"]
    assert options == [[0, 1, 2, 3], [4, 5], list(range(6)), *([i] for i in range(6))]
    assert json.loads(page.scripts["page-data"])["first_rows"] == [0, 1, 2, 3]


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
    with pytest.raises(ValueError, match=r"run\.json is not readable JSON"):
        read_runs(four)


@pytest.mark.slow
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
    better = part.split("better</a>")[1]
    values = re.findall(r'<td class="num">(?:<b>)?([^<]+)<', better)
    assert values[:9] == ["3", *["–"] * 5, "–", "63.50", "–"]  # prompts, then the eight in VBench's order
    assert "<b>+12.50</b></small><small>[+12.50, +12.50]<" in better
    assert "Protocol: vbench_long (clips of 2 s, encoded once more" in text
    moved = html.split('id="movement"')[1].split("</table>")[0]
    assert re.findall(r'<td class="num">([^<]+)<', moved) == ["0.501", "0.501", "0.260", "0.260"]
    assert "protocol=vbench_long" in text
    shown = terminal.split("vbench_long\n")[1]
    assert re.search(r"Imaging Quality.* 51\.00 +63\.50", shown)
    assert "| better | 3 | – | – | – | – | – | – | 63.50 | – |" in (tmp_path / "page.md").read_text(encoding="utf-8")
    lines = list(csv.DictReader((tmp_path / "page.csv").open(encoding="utf-8")))
    slopes = {line["metric"]: float(line["slope"]) for line in lines if line["label"] == "plain"}
    assert slopes["flow_magnitude"] < 0
    assert slopes["clip_drift"] == pytest.approx(0, abs=1e-9)


def test_quality_is_drawn_wherever_its_dimensions_are_and_says_what_it_rewards(tmp_path: Path) -> None:
    windows = [(float(t), t + 2.0) for t in range(0, SECONDS, 2)]
    runs = [write_run(tmp_path, label) for label in ("plain", "better")]
    for k, run in enumerate(runs):
        for name in RANGES:
            for protocol in ("windows", "vbench_long"):
                add_scores(run, name, protocol, windows, 0.8 + (k / 10 if name == "imaging_quality" else 0.0))
    html, terminal = draw(tmp_path / "page.html", *runs, window_seconds=2.0)
    assert "vbench quality" in re.findall(r"<figure.*?<b>([^<]+)<", html, re.S)
    assert html.split('id="vbench"')[1].count("VBench Quality") >= 1
    better = html.split('id="vbench"')[1].split("</table>")[0].split("better</a>")[1]
    assert f"<b>+{10 / 6.5:.2f}</b>" in better
    assert html.count("VBench Quality rewards standing still") == 2  # over time, and by protocol
    assert "VBench Quality rewards standing still" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert "VBench Quality" in terminal
