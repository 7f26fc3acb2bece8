"""Forcing-KV: static heads keep a short window; dynamic heads keep the patches of the past that changed most.

Which heads are which is found once per model (head_classes.py). Source: arXiv 2605.09681, and facts about the release at
50ac1f45 (THIRD_PARTY.md). Deviations: patches are chosen for every video by itself (the release: by the first of a batch for
all), in the first layer that has dynamic heads (the release: in the second layer, or it fails); windows longer than a chunk
keep keys and values together (the release does not; ForcingKVRelease does as it does).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from deepforcing.cache.bands import Band, Banded, Bands
from deepforcing.cache.head_classes import HeadClasses, read_classes
from deepforcing.cache.policy import Needs, Pass, Past, Plan, Retention, Slot, Tokens, View
from deepforcing.cache.retention import SinkRecent
from deepforcing.wan.config import WanConfig

MOST_PATCHES = 6  # per frame, as published


@dataclass(frozen=True)
class ForcingKV(Banded):
    """Until `warmup_frames` are there, and in the first layer for ever, all heads keep the sink and the newest frames, as many
    as any class keeps. From then on, beside the chunk, static heads keep the sink and the newest `static_frames`; dynamic
    heads the sink, `patch_frames` worth of patches and the newest `recent_frames`.

    heads: a file of head classes, or "tiny", the embedded world's. patches_per_frame: equal runs of a frame's tokens in
    raster order; null: six as published, or the most below six that divide a frame. Sizes in latent frames. A change of the
    prompt changes nothing in the cache.
    """

    heads: HeadClasses | str = "tiny"
    sink_frames: int = 1
    static_frames: int = 1
    recent_frames: int = 1
    patch_frames: int = 1
    patches_per_frame: int | None = None
    warmup_frames: int = 6

    def __post_init__(self) -> None:
        if isinstance(self.heads, str):
            object.__setattr__(self, "heads", read_classes(self.heads))
        # The first layer's are never used: files that differ there only make the same run.
        object.__setattr__(self, "heads", HeadClasses(((), *self.classes.static[1:]), self.classes.heads))
        for name, least in (("sink_frames", 0), ("static_frames", 0), ("recent_frames", 0), ("patch_frames", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {least}")
        if self.patches_per_frame is not None and self.patches_per_frame < 1:
            raise ValueError(f"patches_per_frame={self.patches_per_frame} must be at least 1, or null")

    @property
    def classes(self) -> HeadClasses:
        assert isinstance(self.heads, HeadClasses)
        return self.heads

    def check(self, chunk_frames: int) -> None:
        if self.warmup_frames % chunk_frames or self.warmup_frames < chunk_frames:
            raise ValueError(
                f"warmup_frames={self.warmup_frames} must be a multiple of the chunk of {chunk_frames} latent frames"
            )
        if self.warmup_frames < self.sink_frames + self.recent_frames:
            raise ValueError(
                f"warmup_frames={self.warmup_frames} must hold sink_frames={self.sink_frames} and "
                f"recent_frames={self.recent_frames}"
            )
        if self.patch_frames and not 1 <= self.recent_frames <= chunk_frames:
            raise ValueError(
                f"recent_frames={self.recent_frames} must be 1 to {chunk_frames}, the chunk, for patches to be compared with "
                "the frame after them; or patch_frames=0"
            )
        if self.patch_frames > chunk_frames:
            raise ValueError(
                f"patch_frames={self.patch_frames} must be at most {chunk_frames}, the frames that patches are chosen from"
            )

    def check_model(self, config: WanConfig, slot_tokens: int) -> None:
        self.classes.check(config)
        if self.patches_per_frame is not None and slot_tokens % self.patches_per_frame:
            raise ValueError(
                f"patches_per_frame={self.patches_per_frame} does not divide this model's {slot_tokens} tokens per frame; "
                f"use {patches(None, slot_tokens)}, or null"
            )

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        """Static heads read as much as dynamic ones (as published a frame less): the newest frames have of the dynamic heads'
        room the larger half, patches the other."""
        room = frames - chunk_frames - self.sink_frames
        return {"static_frames": room, "recent_frames": (room + 1) // 2, "patch_frames": room // 2}

    @property
    def _whole(self) -> SinkRecent:
        return SinkRecent(self.sink_frames, max(self.static_frames, self.recent_frames))

    def capacity(self, chunk_frames: int) -> int | None:
        return self._whole.capacity(chunk_frames)

    def role(self, frame: int) -> str:
        return self._whole.role(frame)

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=any(rule.needs(chunk_frames).raw for rule in self.rules[1:]))

    def plan(self, view: View) -> Plan:
        return self._whole.plan(view)

    @property
    def rules(self) -> tuple[Retention, ...]:
        """Of the first layer, of static heads, of dynamic ones."""
        static, dynamic = self.window(self.static_frames), self.window(self.recent_frames)
        if not self.patch_frames:
            return self._whole, static, dynamic
        return self._whole, static, Changing(dynamic, self.patch_frames, self.patches_per_frame)

    def window(self, frames: int) -> SinkRecent:
        """What static heads keep, and dynamic ones beside their patches."""
        return SinkRecent(self.sink_frames, frames)

    def most_heads(self, layers: int, heads: int) -> tuple[int, ...]:
        static = sum(len(h) for h in self.classes.static[1:])
        return heads, static, (layers - 1) * heads - static

    def group(self, view: View) -> Bands | None:
        if view.start < self.warmup_frames:
            return None
        every, none = tuple(range(self.classes.heads)), ((),) * (len(self.classes.static) - 1)
        heads = (every, *none), ((), *self.classes.static[1:]), ((), *self.classes.dynamic[1:])
        newest = (max(self.static_frames, self.recent_frames), self.static_frames, self.recent_frames)
        sinks, past = min(self.sink_frames, len(view.slots)), len(view.slots)
        bands = []
        for name, rule, of, frames in zip(("first_layer", "static", "dynamic"), self.rules, heads, newest, strict=True):
            bands.append(Band(name, rule, of, (*range(sinks), *range(max(sinks, past - frames), past))))
        return Bands(tuple(bands))


@dataclass(frozen=True)
class ForcingKVRelease(ForcingKV):
    """With the release's fault: where a class keeps more frames than a chunk has, values come to lie beside other frames'
    keys. With the published sizes it computes what ForcingKV does."""

    def check(self, chunk_frames: int) -> None:
        super().check(chunk_frames)
        most = max(self.static_frames, self.recent_frames)
        if chunk_frames < most > self.warmup_frames - self.sink_frames:
            raise ValueError(
                f"windows longer than the warm-up leaves behind the sink, {self.warmup_frames - self.sink_frames} latent "
                "frames, fill up in a way of the release that is not known; use cache=forcing_kv"
            )

    def window(self, frames: int) -> SinkRecent:
        return WrittenApart(self.sink_frames, frames)


@dataclass(frozen=True)
class WrittenApart(SinkRecent):
    """A window kept as a ring, into which the release writes a chunk's keys, moves on, and then writes its values: these
    land a chunk further round, and are read in the keys' order."""

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=self.recent_frames > chunk_frames)

    def plan(self, view: View) -> Plan:
        past, window = len(view.slots), self.recent_frames
        sinks = sum(slot.role == "sink" for slot in view.slots)
        if window <= view.chunk or past - sinks < window + view.chunk:
            return super().plan(view)
        ring = view.slots[past - window :]
        return Plan((*range(sinks), Mismatched(ring, past - view.chunk - window, view.chunk)))


