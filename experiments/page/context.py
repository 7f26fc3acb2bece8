"""The report page: from runs and their tidy score table to one self-contained HTML file.

Everything is inside the file: style, script, curves (SVG) and videos (base64), so that it can be mailed, archived
with a paper and opened without a network. Text from prompts and configs is escaped by jinja2.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

from eval.metrics import DIMENSIONS, OVER_TIME
from eval.metrics.vbench.quality import QUALITY, REWARD
from eval.stats.means import curves
from experiments.figures.drift import Curve, Panel, panels
from experiments.figures.style import inks
from experiments.page import sentences
from experiments.page.curves import drift_svg
from experiments.page.findings import findings, findings_notes, movement_note, survivors
from experiments.page.preview import preview
from experiments.page.tables import compared, drawn, first_and_last, movement, paired
from experiments.results.configs import difference_rows, differing, yaml_lines
from experiments.results.runs import Run
from experiments.results.speed import PARTS, speed
from experiments.tables.cost import cost_table
from experiments.tables.estimate import number
from experiments.tables.layout import means, with_differences
from experiments.tables.over_time import OverTime
from experiments.tables.table import Column, Table
from experiments.tables.words import plural

HERE = Path(__file__).parent
ROWS_AT_ONCE = 4  # prompts on screen at first; a selector shows the others


@dataclass(frozen=True)
class Options:
    """What the page shows beside the numbers.

    baseline: index of the run that differences are taken from. ends: seconds called "first" and "last". max_rows: rows
    of videos (prompt and seed) in the page. page_megabytes: videos that would make it larger are made smaller.
    problems: what is missing, from sentences.problems. commands: the lines that make these runs and this page again.
    """

    title: str | None
    baseline: int
    ends: float
    max_rows: int
    page_megabytes: float
    problems: tuple[dict[str, str], ...]
    commands: tuple[str, ...]


@dataclass(frozen=True)
class Numbers:
    """What was measured. windows: tidy table, of which the curves are. over_time: its numbers; chief: metrics of the short
    tables. silent: titles of metrics without any value. both_ends: see tables.over_time. vbench: a table per protocol of
    VBench's that has scores.
    """

    windows: pd.DataFrame
    over_time: OverTime
    chief: Sequence[str]
    silent: Sequence[str]
    both_ends: Table
    vbench: Sequence[Table]


def page_html(runs: Sequence[Run], numbers: Numbers, options: Options) -> str:
    """The page as text."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    css, js = (Markup((HERE / name).read_text(encoding="utf-8")) for name in ("style.css", "script.js"))
    page = page_context(runs, numbers, options)
    return environment.get_template("page.html.j2").render(page=page, css=css, js=js)


def page_context(runs: Sequence[Run], numbers: Numbers, options: Options) -> dict[str, Any]:
    """Everything the template reads."""
    table, of_time = numbers.windows, numbers.over_time
    short = [metric for metric in of_time.metrics if metric in numbers.chief]
    labels = [run.label for run in runs]
    ink = inks(labels, [run.is_real for run in runs])
    videos = video_grid(runs, options)
    seconds = max([videos["video_seconds"], *(float(table["t_end"].max()) for _ in range(1) if len(table))])
    lengths = {run.train_seconds for run in runs if run.train_seconds}
    train = lengths.pop() if len(lengths) == 1 else None
    drawn_panels = panels(runs, curves(table), of_time.metrics, seconds)
    specs = [run.config for run in runs]
    marked = differing([run.config for run in runs if not run.is_real])  # a renderer shares no key with a model
    return {
        "title": options.title or sentences.title(runs, seconds),
        "lead": sentences.lead(runs, train, len(of_time.metrics)),
        "problems": options.problems,
        "labels": labels,
        "inks": ink,
        "ends": f"{options.ends:g}",
        "seconds": round(seconds, 4),
        "clock": f"{int(seconds // 60)}:{seconds % 60:04.1f}",
        "train_share": round(100 * train / seconds, 2) if train and train < seconds else None,
        "groups": _groups([_panel(i, metric, drawn_panels[i]) for i, metric in enumerate(of_time.metrics)]),
        "curves_note": sentences.curves_note(numbers.silent),
        "vbench": [
            {"title": of.columns[0].protocol, "table": drawn(with_differences(of), runs), "note": " ".join(of.notes)}
            for of in numbers.vbench
        ],
        "table": drawn(first_and_last(of_time, runs, short), runs) if short else "",
        "table_note": f"Means over prompts: first {options.ends:g} s → last {options.ends:g} s of each video; below, "
        "the drift (last minus first) with its 95 % interval over prompts. Bold: better in the last seconds than every "
        "other run (real video aside), each paired 95 % interval excluding zero. *: the drift is also told from zero after "
        f"Holm's adjustment for all {of_time.tables['drift'].tests} drifts of this report.",
        "table_caveats": survivors(of_time, short, options.ends),
        **videos,
        **differences(of_time, runs, short, options.baseline, options.ends),
        "movement": movement(of_time, numbers.both_ends, runs, options.ends),
        "movement_note": movement_note(of_time),
        **_speed(runs),
        "differences": difference_rows(specs, marked),
        "configs": [
            {"path": str(run.path / "run.json"), "lines": list(yaml_lines(spec, marked))}
            for run, spec in zip(runs, specs, strict=True)
        ],
        "configs_note": "prompts and seeds are how many are behind this page, counted from the videos. All else is from "
        "run.json, which keeps what a run's first command asked for: a run that was extended since has more videos than "
        "its command below would make.",
        "origins": sentences.origins(runs),
        "commands": options.commands,
        "caveats": sentences.caveats(runs, bool(of_time.metrics), bool(numbers.vbench)),
        "data": {
            "seconds": round(seconds, 4),
            "labels": labels,
            "first_rows": list(range(min(ROWS_AT_ONCE, len(videos["rows"])))),
            "curves": [[_curve_data(curve) for curve in panel.curves] for panel in drawn_panels],
        },
    }


