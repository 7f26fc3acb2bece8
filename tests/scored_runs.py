"""Run directories with scores and without videos: what tables are made of."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from deepforcing.prompts import Prompt

PROMPTS = ("a red disc", "a blue ring", "a green cross", "a cyan disc", "a grey ring")
Values = Mapping[str, Callable[[int, int, int], float]]  # metric -> value of (number of the prompt, seed, window)


def scored_run(
    root: Path,
    name: str,
    values: Values,
    prompts: Sequence[str] = PROMPTS,
    seeds: Sequence[int] = (0,),
    seconds: int = 20,
    label: str | None = None,
    checkpoint: str = "ab" * 32,
    protocol: str = "windows",
    weights: str = "",
    size: int = 128,
    tokens: Sequence[float] = (),
    **record: Any,
) -> Path:
    """Windows, or clips, of 2 s; a video's sha256 is that of its name. tokens: that each chunk's passes read."""
    run = root / f"{name}-{hashlib.sha256(repr((name, seconds, checkpoint, size)).encode()).hexdigest()[:8]}"
    (run / "samples").mkdir(parents=True)
    identity = {"model": {"name": "tiny", "checkpoint": checkpoint}}
    told = {
        "schema": 1,
        "name": name,
        "label": label or name,
        "identity": identity,
        "created": "2026-11-26T12:00:00+00:00",
    }
    told |= {"command": "python -m experiments.rollout runs_root=/home/somebody/runs", "world": "tiny", **record}
    (run / "run.json").write_text(json.dumps(told))
    rows: dict[str, list[dict[str, Any]]] = {metric: [] for metric in values}
    for i, prompt in enumerate(prompts):
        for seed in seeds:
            sample = f"{Prompt(prompt).id}-s{seed}"
            digest = hashlib.sha256(sample.encode()).hexdigest()
            video = {
                "sample": sample,
                "prompt_id": Prompt(prompt).id,
                "prompt": prompt,
                "seed": seed,
                "video": f"{sample}.mp4",
            }
            video |= {"sha256": digest, "fps": 16, "frames": 16 * seconds, "width": size, "height": 128, "schema": 1}
            video |= {"chunks": [{"tokens": count, "denoise_s": 0.1} for count in tokens]}
            (run / "samples" / f"{sample}.json").write_text(json.dumps(video))
            for metric, value in values.items():
                for t in range(seconds // 2):
                    row = {"run": run.name, "sample": sample, "metric": metric, "version": 1, "protocol": protocol}
                    row |= {"t_start": 2.0 * t, "t_end": 2.0 * t + 2, "value": float(value(i, seed, t)), "frames": 32}
                    row |= {"video_sha256": digest, "weights_sha256": weights, "prompt_sha256": ""}
                    rows[metric].append(row | {"window_seconds": 2.0 if protocol == "windows" else 0.0})
    (run / "scores").mkdir()
    for metric, lines in rows.items():
        pd.DataFrame(lines).to_parquet(run / "scores" / f"{metric}@1.parquet", index=False)
    return run
