"""What of a sweep is there and what is left, in videos, time and disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import mean

import torch

from deepforcing.prompts import Sample, shard
from deepforcing.runs import RunDir
from experiments.sweeps.points import Point, Points
from experiments.tables.estimate import number
from experiments.tables.layout import Grid, Head, words
from experiments.tables.words import plural


@dataclass(frozen=True)
class Left:
    """Of one point. shares: the point before it in the list that makes its videos. seconds, size: that the missing videos will
    take and need, NaN where nothing tells."""

    point: Point
    videos: int
    done: int
    shares: str = ""
    seconds: float = math.nan
    size: float = math.nan


def what_is_left(points: Points, of: str, seconds_per_chunk: float | None) -> list[Left]:
    """of: a shard of the videos. seconds_per_chunk: as `experiments.bench` measured it; None: as the videos say that are there,
    of the point itself or else of all points. Raises ValueError for a damaged run directory."""
    mine = shard(list(points.samples), of)
    first: dict[str, str] = {}
    found = []
    for point in points.made:
        shares = first.get(point.run.name, "")
        first.setdefault(point.run.name, point.name)
        there = RunDir.open(point.run).samples() if (point.run / "run.json").exists() else []
        found.append((point, shares, [record for record in there if record["sample"] in {s.name for s in mine}]))
    every = [record for _, _, records in found for record in records]
    left = []
    for point, shares, records in found:
        per_chunk, per_frame = measured(records or every)
        per_chunk = seconds_per_chunk if seconds_per_chunk is not None else per_chunk
        missing = 0 if shares else len(mine) - len(records)
        frames = missing * pixel_frames(point)
        size = frames * per_frame if missing else 0.0
        left.append(Left(point, len(mine), len(records), shares, missing * point.chunks * per_chunk if missing else 0.0, size))
    return left


def measured(records: Sequence[dict[str, object]]) -> tuple[float, float]:
    """Seconds per chunk and bytes per pixel frame of finished videos; NaN without any."""
    seconds = [r["wall_seconds"] / len(r["chunks"]) for r in records if r.get("chunks") and r.get("wall_seconds")]  # type: ignore[arg-type, operator]
    sizes = [r["bytes"] / r["frames"] for r in records if r.get("bytes")]  # type: ignore[operator]
    return (mean(seconds) if seconds else math.nan), (mean(sizes) if sizes else math.nan)


def pixel_frames(point: Point) -> int:
    from experiments.request import build_spec

    spec = build_spec(point.config)
    return spec.model.geometry.pixel_frames(point.chunks * spec.chunk_frames)


def listed(left: Sequence[Left]) -> Grid:
    """A row per point."""
    rows = []
    for each in left:
        budget = "" if each.point.budget is None else str(each.point.budget)
        time, size = number(each.seconds / 60, 1), number(each.size / 1e6, 1)
        note = f"shares the run of {each.shares}" if each.shares else " ".join(each.point.words)
        rows.append((Head(each.point.name), words(f"{each.done}/{each.videos}", budget, time, size, note)))
    heads = ("videos", "frames read", "min left", "MB left", "words")
    return Grid("point", tuple(map(Head, heads)), tuple(rows))


def in_all(left: Sequence[Left], device: torch.device) -> str:
    """One sentence over all points."""
    own = [each for each in left if not each.shares]
    missing = sum(each.videos - each.done for each in own)
    seconds, size = (math.fsum(getattr(each, name) for each in own) for name in ("seconds", "size"))
    hours = "GPU hours" if device.type == "cuda" else "hours of this machine"
    if not missing:
        return f"{plural(len(left), 'point')}, {plural(len(own), 'run')}: all videos are there"
    time = f"about {seconds / 3600:.2f} {hours}" if math.isfinite(seconds) else f"{hours}: unknown"
    disk = f"{size / 1e6:.0f} MB" if math.isfinite(size) else "disk: unknown"
    how = "" if math.isfinite(seconds) else (
        "; make one video, or say seconds_per_chunk= as measured by python -m experiments.bench"
    )  # fmt: skip
    return f"{plural(len(left), 'point')}, {plural(len(own), 'run')}: {missing} videos left, {time}, {disk}, scoring not counted{how}"


__all__ = ["Left", "Sample", "in_all", "listed", "what_is_left"]
