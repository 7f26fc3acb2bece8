"""The page's videos: rows of prompts, columns of runs; inside of the page, or beside it where they are too large."""

from __future__ import annotations

import base64
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from deepforcing.runs import atomic_path
from experiments.page.preview import preview
from experiments.results.runs import Run
from experiments.tables.words import plural

ROWS_AT_ONCE = 4  # prompts on screen at first; a selector shows the others
MOST_COPIES = 48  # videos that smaller copies are made of: each takes seconds
Sample = dict[str, Any]


def video_grid(runs: Sequence[Run], max_rows: int, page_megabytes: float, out: Path) -> dict[str, Any]:
    """What the template needs of the videos. out: of the page; where they do not fit into it, even as smaller copies, files go
    into the folder <its stem>_videos beside it."""
    by_key = [{(s["prompt_id"], s["seed"]): s for s in run.samples} for run in runs]
    keys = sorted({key for one in by_key for key in one}, key=lambda key: (-sum(key in one for one in by_key), key))
    chosen = keys[:max_rows]
    seeds = {seed for _, seed in keys}
    paths = {
        (i, key): runs[i].path / "samples" / str(one[key]["video"])
        for i, one in enumerate(by_key)
        for key in chosen
        if key in one and (runs[i].path / "samples" / str(one[key]["video"])).is_file()
    }
    inside, copies = contents([*paths.values()], page_megabytes)
    rows: list[dict[str, Any]] = []
    sources: list[dict[str, str]] = []
    for key in chosen:
        sample = next(one[key] for one in by_key if key in one)
        cells = []
        for i, run in enumerate(runs):
            path = paths.get((i, key))
            if path is None:
                absent = "not rolled out" if key not in by_key[i] else "video file missing"
                cells.append({"source": "", "link": "", "title": absent})
                continue
            told = {"source": "", "link": "", "title": f"{run.label}: {sample['prompt']} (seed {key[1]})"}
            if inside is None:
                told["link"] = beside(path, by_key[i][key], run, out)
            else:
                told["source"] = f"video{len(sources)}"
                sources.append({"id": told["source"], "base64": base64.b64encode(inside[path]).decode("ascii")})
            cells.append(told)
        note = f"seed {key[1]}" if len(seeds) > 1 else ""
        rows.append({"prompt": sample["prompt"], "note": note, "cells": cells})
    shown = [by_key[i][key] for i, key in paths]
    width, height = next(((s["width"], s["height"]) for s in shown if s.get("width") and s.get("height")), (1, 1))
    note = "One row per prompt, one column per run; one clock moves them all."
    if len(keys) > len(chosen):
        note += f" {len(chosen)} of {plural(len(keys), 'row')} are in this page; the numbers below use all."
    if copies:
        note += " Shown as smaller copies in coarser quality to keep the page light; numbers are of the originals."
    if inside is None:
        note += f" The videos are files in {folder_of(out).name}/, which has to go where this page goes."
    return {
        "rows": rows,
        "sources": sources,
        "video_seconds": max((float(s["frames"]) / float(s["fps"]) for s in shown), default=0.0),
        "videos_note": note,
        "choices": _choices(rows),
        "aspect": f"{width} / {height}",
        "pixels": any((run.record.get("pixel_scale") or 1) > 1 for run in runs),
        "cell": 116 if width <= 1.2 * height else 148,
        "widest": min(240, max(176, 720 // len(runs))) if width <= 1.2 * height else 340,
    }


def contents(paths: Sequence[Path], megabytes: float) -> tuple[dict[Path, bytes] | None, bool]:
    """The files' bytes, or those of smaller copies, as base64 within so many megabytes, and whether they are copies; None where
    neither fits."""
    room = megabytes * 1e6 * 3 / 4
    if sum(path.stat().st_size for path in paths) <= room:
        return {path: path.read_bytes() for path in paths}, False
    found: dict[Path, bytes] = {}
    for path in paths if len(paths) <= MOST_COPIES else ():
        found[path] = preview(path)
        room -= len(found[path])
        if room < 0:
            break
    fits = 0 < len(found) == len(paths) and room >= 0
    return (found, True) if fits else (None, False)


def folder_of(out: Path) -> Path:
    return out.with_name(f"{out.stem}_videos")


def beside(path: Path, sample: Sample, run: Run, out: Path) -> str:
    """The video as a file beside the page, linked where the file system can, else copied; its address for the page. A name has
    the content's digest in it, so that an earlier page's files stay what they are."""
    folder = folder_of(out)
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"{run.name}-{sample['sample']}-{str(sample.get('sha256') or '')[:8]}.mp4"
    if not target.exists():
        try:
            os.link(path.resolve(), target)
        except OSError:
            with atomic_path(target) as partial:
                shutil.copyfile(path, partial)
    return f"{quote(folder.name)}/{quote(target.name)}"


def _choices(rows: Sequence[dict[str, Any]]) -> list[dict[str, str]]:
    """The prompt selector, where there are more rows than are on screen at first."""
    if len(rows) <= ROWS_AT_ONCE:
        return []
    groups = [list(range(a, min(a + ROWS_AT_ONCE, len(rows)))) for a in range(0, len(rows), ROWS_AT_ONCE)]
    choices = [(g, f"rows {g[0] + 1} to {g[-1] + 1}" if len(g) > 1 else f"row {g[0] + 1}") for g in groups]
    choices.append((list(range(len(rows))), f"all {len(rows)} rows"))
    choices += [([i], f"{i + 1}: {row['prompt'][:60]} {row['note']}".strip()) for i, row in enumerate(rows)]
    return [{"rows": json.dumps(group), "text": text} for group, text in choices]
