"""Pyramid Forcing: three kinds of heads, each with its own memory between a sink and the newest frames.

FROM THE TEXT, NO RECORDING. Source: arXiv 2605.13111 and facts about the release at 62e95d38 / 4c0ebda8 (THIRD_PARTY.md), which
was read and never run; its own Python cache was not read and may differ. Known deviation: a clean pass here reads what the
denoising passes read; as released it reads a memory that already holds the chunk. Not known: how many tokens a merged block has
in the release (here a frame's: the mean of the block's frames, place by place), and how heads are labelled.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from deepforcing.cache.bands import Band, Banded, Bands
from deepforcing.cache.policy import Needs, Pass, Past, Plan, Retention, Slot, Tokens, View
from deepforcing.cache.retention import Copies
from deepforcing.wan.config import WanConfig

WAVE, ANCHOR, VEIL = -1, 1, 2
KINDS = {"wave": WAVE, "anchor": ANCHOR, "veil": VEIL}
LARGEST = 1 << 20  # bytes of a file of labels


@dataclass(frozen=True)
class PyramidForcing(Banded):
    """Every head keeps a sink and the newest `recent_frames`, the chunk among them, and in between: wave heads the newest
    `kept` frames of every phase of `period_frames`, of which a frame sees those of its own phase; anchor heads the newest
    `kept` of every period-th frame; veil heads the newest `kept` means of `block_frames` frames, but for the first block.

    labels: a CSV file of -1 (wave), 1 (anchor) and 2 (veil), a row per layer and a column per head.
    wave_sink_frames, sink_frames: of wave heads and of the others. Sizes in latent frames. Read with the alignment
    PyramidPositions. A change of the prompt changes nothing in the cache.
    """

    labels: tuple[tuple[int, ...], ...] | str | None = None
    wave_sink_frames: int = 1
    sink_frames: int = 3
    recent_frames: int = 4
    period_frames: int = 6
    block_frames: int = 4
    kept: int = 4

    def __post_init__(self) -> None:
        if isinstance(self.labels, str):
            object.__setattr__(self, "labels", read_labels(Path(self.labels)))
        for name in ("wave_sink_frames", "sink_frames"):
            if not 0 <= getattr(self, name) <= self.block_frames:
                raise ValueError(f"{name}={getattr(self, name)} must be 0 to block_frames={self.block_frames}")
        for name in ("period_frames", "block_frames", "kept"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")

    def check(self, chunk_frames: int) -> None:
        if not chunk_frames <= self.recent_frames <= chunk_frames + self.period_frames - 1:
            raise ValueError(
                f"recent_frames={self.recent_frames} must hold the chunk of {chunk_frames} latent frames and less than a "
                f"period of {self.period_frames} beside it"
            )

    def check_model(self, config: WanConfig, slot_tokens: int) -> None:
        if self.labels is None:
            raise ValueError(
                "cache.retention.labels=null: Pyramid Forcing needs the labels of the model's heads, a CSV file such as its "
                "repository's configs/head_configs/best_labels.csv; use cache.retention.labels=FILE"
            )
        layers, heads = len(self.of_layers), len(self.of_layers[0])
        if (layers, heads) != (config.num_layers, config.num_heads):
            raise ValueError(
                f"the labels are of a model with {layers} layers of {heads} heads, this one has {config.num_layers} of "
                f"{config.num_heads}"
            )

    def capacity(self, chunk_frames: int) -> int | None:
        return chunk_frames

    def plan(self, view: View) -> Plan:
        return Plan(())

    @property
    def rules(self) -> tuple[Retention, ...]:
        shared = self.recent_frames, self.kept
        return (
            Wave(self.wave_sink_frames, *shared, self.period_frames),
            Anchor(self.sink_frames, *shared, self.period_frames),
            Veil(self.sink_frames, *shared, self.block_frames),
        )

    def most_heads(self, layers: int, heads: int) -> tuple[int, ...]:
        flat = [label for layer in self.of_layers for label in layer]
        return tuple(flat.count(kind) for kind in KINDS.values())

    @property
    def of_layers(self) -> tuple[tuple[int, ...], ...]:
        assert isinstance(self.labels, tuple)
        return self.labels

    def group(self, view: View) -> Bands:
        """Heads part ways before the first chunk."""
        bands = []
        for (name, kind), rule in zip(KINDS.items(), self.rules, strict=True):
            of = tuple(tuple(h for h, label in enumerate(layer) if label == kind) for layer in self.of_layers)
            bands.append(Band(name, rule, of, ()))
        return Bands(tuple(bands))


def read_labels(path: Path) -> tuple[tuple[int, ...], ...]:
    """Raises ValueError in one line that names the file."""
    if not path.is_file():
        raise ValueError(f"labels={path} is no file of head labels")
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than a file of head labels can be, {LARGEST} bytes")
    try:
        rows = [row for row in csv.reader(path.read_text("utf-8-sig").splitlines()) if row]
        labels = tuple(tuple(int(value) for value in row) for row in rows)
    except (ValueError, csv.Error):
        labels = ()
    if (
        not labels
        or {label for row in labels for label in row} - set(KINDS.values())
        or len({len(r) for r in labels}) > 1
    ):
        raise ValueError(f"{path} must hold a row per layer, with -1, 1 or 2 for every head, separated by commas")
    return labels


@dataclass(frozen=True)
class Memory(Retention):
    """One kind's. What is read far back is read at another place by each of the chunk's frames, so each has copies of it."""

    sink_frames: int
    recent_frames: int
    kept: int

    def role(self, frame: int) -> str:
        return "sink" if frame < self.sink_frames else "tail"

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=True)

    def layout(self, view: View, stored: Sequence[int | Merged], far: list[list[int]], near: list[int]) -> Plan:
        """The sink, copies of the sink and of `far` for every frame of the chunk, and `stored`, which holds an index or one
        new slot each. near: those of `stored`, by their number in it, that all frames see, beside the newest ones."""
        slots, sinks = view.slots, [i for i, slot in enumerate(view.slots) if slot.role == "sink"]
        copies, sees, at = [], [], len(sinks)
        behind = len(sinks) + sum(len(sinks) + len(of_frame) for of_frame in far)
        recent = range(max(0, len(stored) - max(0, self.recent_frames - view.chunk)), len(stored))
        shared = sorted({*near, *(i for i in recent if not isinstance(stored[i], Merged))})
        for j, of_frame in enumerate(far):
            sources = (*sinks, *of_frame)
            if sources:
                copies.append(Copies(f"far{j}", sources, tuple(slots[i].frame for i in sources)))
            sees.append((*range(at, at + len(sources)), *(behind + i for i in shared)))
            at += len(sources)
        return Plan((*sinks, *copies, *stored), sees=tuple(sees))


@dataclass(frozen=True)
class Wave(Memory):
    period_frames: int

    def capacity(self, chunk_frames: int) -> int | None:
        return self.sink_frames + self.kept * self.period_frames + chunk_frames * (1 + self.sink_frames + self.kept)

    def plan(self, view: View) -> Plan:
        past = tail(view)[-self.kept * self.period_frames :]
        phases = [(view.start + j) % self.period_frames for j in range(view.chunk)]
        far = [[i for i in past if (view.slots[i].frame or 0) % self.period_frames == phase] for phase in phases]
        return self.layout(view, [*past], far, [])


@dataclass(frozen=True)
class Anchor(Memory):
    period_frames: int

    def capacity(self, chunk_frames: int) -> int | None:
        recent = self.recent_frames - chunk_frames
        return self.sink_frames + self.kept + recent + chunk_frames * (1 + self.sink_frames + self.kept)

    def plan(self, view: View) -> Plan:
        past = tail(view)
        strides = [i for i in past if (view.slots[i].frame or 0) % self.period_frames == 0][-self.kept :]
        recent = (
            past[max(0, len(past) - (self.recent_frames - view.chunk)) :] if self.recent_frames > view.chunk else []
        )
        return self.layout(view, sorted({*strides, *recent}), [strides] * view.chunk, [])


@dataclass(frozen=True)
class Veil(Memory):
    block_frames: int

    def capacity(self, chunk_frames: int) -> int | None:
        waiting = self.block_frames - 1 + self.recent_frames - chunk_frames
        return self.sink_frames * (1 + chunk_frames) + self.kept + waiting + chunk_frames

    def plan(self, view: View) -> Plan:
        size, past = self.block_frames, tail(view)
        merged = [i for i, slot in enumerate(view.slots) if middle(slot) is not None]
        block = 1 + max(((middle(view.slots[i]) or 0) // size for i in merged), default=0)  # the next to be merged
        made: list[Merged] = []
        while (block + 1) * size <= view.start:
            inside = [i for i in past if (view.slots[i].frame or 0) // size == block]
            made.append(Merged(range(inside[0], inside[-1] + 1), block * size + (size - 1) // 2))
            block += 1
        every: list[int | Merged] = [*merged, *made]
        blocks = every[-self.kept :]
        recent = self.recent_frames - view.chunk
        waiting = [i for i in past if (view.slots[i].frame or 0) >= min(block * size, view.start - recent)]
        return self.layout(view, [*blocks, *waiting], [[]] * view.chunk, list(range(len(blocks))))


def tail(view: View) -> list[int]:
    """The slots of whole frames behind the sink."""
    return [i for i, slot in enumerate(view.slots) if slot.role == "tail"]


@dataclass(frozen=True)
class Merged:
    """A slot that holds the mean of a block of frames, keys without rotary embedding and values, place by place.

    block: their slots. middle: the frame in their middle; it stands in the role, because a mean is no frame that a commit
    pass might read as the newest."""

    block: range
    middle: int
    waits: ClassVar[bool] = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot(f"merged {self.middle}", None),)

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, None]:
        def mean(x: Tensor) -> Tensor:
            return torch.stack(x.chunk(len(self.block), 2)).mean(0)

        return Tokens(mean(past.keys(self.block, turned=False)), mean(past.values(self.block))), None


def middle(slot: Slot) -> int | None:
    """The frame in the middle of a merged block; None for other slots."""
    return int(slot.role.removeprefix("merged ")) if slot.role.startswith("merged ") else None


@dataclass(frozen=True)
class PyramidPositions:
    """What a frame sees far back lies `far_frames` before it, all at one place, and at 0 before there are so many; the rest
    at its own frame, a merged block in its middle."""

    far_frames: int = 21
    relative: bool = True

    def positions(self, view: View) -> list[int | None]:
        far = {f"far{j}": max(0, view.start + j - self.far_frames) for j in range(view.chunk)}
        return [far.get(slot.role, slot.frame if slot.frame is not None else middle(slot)) for slot in view.slots]
