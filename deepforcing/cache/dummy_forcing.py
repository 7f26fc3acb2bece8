"""Dummy Forcing: half of the heads see little more than the chunk itself (arXiv 2601.20499).

Heads are told apart once per video, by where their attention goes in one clean pass: heads that hardly use the past are
dummies, the others look at the first frame or at the frames just before the chunk, and each keeps only what it looks at.
Source: paper, and facts about the release at 28128ed6 (THIRD_PARTY.md). Deviations: every video of a batch has classes of its
own (the release: the first one's for all); the rows of queries that are looked at are drawn from `seed` and the layer, the
same for every video (the release: from the run's generator).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.bands import Band, Banded, Bands
from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import Needs, Plan, Retention, View
from deepforcing.cache.retention import SinkRecent

FIRST, LOCAL, DUMMY = 0, 1, 2
NAMES = {FIRST: "first", LOCAL: "local", DUMMY: "dummy"}


@dataclass(frozen=True)
class DummyForcing(Banded):
    """Until `warmup_frames` are there, all heads keep the first frame and the newest `local_frames`. The clean pass that ends
    the warm-up then tells heads apart, and beside the chunk a head keeps: the first frame; the newest `local_frames`; or,
    as a dummy, the newest frame.

    warmup_frames, local_frames: latent frames; whole chunks, and the warm-up at least two. dummy_share: of all heads of the
    model, to the nearest whole head. seed: of the sampled rows. A change of the prompt changes nothing in the cache.
    Positions are absolute in the release, so the first frame falls ever further behind; cache.alignment=slot reads it right
    before the chunk.
    """

    warmup_frames: int = 6
    local_frames: int = 3
    dummy_share: float = 0.5
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.dummy_share <= 1:
            raise ValueError(
                f"dummy_share={self.dummy_share} must be between 0 and 1; published: 0.5, 180 of 360 heads"
            )
        if self.local_frames < 1:
            raise ValueError(f"local_frames={self.local_frames} must be at least 1")

    def check(self, chunk_frames: int) -> None:
        for name, frames, least in (("warmup_frames", self.warmup_frames, 2), ("local_frames", self.local_frames, 1)):
            if frames % chunk_frames or frames < least * chunk_frames:
                raise ValueError(
                    f"{name}={frames} must be a multiple of the chunk of {chunk_frames} latent frames, "
                    f"{least * chunk_frames} or more"
                )

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        raise ValueError("its heads read different numbers of frames, and which head does what is found in every video")

    def capacity(self, chunk_frames: int) -> int | None:
        return self._whole.capacity(chunk_frames)

    def role(self, frame: int) -> str:
        return self._whole.role(frame)

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(watches=True)

    def plan(self, view: View) -> Plan:
        return self._whole.plan(view)

    @property
    def _whole(self) -> SinkRecent:
        return SinkRecent(1, self.local_frames)

    @property
    def rules(self) -> tuple[Retention, ...]:
        return SinkRecent(1, 0), SinkRecent(0, self.local_frames), SinkRecent(0, 1)

    def most_heads(self, layers: int, heads: int) -> tuple[int, ...]:
        """How many look at the first frame differs from video to video, so all that are no dummies count as local."""
        dummies = self.dummies(layers * heads)
        return 0, layers * heads - dummies, dummies

    def commit_sees(self, chunk_frames: int) -> int:
        return self.warmup_frames

    def dummies(self, heads: int) -> int:
        """Of so many heads of a model."""
        return round(self.dummy_share * heads)

    def rows(self, layer: int, count: int, tokens: int) -> Tensor:
        """`count` of the chunk's `tokens` queries, with replacement: int64 [count]."""
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + layer)
        return torch.randint(tokens, (count,), generator=generator)

    def watch(self, seen: Seen, notes: dict[str, Any]) -> None:
        """Where the heads' attention goes in the clean pass that ends the warm-up, in notes["shares"]: per layer [B, 3, H],
        the mass on the first part of the keys, the middle, and the chunk. Parts are latent frames: the first is one frame
        if the warm-up is two chunks, else a chunk's worth, and the rows sampled are a third of that."""
        chunk = sum(slot.role == "chunk" for slot in seen.slots)
        if seen.kind != "commit" or seen.start + chunk != self.warmup_frames:
            return
        s = seen.keys.shape[2] // len(seen.slots)
        first = 1 if seen.start == chunk else chunk
        rows = self.rows(seen.layer, max(1, first * s // 3), chunk * s).to(seen.queries.device, non_blocking=True)
        queries = seen.queries.index_select(2, rows).float()
        weights = (queries @ seen.keys.float().mT * queries.shape[-1] ** -0.5).softmax(-1).mean(2)  # [B, H, T]
        mass = weights.unflatten(2, (len(seen.slots), s)).sum(3)
        order = sorted(range(len(seen.slots)), key=lambda i: seen.slots[i].frame or 0)
        parts = [order[:first], order[first : len(order) - chunk], order[len(order) - chunk :]]
        shares = torch.stack([sum((mass[:, :, i] for i in part), torch.zeros_like(mass[:, :, 0])) for part in parts], 1)
        notes.setdefault("shares", {})[seen.layer] = shares

    def group(self, view: View) -> Bands | None:
        """Reads the shares back from the device: the one read of a video."""
        if view.start < self.warmup_frames:
            return None
        shares: dict[int, Tensor] = view.notes["shares"]
        found = self.classes(torch.stack([shares[layer] for layer in range(len(shares))]).cpu())
        past = len(view.slots)
        sinks = sum(slot.role == "sink" for slot in view.slots)
        takes = [range(sinks), range(max(sinks, past - self.local_frames), past), range(past - 1, past)]
        bands = []
        for kind, rule in zip((FIRST, LOCAL, DUMMY), self.rules, strict=True):
            heads = tuple(tuple(i for i, c in enumerate(layer) if c == kind) for layer in found)
            bands.append(Band(NAMES[kind], rule, heads, tuple(takes[kind])))
        return Bands(tuple(bands), per_video=True)

    def classes(self, shares: Tensor) -> list[list[int]]:
        """Of every layer, the class of head b * H + h. shares: [layers, B, 3, H].

        A head's cost of becoming a dummy is the larger of its mass on the first part and its mass on the middle, each as a
        share of what all heads of the video put there. The cheapest become dummies; of the others, local are those that
        put the larger share on the middle.
        """
        mass = shares.double().transpose(0, 1)  # [B, layers, 3, H]
        first, middle = (part / part.sum((1, 2), keepdim=True) for part in (mass[:, :, 0], mass[:, :, 1]))
        classes = torch.where(first < middle, LOCAL, FIRST).flatten(1)
        cheapest = (
            torch.maximum(first, middle)
            .flatten(1)
            .sort(dim=1, stable=True)
            .indices[:, : self.dummies(classes.shape[1])]
        )
        classes.scatter_(1, cheapest, DUMMY)
        result: list[list[int]] = classes.view(first.shape).transpose(0, 1).flatten(1).tolist()
        return result