def differences(
    numbers: OverTime, runs: Sequence[Run], metrics: Sequence[str], base: int, ends: float
) -> dict[str, Any]:
    """Differences from the baseline, tables and sentences; without another run to compare with, empty."""
    baseline, others = runs[base], compared(numbers, runs, metrics)
    context: dict[str, Any] = {"baseline": base, "paired": [], "paired_note": "", "findings": [], "findings_notes": []}
    if not others:
        return context
    prompts = len({sample["prompt_id"] for sample in baseline.samples})
    for title, which in ((f"In the last {ends:g} s", "last"), ("In drift (last minus first)", "drift")):
        table = numbers.tables[which]
        here = sum(math.isfinite(numbers.difference(which, run.name, metric).p) for run in others for metric in metrics)
        note = f"*: also told from zero after Holm's adjustment for all {plural(table.comparisons, 'comparison')} of this kind "
        note += f"in the report, {here} of them in this table."
        grid = paired(numbers, which, others, metrics, prompts)
        context["paired"].append({"title": title, "table": drawn(grid, runs), "note": note})
    context["paired_note"] = (
        f"Run minus {baseline.label}, paired by prompt and seed, with 95 % intervals. Green: better, the interval "
        "excluding zero; red: worse, likewise; no colour: the interval includes zero, or neither direction is better. "
        "Marks of one line share a scale."
    )
    context["findings"] = findings(numbers, runs, metrics, base, ends)
    context["findings_notes"] = findings_notes(numbers, metrics)
    return context


