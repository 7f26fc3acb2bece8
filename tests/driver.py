"""Drives a cache alone, without a transformer: every retention and alignment, random queries, keys and values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from itertools import product
from zlib import crc32

import pytest
import torch
from torch import Tensor

from deepforcing.cache.alignment import NAMED, ReleaseSink
from deepforcing.cache.compression import FrameCompression, ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.observe import Seen, Selection
from deepforcing.cache.policy import Alignment, CachePolicy, Retention, View
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.cache.scorers import Random, ValueAware
from deepforcing.wan.config import WanConfig

CONFIG = WanConfig(dim=28, num_heads=2, num_layers=2)  # head 14: 7 pairs, 3 of time, 2 of rows, 2 of columns
GRID, S, CHUNK = (2, 2), 4, 3
CHUNKS = 9


def compression(**changes: object) -> ParticipativeCompression:
    sizes = {"window_frames": 12, "sink_frames": 3, "budget_frames": 9, "recent_frames": 4, **changes}
    return ParticipativeCompression(**sizes)  # type: ignore[arg-type]


def frame_compression(**changes: object) -> FrameCompression:
    return FrameCompression(**vars(compression(**changes)))


RETENTIONS: dict[str, Retention] = {
    "keep_all": KeepAll(),
    "window9": SinkWindow(9),
    "window11": SinkWindow(11),
    "window3": SinkWindow(3),
    "sink3of9": SinkWindow(9, 3),
    "sink4of9": SinkWindow(9, 4),
    "sink4of11": SinkWindow(11, 4),
    "sink6of9_no_tail": SinkWindow(9, 6),
    "pc_both": compression(),
    "pc_denoising": compression(queries="denoising", sink_frames=4, recent_frames=3),
    "pc_past": compression(queries="past", recent_frames=5),
    "pc_random": compression(scorer=Random(1)),
    "pc_per_head": compression(per_head=True),
    "pc_per_head_random_reuse": compression(per_head=True, scorer=Random(2), reuse_limit=2),
    "pc_reuse1": compression(reuse_limit=1),
    "pc_every_chunk": compression(budget_frames=11, reuse_limit=3),
    "pc_exhausted": compression(budget_frames=12, sink_frames=2, reuse_limit=1),
    "pc_no_top": compression(budget_frames=7),
    "pc_no_sink": compression(sink_frames=0, window_frames=11, budget_frames=8),
    "pc_frames": frame_compression(),
    "pc_frames_per_head_reuse": frame_compression(per_head=True, reuse_limit=2),
    "pc_value_aware": compression(scorer=ValueAware()),
    "pc_every_pass": compression(every_pass=True, recent_frames=5, reuse_limit=7),
}
ALIGNMENTS: dict[str, Alignment] = {**NAMED, "release": ReleaseSink(16)}
MATRIX = [pytest.param(r, a, id=f"{r}-{a}") for r, a in product(RETENTIONS, ALIGNMENTS)]


@lru_cache(maxsize=1024)
def draw(name: str, batch: tuple[int, ...] = (0,)) -> tuple[Tensor, Tensor, Tensor]:
    """q, k, v [B, H, 12, 14] that depend on (name, item) alone: attention scores of a few units, far from uniform."""
    rows = []
    for item in batch:
        generator = torch.Generator().manual_seed(crc32(f"{name}/{item}".encode()))
        rows.append(torch.randn(3, 2, CHUNK * S, 14, generator=generator))
    q, k, v = torch.stack(rows, 1)
    return 2 * q, k, v


def cache_for(policy: CachePolicy, chunks: int = CHUNKS, batch: int = 1, **options: object) -> KVCache:
    return KVCache(policy, CONFIG, GRID, CHUNK, chunks * CHUNK, batch, **options)  # type: ignore[arg-type]


class Selections(list[Selection]):
    """A cache's observer that keeps every choice of tokens."""

    def __call__(self, seen: Seen) -> None:
        self += [chosen for chosen in seen.chosen if isinstance(chosen, Selection)]


@dataclass
class Step:
    """One chunk just finished: its view, and the outputs of its passes, [passes][layers]."""

    view: View
    out: list[list[Tensor]]


def drive(
    cache: KVCache, chunks: int = CHUNKS, items: tuple[int, ...] = (0,), first: int = 0, video: str = ""
) -> Iterator[Step]:
    """Two denoising passes and a commit per chunk."""
    for chunk in range(chunks):
        cache.begin(first + chunk * CHUNK)
        out = []
        for i, name in enumerate(("noisy", "less noisy", "clean")):
            memory = cache.commit() if name == "clean" else cache.denoise(i)
            out.append([memory.attend(layer, *draw(f"{video}{chunk}{name}{layer}", items)) for layer in (0, 1)])
        yield Step(cache.view, out)


def outputs(cache: KVCache, **options: object) -> list[Tensor]:
    """Per chunk: all its outputs in one tensor."""
    return [torch.stack([o for layers in step.out for o in layers]) for step in drive(cache, **options)]  # type: ignore[arg-type]


def policy(retention: str, alignment: str) -> CachePolicy:
    return CachePolicy(RETENTIONS[retention], ALIGNMENTS[alignment])


@cache
def run(retention: str, alignment: str) -> list[Step]:
    """Several tests look at the same run."""
    return list(drive(cache_for(policy(retention, alignment))))


def stacked(steps: list[Step]) -> list[Tensor]:
    return [torch.stack([o for layers in step.out for o in layers]) for step in steps]
