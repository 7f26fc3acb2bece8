"""Relax Forcing: a long reservoir of frames is stored, and few of them are read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor
from torch.nn.functional import normalize

from deepforcing.cache.policy import Needs, Pass, Past, Plan, Retention, Slot, Tokens, View


@dataclass(frozen=True)
class RelaxForcing(Retention):
    """Sink, a few frames of history, a short tail and the chunk are read; `window_frames` are stored, the chunk included.

    Sink and tail: the first and the latest frames. While no more than tail_frames + 1 others are stored, all are read.
    choose: which `history_frames` of those between. "score": of up to `candidates` frames spread over their later half (never
    the newest), those whose mean key is most like the sink's and least like the tail's, which counts `redundancy` times.
    "even": spread over all of them; `only`: of these the one of this number alone (from 0).
    The choice is made once per chunk, by the first layer's un-rotated keys, for all layers, and for each video by itself.
    alignment "slot" packs sink and history right before the tail, as published; "absolute" leaves them at their own frames
    (the release's ablation `contiguous_rope`). A change of prompt leaves the cache as it is.

    Source: Relax Forcing (arXiv 2603.21366), its release at 6d2b4fa5. Deviations: it lets the first video of a batch choose
    for all, and its absolute positions end with the rotary table.
    """

    window_frames: int = 120
    sink_frames: int = 2
    history_frames: int = 1
    tail_frames: int = 1
    choose: Literal["score", "even"] = "score"
    candidates: int = 4
    redundancy: float = 2.0
    only: int | None = None

    def __post_init__(self) -> None:
        sizes = {
            "sink_frames": self.sink_frames,
            "history_frames": self.history_frames,
            "tail_frames": self.tail_frames,
        }
        negative = [f"{name}={size}" for name, size in sizes.items() if size < 0]
        if negative:
            raise ValueError(f"{', '.join(negative)} must be at least 0; Relax Forcing reads 2 + 1 + 1 frames")
        if self.choose not in ("score", "even"):
            raise ValueError(f"choose={self.choose!r} must be 'score' or 'even'")
        if self.choose == "score" and self.candidates < max(self.history_frames, 1):
            raise ValueError(
                f"candidates={self.candidates} must be at least 1 and as many as history_frames={self.history_frames}"
            )
        if self.only is not None and not (self.choose == "even" and 0 <= self.only < self.history_frames):
            raise ValueError(
                f"only={self.only} is the number of one of history_frames={self.history_frames} evenly spread ones, from 0: "
                "use choose=even and a smaller number, or null for all of them"
            )

    def check(self, chunk_frames: int) -> None:
        least = self.sink_frames + self.tail_frames + 2 + chunk_frames
        if self.window_frames < least:
            raise ValueError(
                f"window_frames={self.window_frames} leaves nothing to choose from beside sink_frames={self.sink_frames}, "
                f"tail_frames={self.tail_frames} and the current chunk of {chunk_frames}: use {least} or more; "
                "Relax Forcing stores 120"
            )

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        """What is read beside the chunk: a quarter each for history and tail, the rest is sink, as published (2 + 1 + 1)."""
        part = (frames - chunk_frames) // 4
        if not part:
            raise ValueError(f"sink, history, tail and the chunk need {chunk_frames + 4} latent frames")
        sizes = {"sink_frames": frames - chunk_frames - 2 * part, "history_frames": part, "tail_frames": part}
        return {**sizes, "candidates": max(self.candidates, 4 * part)}

    def capacity(self, chunk_frames: int) -> int | None:
        return self.window_frames + self.history_frames

    def role(self, frame: int) -> str:
        return "sink" if frame < self.sink_frames else "tail"

    def needs(self, chunk_frames: int) -> Needs:
        reads = self.sink_frames + max(self.history_frames, 1) + self.tail_frames + chunk_frames
        return Needs(raw=True, origins=True, reads=reads)

    def plan(self, view: View) -> Plan:
        kept = [i for i, slot in enumerate(view.slots) if slot.role != "history"]
        sinks = min(self.sink_frames, len(kept))
        excess = max(0, len(kept) + view.chunk - self.window_frames)
        kept = kept[:sinks] + kept[sinks + excess :]
        end = len(kept) - self.tail_frames
        if end - sinks < 2:
            return Plan(tuple(kept))
        spots = self._spread(end - sinks)
        count = min(self.history_frames, len(spots))
        chosen = History(self, tuple(kept[sinks + i] for i in spots), tuple(sinks + i for i in spots), count)
        stored = (*kept[:sinks], *((chosen,) if count else ()), *kept[sinks:])
        read = sinks + count
        return Plan(stored, (*range(read), *range(read + end - sinks, read + len(kept) - sinks)))

    def _spread(self, middle: int) -> list[int]:
        """Which of so many frames between sink and tail are chosen from; all are taken where they are evenly spread."""
        if self.choose == "even":
            spots = [(i + 1) * (middle - 1) // (self.history_frames + 1) for i in range(self.history_frames)]
            return spots if self.only is None else [spots[self.only]]
        half = middle // 2
        count = min(self.candidates, middle - half)
        if count == 1:
            return [half]
        grid = [half + i * (middle - 1 - half) // count for i in range(count + 1)]
        return sorted(set(grid))[:-1]


@dataclass(frozen=True)
class FrameChoice:
    """What an observer is told of it. start: first frame of the chunk. candidates: frames of the reservoir to choose from,
    counted from the oldest stored; frames: the latent frames that they are. scores: float32 [B, candidates], None where
    nothing is scored. chosen: int64 [B, n] into candidates, ascending."""

    start: int
    candidates: tuple[int, ...]
    frames: tuple[int, ...]
    scores: Tensor | None
    chosen: Tensor


@dataclass(frozen=True)
class History:
    """Copies of the chosen frames. sources: indices of the candidates into View.slots. places: in the reservoir."""

    rule: RelaxForcing
    sources: tuple[int, ...]
    places: tuple[int, ...]
    count: int
    waits: ClassVar[bool] = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot("history", None),) * self.count

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, FrameChoice | None]:
        first = "choice" not in past.shared
        if first:
            past.shared["choice"] = self._choose(past)
        choice: FrameChoice = past.shared["choice"]
        one = [range(i, i + 1) for i in self.sources]
        keys = _picked([past.keys(i, turned=False) for i in one], choice.chosen)
        values = _picked([past.values(i) for i in one], choice.chosen)
        frame = torch.tensor(choice.frames, dtype=torch.int64).to(keys.device, non_blocking=True)[choice.chosen]
        frame = frame.repeat_interleave(past.slot_tokens, 1)
        place = torch.arange(past.slot_tokens, device=keys.device).repeat(self.count).expand_as(frame)
        origin = torch.stack([frame, place, torch.zeros_like(frame)])[:, :, None]
        return Tokens(keys, values, origin), choice if first else None

    def _choose(self, past: Past) -> FrameChoice:
        frames = tuple(past.view.slots[i].frame for i in self.sources)
        known = tuple(frame for frame in frames if frame is not None)
        assert len(known) == len(frames)
        if self.rule.choose == "even":
            batch, device = past.values(range(1)).shape[0], past.values(range(1)).device
            every = torch.arange(self.count, device=device).expand(batch, -1)
            return FrameChoice(past.view.start, self.places, known, None, every)
        mine = torch.stack([_prototype(past, range(i, i + 1)) for i in self.sources], 1)
        scores = torch.zeros(mine.shape[:2], device=mine.device)
        end = len(past.view.slots)
        if self.rule.sink_frames:
            scores = scores + _likeness(mine, _prototype(past, range(self.rule.sink_frames)))
        if self.rule.tail_frames:
            tail = _prototype(past, range(end - self.rule.tail_frames, end))
            scores = scores - self.rule.redundancy * _likeness(mine, tail)
        chosen = scores.topk(self.count, dim=1).indices.sort(1).values
        return FrameChoice(past.view.start, self.places, known, scores, chosen)


def _prototype(past: Past, slots: range) -> Tensor:
    """float32 [B, D] of length 1: the mean un-rotated key of these slots, over tokens and heads."""
    return normalize(past.keys(slots, turned=False).float().mean(2).mean(1), dim=1)


def _likeness(candidates_BCD: Tensor, one_BD: Tensor) -> Tensor:
    return (candidates_BCD @ one_BD[:, :, None]).squeeze(2)


def _picked(frames: list[Tensor], chosen_BN: Tensor) -> Tensor:
    """[B, H, N * S, D] of the frames [B, H, S, D] that each video has chosen."""
    every = torch.stack(frames, 1)
    index = chosen_BN[:, :, None, None, None].expand(-1, -1, *every.shape[2:])
    return every.gather(1, index).transpose(1, 2).flatten(2, 3)