def video_grid(runs: Sequence[Run], options: Options) -> dict[str, Any]:
    """Rows of prompts, columns of runs, the videos as base64; smaller copies where the page would grow too large."""
    by_key = [{(s["prompt_id"], s["seed"]): s for s in run.samples} for run in runs]
    keys = sorted({key for one in by_key for key in one}, key=lambda key: (-sum(key in one for one in by_key), key))
    chosen = keys[: options.max_rows]
    seeds = {seed for _, seed in keys}
    videos = {
        (i, key): runs[i].path / "samples" / str(one[key]["video"])
        for i, one in enumerate(by_key)
        for key in chosen
        if key in one and (runs[i].path / "samples" / str(one[key]["video"])).is_file()
    }
    too_large = sum(path.stat().st_size for path in videos.values()) * 4 / 3 > options.page_megabytes * 1e6
    rows: list[dict[str, Any]] = []
    sources: list[dict[str, str]] = []
    for key in chosen:
        sample = next(one[key] for one in by_key if key in one)
        cells = []
        for i, run in enumerate(runs):
            path = videos.get((i, key))
            if path is None:
                cells.append(
                    {"source": "", "title": "not rolled out" if key not in by_key[i] else "video file missing"}
                )
                continue
            data = preview(path) if too_large else path.read_bytes()
            sources.append({"id": f"video{len(sources)}", "base64": base64.b64encode(data).decode("ascii")})
            cells.append({"source": sources[-1]["id"], "title": f"{run.label}: {sample['prompt']} (seed {key[1]})"})
        note = f"seed {key[1]}" if len(seeds) > 1 else ""
        rows.append({"prompt": sample["prompt"], "note": note, "cells": cells})
    shown = [by_key[i][key] for i, key in videos]
    width, height = next(((s["width"], s["height"]) for s in shown if s.get("width") and s.get("height")), (1, 1))
    pixels = any((run.record.get("pixel_scale") or 1) > 1 for run in runs)
    note = "One row per prompt, one column per run; one clock moves them all."
    if len(keys) > len(chosen):
        note += f" {len(chosen)} of {plural(len(keys), 'row')} are in this page; the numbers below use all."
    if too_large:
        note += " Shown as smaller copies in coarser quality to keep the page light; numbers are of the originals."
    return {
        "rows": rows,
        "sources": sources,
        "video_seconds": max((float(s["frames"]) / float(s["fps"]) for s in shown), default=0.0),
        "videos_note": note,
        "choices": _choices(rows),
        "aspect": f"{width} / {height}",
        "pixels": pixels,
        "cell": 116 if width <= 1.2 * height else 148,
        "widest": min(240, max(176, 720 // len(runs))) if width <= 1.2 * height else 340,
    }


def _choices(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The prompt selector, where there are more rows than are on screen at first."""
    if len(rows) <= ROWS_AT_ONCE:
        return []
    groups = [list(range(a, min(a + ROWS_AT_ONCE, len(rows)))) for a in range(0, len(rows), ROWS_AT_ONCE)]
    choices = [(g, f"rows {g[0] + 1} to {g[-1] + 1}" if len(g) > 1 else f"row {g[0] + 1}") for g in groups]
    choices.append((list(range(len(rows))), f"all {len(rows)} rows"))
    choices += [([i], f"{i + 1}: {row['prompt'][:60]} {row['note']}".strip()) for i, row in enumerate(rows)]
    return [{"rows": json.dumps(group), "text": text} for group, text in choices]


def _groups(panels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The panels under headings, in their order; no heading where there is one group alone."""
    of_vbench, of_features = ({v.name for m in metrics for v in m.values} for metrics in (DIMENSIONS, OVER_TIME))
    of_vbench.add(QUALITY.name)
    over_windows = sentences.OVER_WINDOWS
    if QUALITY.name in {panel["metric"] for panel in panels}:
        over_windows += f" {REWARD}"
    parts: list[tuple[str, str, list[dict[str, Any]]]] = [
        ("From pixels alone", "", [p for p in panels if p["metric"] not in of_vbench | of_features]),
        ("VBench's dimensions over time", over_windows, [p for p in panels if p["metric"] in of_vbench]),
        ("Motion, drift and repetition by RAFT and CLIP", "", [p for p in panels if p["metric"] in of_features]),
    ]
    found = [{"title": title, "note": note, "panels": inside} for title, note, inside in parts if inside]
    return found if len(found) > 1 else [{**group, "title": ""} for group in found]


def _panel(index: int, metric: str, panel: Panel) -> dict[str, Any]:
    directions = {None: "", True: "↑ higher is better", False: "↓ lower is better"}
    column = Column(metric)
    svg = Markup(drift_svg(panel, index))  # escapes its texts itself
    told = {"title": column.words, "unit": column.value.unit, "description": column.value.description}
    return {
        "index": index,
        "metric": metric,
        **told,
        "direction": directions[column.value.higher_is_better],
        "svg": svg,
    }


def _curve_data(curve: Curve) -> dict[str, Any]:
    means = [float(f"{value:.4g}") if math.isfinite(value) else None for value in curve.mean]
    return {"run": curve.run, "t": [round(t, 3) for t in curve.t], "mean": means}


def _speed(runs: Sequence[Run]) -> dict[str, Any]:
    rows = []
    for i, run in enumerate(runs):
        stride = (run.record.get("geometry") or {}).get("temporal_stride") or 4
        found = speed(run.samples, int(stride))
        if found is None:
            continue
        texts = [number(found.chunk, 3), *(number(found.parts[part], 3) for part in PARTS), number(found.fps, 1)]
        tokens = "–" if found.tokens is None else " to ".join(f"{t:,}" for t in sorted(set(found.tokens)))
        rows.append({"run": i, "cells": [*texts, tokens, number(found.wall, 1), number(found.memory / 1e6, 0)]})
    cost = cost_table(runs)
    titles = [
        ("a chunk", "s"),
        *((part.removesuffix("_s"), "s") for part in PARTS),
        ("frames", "per s"),
        ("tokens attended", "per chunk"),
    ]
    titles += [("one video", "s, wall"), ("peak memory", "MB")]
    return {
        "cost": drawn(means(cost), runs) if cost.columns else "",
        "cost_note": " ".join(cost.notes),
        "speed": rows,
        "speed_columns": [{"title": title, "unit": unit} for title, unit in titles],
        "speed_note": "Medians over chunks of the second half of each video, where the window is full, as the rollouts "
        "ran: other work on the machine is in these times. For a clean measurement: python -m experiments.bench.",
    }
