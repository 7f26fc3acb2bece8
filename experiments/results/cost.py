"""What a policy costs, from the records that rollouts leave behind: what passes read, what is stored, how long a chunk takes.

A row per video in the columns of the tidy table, protocol "cost", so that tables treat costs as they treat scores.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import pandas as pd

from eval.measure.metric import Value
from experiments.results.exported import exported_costs
from experiments.results.runs import Run
from experiments.results.scores import COLUMNS
from experiments.results.speed import speed

PROTOCOL = "cost"
KV_FRAMES = Value("kv_frames", "latent frames", False, "latent frames that a query attends to, mean over chunks")
KV_TOKENS = Value("kv_tokens", "tokens", False, "keys that a query attends to, mean over chunks, layers and heads")
KV_STORED = Value("kv_stored", "MB", False, "the most that the KV cache held for a video")
CHUNK_TIME = Value("chunk_time", "× Self Forcing", False, "seconds per chunk, as a multiple of Self Forcing's")
COSTS = (KV_FRAMES, KV_TOKENS, KV_STORED, CHUNK_TIME)


@dataclass(frozen=True)
class Costs:
    """table: the tidy rows, NaN where a record does not tell. no_time: {run: why its time stands beside no Self Forcing's}."""

    table: pd.DataFrame
    no_time: dict[str, str]


def costs(runs: Sequence[Run]) -> Costs:
    """Of every video of the runs that were rolled out: not of scored folders, nor of a renderer's videos. Of exported runs as
    they were when they were exported, beside the runs that went with them.

    A time is set beside those of Self Forcing's videos that one machine made with the same code, model, dtype, size, chunk,
    batch and threads: the median of both over chunks whose window is full, everything in it (denoise, commit, decode, write).
    """
    base: dict[tuple[Any, ...], list[float]] = {}
    for run in runs:
        for sample in run.samples if is_self_forcing(run) else ():
            key, seconds = circumstances(run, sample), seconds_per_chunk(run, sample)
            if key is not None and seconds > 0:
                base.setdefault(key, []).append(seconds)
    rows, no_time = [], {}
    for run in runs:
        made = [sample for sample in run.samples if any(not c.get("given") for c in sample.get("chunks") or [])]
        for sample in made:
            key = circumstances(run, sample)
            if key is None:
                no_time[run.name] = "the records do not say on which machine"
            elif key not in base:
                no_time[run.name] = "no Self Forcing made by the same code on the same machine is beside it"
            beside = float(np.median(base[key])) if key in base else math.nan
            end = sample["frames"] / sample["fps"]
            values = (*read_and_stored(run, sample), seconds_per_chunk(run, sample) / beside)
            for of, value in zip(COSTS, values, strict=True):
                rows.append((run.name, sample["sample"], of.name, 1, PROTOCOL, 0.0, end, value))
    came = exported_costs(runs)
    timed = came[(came["metric"] == CHUNK_TIME.name) & came["value"].notna()]["run"]
    for run in runs:
        if run.exported and run.name not in set(timed):
            no_time[run.name] = "its exported folder tells none"
    parts = [part for part in (pd.DataFrame(rows, columns=COLUMNS), came) if len(part)]
    return Costs(pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=COLUMNS), no_time)


def read_and_stored(run: Run, sample: Mapping[str, Any]) -> tuple[float, float, float]:
    """Latent frames and tokens that a pass reads, the chunk's own among them, mean over the chunks made; and MB stored."""
    tokens = [c["tokens"] for c in sample["chunks"] if not c.get("given") and c.get("tokens") is not None]
    mean = float(np.mean(tokens)) if tokens else math.nan
    g: Mapping[str, Any] = run.record.get("geometry") or {}
    sizes: list[Any] = [g.get(name) for name in ("height", "width", "spatial_stride", "patch")]
    frame = math.nan
    if all(sizes):
        height, width, stride, patch = sizes
        frame = (height // stride // patch) * (width // stride // patch)
    stored = sample.get("cache_bytes")
    return mean / frame, mean, math.nan if stored is None else stored / 1e6


def seconds_per_chunk(run: Run, sample: Mapping[str, Any]) -> float:
    found = speed([sample], int((run.record.get("geometry") or {}).get("temporal_stride") or 4))
    return found.chunk if found else math.nan


def circumstances(run: Run, sample: Mapping[str, Any]) -> tuple[Any, ...] | None:
    """All but the policy that a chunk's time depends on; None where the records do not say the machine."""
    made = sample.get("environment") or {}
    if not made.get("machine"):
        return None
    identity, packages = run.record.get("identity") or {}, made.get("packages") or {}
    model = identity.get("model") or {}
    geometry = tuple(sorted((run.record.get("geometry") or {}).items()))
    kind = ("name", "config", "decoder", "vae_dtype", "channels_last")  # not which weights: their sizes are equal
    how = tuple(str(identity.get(key)) for key in ("backend", "attention", "lossy"))
    of_run = (*(str(model.get(key)) for key in kind), "vae" in model, identity.get("dtype"), geometry, *how)
    of_sample = (sample.get("chunk_frames"), sample.get("batch"), sample.get("width"), sample.get("height"))
    machine = ("machine", "device", "threads", "git_commit")
    return (*of_run, *of_sample, *(made.get(name) for name in machine), packages.get("torch"))


def is_self_forcing(run: Run) -> bool:
    """By what the run is, not by what it is called."""
    identity: Mapping[str, Any] = run.record.get("identity") or {}
    usual = self_forcing()
    unlike = ("commit_frames", "bias", "store", "start_from")
    return all(identity.get(key) == value for key, value in usual.items()) and not any(
        key in identity for key in unlike
    )


@cache
def self_forcing() -> dict[str, Any]:
    """The parts of Self Forcing's identity that are not its model's: window 21 without a sink, four steps, chunks of 3."""
    from deepforcing.cache.alignment import find_alignment  # torch, which reading runs does without
    from deepforcing.cache.retention import SinkWindow
    from deepforcing.identity import plain
    from deepforcing.rollout.rules import Chunkwise
    from deepforcing.rollout.schedule import Schedule

    parts = {
        "rule": Chunkwise(),
        "schedule": Schedule(),
        "retention": SinkWindow(21),
        "alignment": find_alignment("absolute"),
    }
    return {**{name: plain(part) for name, part in parts.items()}, "chunk_frames": 3}
