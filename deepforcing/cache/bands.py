"""Heads in bands: heads of one model whose caches hold different things.

A `Banded` retention says what all heads keep until they part ways, and at the start of which chunk they do. From then on
every `Band` of heads has a KVCache of its own, under a retention of its own and the policy's alignment, store and commit
rule. The transformer does not notice: a pass over bands hands every head to the cache of its band.

A layer may have no heads in a band. Heads may part ways per video of a batch: the heads of all videos are then counted one
after the other, as those of one video, because attention knows neither heads nor videos of each other.

Shapes: B batch, H heads, L query tokens, D head dim.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.observe import Seen, Watch
from deepforcing.cache.passes import CacheMemory
from deepforcing.cache.policy import CachePolicy, Retention, Slot, View
from deepforcing.cache.switch import Recompute
from deepforcing.wan.config import WanConfig


@dataclass(frozen=True)
class Band:
    """Heads under one rule. heads: of every layer, ascending. takes: the slots of the view that it begins with."""

    name: str
    retention: Retention
    heads: tuple[tuple[int, ...], ...]
    takes: tuple[int, ...]


@dataclass(frozen=True)
class Bands:
    """All heads of the model. per_video: head h of video b is counted as head b * H + h."""

    bands: tuple[Band, ...]
    per_video: bool = False


class Banded(Retention, Protocol):
    """The rule of all heads until they part ways, and how they do."""

    @property
    def rules(self) -> tuple[Retention, ...]:
        """Of every band there can be."""
        ...

    def most_heads(self, layers: int, heads: int) -> tuple[int, ...]:
        """For every rule, the heads of all layers together that one video has at most under it; `heads`: of a layer."""
        ...

    def commit_sees(self, chunk_frames: int) -> int:
        """Latent frames that commit passes have to see, if only because heads are told apart by them."""
        return 0

    def group(self, view: View) -> Bands | None:
        """Asked at the start of every chunk, as plan is, until it answers with bands."""
        ...


@dataclass(frozen=True)
class BandedPolicy(CachePolicy):
    """A policy of heads in bands. When the prompt changes the caches stay as they are: there is no rule for more.

    A band's alignment sees the slots of the band alone. bytes() counts the cache of all heads as well as the bands', which
    are held together while heads part ways, and the largest bands where their sizes differ from video to video.
    """

    retention: Banded

    def of(self, rule: Retention) -> CachePolicy:
        """The policy of heads under one rule."""
        return CachePolicy(rule, self.alignment, self.name, self.commit_frames, self.store, self.bias)

    @property
    def parts(self) -> list[CachePolicy]:
        return [self.of(rule) for rule in (self.retention, *self.retention.rules)]

    @property
    def recomputes(self) -> bool:
        return False

    def max_frames(self, chunk_frames: int) -> int | None:
        limits = [part.max_frames(chunk_frames) for part in self.parts]
        return min((limit for limit in limits if limit is not None), default=None)

    def check(self, chunk_frames: int, total_frames: int) -> None:
        super().check(chunk_frames, total_frames)
        for part in self.parts[1:]:
            part.check(chunk_frames, total_frames)
        sees = self.retention.commit_sees(chunk_frames)
        if self.commit_frames is not None and self.commit_frames < sees:
            raise ValueError(
                f"commit_frames={self.commit_frames} is too few for cache {self.name or 'policy'!r}, which tells heads apart "
                f"by what commit passes see; use {sees} or more, or null"
            )

    def slots(self, chunk_frames: int, total_frames: int) -> int:
        return max(part.slots(chunk_frames, total_frames) for part in self.parts)

    def bytes(
        self, config: WanConfig, slot_tokens: int, chunk_frames: int, total_frames: int, size: int, batch: int = 1
    ) -> int:
        counts = (None, *self.retention.most_heads(config.num_layers, config.num_heads))
        total = 0
        for part, count in zip(self.parts, counts, strict=True):
            room = part.room(config, slot_tokens, chunk_frames, total_frames, batch)
            total += self.store.bytes(room if count is None else replace(room, heads=(count,)), size)
        return total

    def new_cache(
        self,
        config: WanConfig,
        grid: tuple[int, int],
        chunk_frames: int,
        total_frames: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        watch: Watch | None = None,
    ) -> HeadBands:
        return HeadBands(self, config, grid, chunk_frames, total_frames, batch, dtype, device, watch)


class HeadBands:
    """One batch of videos under a BandedPolicy; the interface is KVCache's (passes.Cache).

    whole: the cache of all heads, until they part ways. bands: by name, from then on. heads: per band, of every layer.
    """

    def __init__(
        self,
        policy: BandedPolicy,
        config: WanConfig,
        grid: tuple[int, int],
        chunk_frames: int,
        total_frames: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
        watch: Watch | None = None,
    ) -> None:
        policy.check(chunk_frames, total_frames)
        self.policy, self.config, self.grid, self.watch = policy, config, grid, watch
        self.chunk_frames, self.total_frames, self.batch = chunk_frames, total_frames, batch
        self.dtype, self.device = dtype, torch.device(device)
        self.capacity = policy.slots(chunk_frames, total_frames)
        self.whole: KVCache | None = KVCache(
            policy.of(policy.retention), config, grid, chunk_frames, total_frames, batch, dtype, device, watch
        )
        self.bands: dict[str, KVCache] = {}
        self.heads: dict[str, list[Tensor]] = {}
        self.per_video = False
        self._denoise, self._commit = Split(self), Split(self)

    def begin(self, start: int, frames: int | None = None, switched: bool = False, cut: bool = False) -> None:
        """Settle everything for the chunk whose first latent frame is `start` (KVCache.begin), after heads have parted
        ways if now is the time. Raises ValueError for a joint window."""
        if frames is not None:
            raise ValueError("a cache in bands of heads does not work under a joint window")
        if self.whole is not None:
            self.whole.absorb()
            view = replace(self.whole.view, slots=tuple(self.whole.slots), start=start, switched=switched, cut=cut)
            parted = self.policy.retention.group(view)
            if parted is not None:
                self._part(self.whole, parted, start)
                self.whole = None
        for cache in self.caches:
            cache.begin(start, switched=switched, cut=cut)

    @property
    def gaps(self) -> None:
        """Bands keep nothing of the denoising."""
        return None

    @property
    def caches(self) -> list[KVCache]:
        return [self.whole] if self.whole is not None else list(self.bands.values())

    @property
    def attended_tokens(self) -> float:
        """Keys that each query of the current chunk sees while it is denoised, on average over layers, heads and videos."""
        if self.whole is not None:
            return self.whole.attended_tokens
        weights = {name: sum(len(heads) for heads in self.heads[name]) for name in self.bands}
        mean = sum(self.bands[name].attended_tokens * n for name, n in weights.items()) / sum(weights.values())
        return int(mean) if mean.is_integer() else mean

    @property
    def held(self) -> int:
        """Bytes that are stored for all videos of the batch."""
        return sum(cache.held for cache in self.caches)

    def denoise(self, step: int = 0) -> CacheMemory:
        """The transformer's memory for the chunk's denoising pass `step`."""
        if self.whole is not None:
            return self.whole.denoise(step)
        return self._denoise.over([band.denoise(step) for band in self.bands.values()])

    def commit(self) -> CacheMemory:
        """The memory of the clean pass, which stores the chunk."""
        if self.whole is not None:
            return self.whole.commit()
        return self._commit.over([band.commit() for band in self.bands.values()])

    def recompute(self, keep_sink: bool) -> Recompute:
        raise ValueError("a cache in bands of heads has no rule for computing its frames again; use on_switch=nothing")

    def _part(self, whole: KVCache, parted: Bands, start: int) -> None:
        self.per_video = parted.per_video
        width = self.config.num_heads * (self.batch if parted.per_video else 1)
        for layer in range(self.config.num_layers):
            found = sorted(head for band in parted.bands for head in band.heads[layer])
            if found != list(range(width)):
                raise ValueError(
                    f"layer {layer}: bands must share out {width} heads, each to one band; they hold {found}"
                )
        for band in parted.bands:
            if not any(band.heads):
                continue
            heads = [torch.tensor(h, dtype=torch.int64).to(self.device, non_blocking=True) for h in band.heads]
            cache = KVCache(
                self.policy.of(band.retention), self.config, self.grid, self.chunk_frames, self.total_frames,
                1 if parted.per_video else self.batch, self.dtype, self.device,
                None if self.watch is None else Told(self.watch, band.name, heads), [len(h) for h in heads],
            )  # fmt: skip
            take_over(cache, whole, band.takes, heads, parted.per_video, start)
            self.bands[band.name], self.heads[band.name] = cache, heads


def take_over(
    band: KVCache, whole: KVCache, takes: Sequence[int], heads: Sequence[Tensor], per_video: bool, start: int
) -> None:
    """Give a new band the slots that it begins with, and those that only its commit passes still read."""
    taken = set(takes)
    left = [(slot, at) for i, (slot, at) in enumerate(zip(whole.slots, whole.places, strict=True)) if i not in taken]
    extra: list[tuple[Slot, int]] = [(s, at) for s, at in (*whole.extra, *left) if band.commits_read(s, start)]
    sources = [*(whole.places[i] for i in takes), *(at for _, at in extra)]
    band.slots, band.places = [whole.slots[i] for i in takes], list(range(len(taken)))
    band.extra = [(slot, len(taken) + i) for i, (slot, _) in enumerate(extra)]
    band.rendered = {to: whole.rendered[at] for to, at in enumerate(sources) if at in whole.rendered}
    last, drops = whole.view, start if left else None
    band.view = replace(
        band.view,
        first_drop=drops if last.first_drop is None else last.first_drop,
        last_drop=last.last_drop if drops is None else drops,
    )
    source, to = whole.tokens(sources), band.tokens(range(len(sources)))
    for layer in band.active:
        band.layers[layer].take(to, whole.layers[layer], source, heads[layer], per_video)


class Told:
    """A band's observer: tells the video's own whose heads it saw."""

    def __init__(self, watch: Watch, band: str, heads: Sequence[Tensor]) -> None:
        self.watch, self.band, self.heads = watch, band, heads

    def __call__(self, seen: Seen) -> None:
        self.watch(replace(seen, band=self.band, heads=self.heads[seen.layer]))


class Split:
    """One kind of pass over the bands, as the transformer sees it (passes.CacheMemory)."""

    def __init__(self, cache: HeadBands) -> None:
        self.cache = cache
        self.memories: list[CacheMemory] = []

    def over(self, memories: list[CacheMemory]) -> Split:
        self.memories = memories
        return self

    @property
    def steady(self) -> bool:
        return all(memory.steady for memory in self.memories)

    def state(self) -> tuple[int, ...] | None:
        """See CacheMemory. Heads keep their tensors once they have parted ways."""
        states = [memory.state() for memory in self.memories]
        known = [state for state in states if state is not None]
        return tuple(itertools.chain(*known)) if len(known) == len(states) else None

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention over past and chunk, every head in its band (Memory protocol)."""
        bands = [heads[layer] for heads in self.cache.heads.values()]
        held = [(h, memory) for h, memory in zip(bands, self.memories, strict=True) if len(h)]
        if len(held) == 1 and not self.cache.per_video:
            return held[0][1].attend(layer, q_BHLD, k_BHLD, v_BHLD)
        q, k, v = q_BHLD, k_BHLD, v_BHLD
        if self.cache.per_video:
            q, k, v = (x.flatten(0, 1)[None] for x in (q, k, v))
        out = torch.empty_like(q, memory_format=torch.contiguous_format)
        for heads, memory in held:
            own = (x.index_select(1, heads) for x in (q, k, v))
            out.index_copy_(1, heads, memory.attend(layer, *own))
        return out.view(q_BHLD.shape)