@dataclass(frozen=True)
class Mismatched:
    """The ring's slots after a chunk. first: the slot at which it begins, oldest frame first, with the chunk behind it."""

    slots: tuple[Slot, ...]
    first: int
    chunk: int
    waits: ClassVar[bool] = False

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, None]:
        window, end = len(self.slots), self.first + len(self.slots) + self.chunk
        keys = past.keys(range(end - window, end), turned=False)
        # The chunk's values overwrite those beside the oldest keys that stay; the others stay where they are in the ring.
        values = [past.values(range(end - self.chunk, end))]
        for i in range(self.chunk, window):
            at = self.first + (i + self.chunk) % window
            values.append(past.values(range(at, at + 1)))
        return Tokens(keys, torch.cat(values, 2)), None


def patches(wanted: int | None, slot_tokens: int) -> int:
    """Patches of a frame."""
    return wanted or max(n for n in range(1, MOST_PATCHES + 1) if slot_tokens % n == 0)


@dataclass(frozen=True)
class Changing(Retention):
    """Dynamic heads: sink, kept patches, newest frames. Patches are chosen anew after every chunk of these heads."""

    frames: SinkRecent
    patch_frames: int
    patches_per_frame: int | None

    def capacity(self, chunk_frames: int) -> int | None:
        return self.frames.sink_frames + self.patch_frames + self.frames.recent_frames + chunk_frames

    def role(self, frame: int) -> str:
        return self.frames.role(frame)

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=True, origins=True)

    def plan(self, view: View) -> Plan:
        past, recent = len(view.slots), self.frames.recent_frames
        first = next((i for i, slot in enumerate(view.slots) if slot.role == "tail"), past)
        tail = range(max(first, past - recent), past)
        if past - first < recent + view.chunk:  # no chunk since the frames that were recent before it
            return Plan((*range(first), *tail))
        chosen = Patches(range(first, past), view.chunk, self.patch_frames, self.patches_per_frame)
        sinks = sum(slot.role == "sink" for slot in view.slots)
        return Plan((*range(sinks), chosen, *tail))


