"""Small runs for the tests of the report, and the page as a browser would see it."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from deepforcing.video import VideoWriter, sha256_file
from experiments import report

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


def four_runs(tmp_path: Path) -> list[Path]:
    """Baseline drifting by 1 a second in colour; `better` by half of it, exactly; `same` is the baseline with noise."""
    noise = np.random.default_rng(0).normal(0, 1.0, (3, SECONDS))
    return [
        write_run(tmp_path, "plain", {"colour_drift": lambda i, t: i + t, "strange_thing": lambda i, t: 7.0}),
        write_run(tmp_path, "better", {"colour_drift": lambda i, t: i + t / 2, "strange_thing": lambda i, t: 9.0 + i}),
        write_run(tmp_path, "same", {"colour_drift": lambda i, t: i + t + (noise - noise.mean(0))[i, int(t)]}),
        write_run(tmp_path, "real video", {"colour_drift": lambda i, t: 0.0}, spec={"generator": "renderer"}),
    ]


def add_scores(
    run: Path, metric: str, protocol: str, spans: list[tuple[float, float]], value: float, window_seconds: float = 2.0
) -> None:
    """Scores of every video of a run: `value` in every span, and a hundredth more a prompt. window_seconds: of windows."""
    records = [json.loads(path.read_text()) for path in sorted((run / "samples").glob("*.json"))]
    rows = [
        {"run": run.name, "sample": record["sample"], "metric": metric, "version": 1, "protocol": protocol}
        | {"t_start": start, "t_end": end, "value": value + i / 100, "video_sha256": record["sha256"]}
        | {"weights_sha256": "", "window_seconds": window_seconds if protocol == "windows" else 0.0, "frames": 4}
        for i, record in enumerate(records)
        for start, end in spans
    ]
    path = run / "scores" / f"{metric}@1.parquet"
    path.parent.mkdir(exist_ok=True)
    old = [pd.read_parquet(path)] if path.exists() else []
    pd.concat([*old, pd.DataFrame(rows)]).to_parquet(path, index=False)
