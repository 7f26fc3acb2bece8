"""Speed of runs from the chunk records that rollouts leave behind."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

PARTS = ("denoise_s", "commit_s", "decode_s", "write_s")


@dataclass(frozen=True)
class Speed:
    """Medians over the chunks of the second half of each video, where the window is full, but for given ones (start_from).
    Seconds per chunk."""

    parts: dict[str, float]
    chunk: float  # from one chunk's handing over to the next; of earlier records, whose parts followed each other, their sum
    fps: float  # pixel frames a second, end to end: chunk_frames x temporal_stride / chunk
    tokens: tuple[int, int] | None  # fewest and most tokens attended by a query of a chunk, to the nearest whole one
    wall: float  # median wall seconds of a sample
    memory: float  # peak bytes of the hungriest sample


def speed(samples: Sequence[Mapping[str, Any]], temporal_stride: int) -> Speed | None:
    """The speed of one run; None if no sample has chunk records."""
    halves = [(s.get("chunks") or [])[len(s.get("chunks") or []) // 2 :] for s in samples]
    chunks = [c for half in halves for c in half if not c.get("given")]
    if not chunks:
        return None
    parts = {part: _median(chunks, part) for part in PARTS}
    whole = _median(chunks, "chunk_s")
    total = float(np.nansum(list(parts.values()))) if np.isnan(whole) else whole
    tokens = [round(c["tokens"]) for c in chunks if c.get("tokens") is not None]
    frames = _median(samples, "chunk_frames") * temporal_stride
    return Speed(
        parts=parts,
        chunk=total,
        fps=frames / total if total else float("nan"),
        tokens=(min(tokens), max(tokens)) if tokens else None,
        wall=_median(samples, "wall_seconds"),
        memory=float(max((s["peak_memory_bytes"] for s in samples if s.get("peak_memory_bytes")), default=np.nan)),
    )


def _median(records: Sequence[Mapping[str, Any]], key: str) -> float:
    """Of the records that have a number there; NaN where none has."""
    known = [record[key] for record in records if record.get(key) is not None]
    return float(np.median(known)) if known else float("nan")