@dataclass(frozen=True)
class Kept:
    """One choice of patches, for all layers. start: of the chunk before whose first pass they were chosen. patches: int64
    [B, n], candidate frame * patches per frame + patch, ascending. scores: float32 [B, frames, patches]."""

    start: int
    patches: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Patches:
    """The slots of the kept patches. tail: the frames that were recent before the latest chunk, and that chunk, at least one
    frame and `candidates` of them; the first `candidates` are chosen from, by how little each patch is like the same place
    one frame later: cosine of the keys as read, over all dynamic heads of the layer, mean over the patch's tokens."""

    tail: range
    candidates: int
    patch_frames: int
    patches_per_frame: int | None
    waits: ClassVar[bool] = False

    @property
    def slots(self) -> tuple[Slot, ...]:
        return (Slot("top", None),) * self.patch_frames

    def make(self, past: Past, chunk: Pass | None) -> tuple[Tokens, Kept]:
        s, c = past.slot_tokens, self.candidates
        per_frame = patches(self.patches_per_frame, s)
        if "kept" not in past.shared:
            past.shared["kept"] = self._choose(past, per_frame)
        kept: Kept = past.shared["kept"]
        size = s // per_frame
        tokens = (kept.patches[:, :, None] * size + torch.arange(size, device=kept.patches.device)).flatten(1)  # [B, n]
        source = self.tail[:c]
        keys, values = past.keys(source, turned=False), past.values(source)
        index = tokens[:, None, :, None].expand(-1, keys.shape[1], -1, keys.shape[3])
        frames = [past.view.slots[i].frame or 0 for i in source]
        frame = torch.tensor(frames, dtype=torch.int64).to(tokens.device, non_blocking=True)[tokens // s]
        origin = torch.stack([frame, tokens % s, torch.zeros_like(tokens)])[:, :, None]
        return Tokens(keys.gather(2, index), values.gather(2, index), origin), kept

    def _choose(self, past: Past, per_frame: int) -> Kept:
        s, c = past.slot_tokens, self.candidates
        keys = past.keys(self.tail[: c + 1]).float()  # [B, H, (c + 1) * S, D]
        joined = keys.transpose(1, 2).reshape(len(keys), c + 1, s, -1)  # [B, c + 1, S, H * D]
        alike = F.cosine_similarity(joined[:, :-1], joined[:, 1:], dim=3)
        scores = alike.view(len(keys), c, per_frame, -1).mean(3)
        lowest = scores.flatten(1).topk(self.patch_frames * per_frame, dim=1, largest=False).indices
        return Kept(past.view.start, lowest.sort(1).values, scores)
