"""Runs judged by a model: a score per video on disk, like any metric's, and the table beside the paper's numbers."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd

from deepforcing.records import DamagedError, read_object
from deepforcing.runs import atomic_write_json, canonical_json
from eval.protocol import Protocol
from eval.stats.intervals import mean_interval
from eval.store import COLUMNS, KEYS, add_rows, read_rows, scored, scores_path, settle
from eval.videos import Video, Videos, checked, open_run
from experiments.raters.make import arm
from experiments.raters.vlm import Judge, OffError, Verdict, ask
from experiments.results.runs import Run
from experiments.tables.estimate import Estimate
from experiments.tables.layout import Grid, Head, value_and_interval, words

METRIC, VERSION = "visual_stability", 1
SCALE = (
    "Means over prompts with 95 % intervals (Student's t). The paper's judge and prompt are not published: its numbers are of "
    "another scale, and differences from them say little. Set orders beside orders."
)
PROTOCOL = Protocol("vbench")  # the whole video is one clip
JUDGES = "judges.json"  # in a run's scores: what each digest stands for
Asked = Callable[[Judge, Path, httpx.Client], Verdict]


@dataclass
class Judged:
    """problems: a line for each video without a score. asked: how many were."""

    problems: list[str]
    asked: int = 0


def digest(judge: Judge) -> str:
    """What stands in the place of a network's weights: scores by different judges are never in one table."""
    return hashlib.sha256(canonical_json(judge.identity()).encode()).hexdigest()


def missing(group: Videos, judge: Judge) -> list[Video]:
    done = scored(scores_path(group.home, METRIC, VERSION), PROTOCOL, digest(judge))
    return [video for video in group.videos if (video.name, video.sha256, "") not in done]


def judge_run(group: Videos, judge: Judge, client: httpx.Client, tick: Callable[[], None] = lambda: None) -> Judged:
    """Ask about every video of a run that this judge has not scored. Each answer is on disk before the next question.

    Raises OffError as soon as the endpoint answers nobody.
    """
    result = Judged(list(group.problems))
    path = scores_path(group.home, METRIC, VERSION)
    for video in missing(group, judge):
        try:
            info = checked(video)
            verdict = ask(judge, video.path, client)
        except OffError:
            raise
        except (ValueError, OSError) as error:
            result.problems.append(f"{group.name}: sample {video.name}: {error}")
            continue
        finally:
            tick()
        result.asked += 1
        remember(group.home, judge, verdict)
        row = {
            "run": group.name, "sample": video.name, "metric": METRIC, "version": VERSION, "protocol": PROTOCOL.name,
            "t_start": 0.0, "t_end": info.frames / info.fps, "value": verdict.score, "video_sha256": video.sha256,
            "weights_sha256": digest(judge), "prompt_sha256": "", "window_seconds": 0.0, "frames": float(info.frames),
        }  # fmt: skip
        add_rows(path, pd.DataFrame([row])[COLUMNS + KEYS])
    settle(path)
    return result


def remember(home: Path, judge: Judge, verdict: Verdict) -> None:
    """Model, prompt and settings behind a digest, and which models the server said that it answered by."""
    path = home / "scores" / JUDGES
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        known = read_object(path) if path.exists() else {}
    except DamagedError:
        known = {}
    before = known.get(digest(judge))
    names = set(before.get("answered_by", [])) if isinstance(before, dict) else set()
    if isinstance(before, dict) and verdict.answered_by in names:
        return
    told = {**judge.identity(), "endpoint": judge.endpoint, "answered_by": sorted(names | {verdict.answered_by})}
    atomic_write_json(path, {**known, digest(judge): told})


def judges_of(runs: Sequence[Run]) -> dict[str, Mapping[str, Any]]:
    """{digest: what is known of it} of all judges who scored a video of these runs. Raises ValueError for a damaged file."""
    found: dict[str, Mapping[str, Any]] = {}
    for run in runs:
        path = run.path / "scores" / JUDGES
        for name, told in (read_object(path) if path.exists() else {}).items():
            if isinstance(told, dict) and scores(run, name):
                found.setdefault(name, told)
    return found


def scores(run: Run, judge: str) -> dict[tuple[str, int], float]:
    """{(prompt's id, seed): score} of a run's finished videos. judge: its digest."""
    path = scores_path(run.path.absolute(), METRIC, VERSION)
    if not path.exists() and not path.with_suffix(".jsonl").exists():
        return {}
    rows = read_rows(path)
    rows = rows[rows["weights_sha256"] == judge]
    of = dict(zip(zip(rows["sample"], rows["video_sha256"], strict=True), rows["value"], strict=True))
    found = {(s["prompt_id"], s["seed"]): of.get((s["sample"], s["sha256"])) for s in run.samples}
    return {key: float(value) for key, value in found.items() if value is not None}


def grid(runs: Sequence[Run], judge: str, paper: Mapping[tuple[str, str], float]) -> Grid:
    """Means over prompts with Student's t intervals, each run over what it has. judge: its digest."""
    lines = []
    for run in runs:
        found = scores(run, judge)
        prompts = sorted({prompt for prompt, _ in found})
        means = np.array(
            [[np.mean([v for (p, _), v in found.items() if p == prompt])] for prompt in prompts], dtype=np.float64
        )
        mean, low, high, n = mean_interval(means.reshape(len(prompts), 1))
        estimate = Estimate(float(mean[0]), float(low[0]), float(high[0]), int(n[0]))
        who = arm(run)
        published = paper.get((who.generator, who.cache))
        beside = words("", "")
        if published is not None:
            beside = (*words(f"{published:g}"), value_and_interval(estimate.minus(published), 1, test=True))
        lines.append((Head(run.label), (*words(str(len(prompts))), value_and_interval(estimate, 1), *beside)))
    heads = ("prompts", "visual stability (0..100) ↑", "paper, table 3", "difference")
    return Grid("run", tuple(map(Head, heads)), tuple(lines))


def groups(runs: Sequence[Run]) -> list[Videos]:
    return [open_run(run.path) for run in runs]
