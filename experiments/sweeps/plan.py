"""What of a sweep is there and what is left, in videos, time and disk."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean

import torch

from deepforcing.prompts import shard
from deepforcing.runs import RunDir
from experiments.request import build_spec
from experiments.sweeps.points import Point, Points
from experiments.tables.estimate import number
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
        left.append(
            Left(point, len(mine), len(records), shares, missing * point.chunks * per_chunk if missing else 0.0, size)
        )
    return left


def measured(records: Sequence[dict[str, object]]) -> tuple[float, float]:
    """Seconds per chunk and bytes per pixel frame of finished videos; NaN without any."""
    seconds = [r["wall_seconds"] / len(r["chunks"]) for r in records if r.get("chunks") and r.get("wall_seconds")]  # type: ignore[arg-type, operator]
    sizes = [r["bytes"] / r["frames"] for r in records if r.get("bytes")]  # type: ignore[operator]
    return (mean(seconds) if seconds else math.nan), (mean(sizes) if sizes else math.nan)


def pixel_frames(point: Point) -> int:
    spec = build_spec(point.config)
    return spec.model.geometry.pixel_frames(point.chunks * spec.chunk_frames)


def lines(left: Sequence[Left]) -> Iterator[str]:
    """A line per point."""
    for each in left:
        done = f"{each.done} of {plural(each.videos, 'video')}"
        if each.shares:
            rest = f"the run of {each.shares}"
        elif each.done == each.videos:
            rest = "done"
        else:
            rest = f"{number(each.seconds / 60, 1)} min and {number(each.size / 1e6, 1)} MB left"
        yield f"{each.point.name}: {done}, {rest} ({' '.join(each.point.words)})"


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
    sizes = f"{plural(len(left), 'point')}, {plural(len(own), 'run')}"
    told = f"{sizes}: {missing} videos left, {time}, {disk}, scoring not counted"
    if math.isfinite(seconds):
        return told
    return f"{told}; make one video, or say seconds_per_chunk= as measured by python -m experiments.bench"
