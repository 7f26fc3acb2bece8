"""The cache of a joint rolling window (Rolling Forcing): the past that several chunks at different noise levels share.

While a window is denoised nothing is stored; the clean pass on its first chunk stores that one. The two kinds of pass read
differently: denoising reads what the policy keeps beside the whole window (as published: the sink, moved right before the
working part, 21 latent frames in all), and the clean pass a sliding window without a sink, at absolute frames.
Stored is what either will still need: 24 frames for a window of 21 with a sink of 3.

Shapes: B batch, H heads, D head dim, L query tokens, S tokens per frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from deepforcing.cache.alignment import Absolute
from deepforcing.cache.policy import Alignment, CachePolicy, Compress, Layout, Retention, Slot
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.wan.attention import attend
from deepforcing.wan.config import WanConfig
from deepforcing.wan.rope import Rope, rotate


def kept(retention: Retention, slots: tuple[Slot, ...], frames: int) -> tuple[int, ...]:
    """Indices of the slots that a query of `frames` latent frames reads. Raises ValueError for policies by token."""
    decision = retention.decide(slots, frames)
    if isinstance(decision, Compress):
        raise ValueError(
            "a rolling window reads whole frames, so a cache that chooses single tokens does not fit it: "
            "use cache=rolling_forcing, or another window with or without a sink"
        )
    return decision


class RollingCache:
    """One batch of videos. policy: what denoising reads, by whole frames. See kv.py for the other arguments."""

    def __init__(
        self,
        policy: CachePolicy,
        config: WanConfig,
        grid: tuple[int, int],
        chunk_frames: int,
        total_frames: int,
        batch: int = 1,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.policy, self.chunk_frames, self.batch = policy, chunk_frames, batch
        self.device = torch.device(device)
        self.rope = Rope(config.rope_split, grid, self.device)
        self.slot_tokens = grid[0] * grid[1]
        window = policy.retention.capacity(chunk_frames)
        self.clean_reads: Retention = KeepAll() if window is None else SinkWindow(window)
        self.capacity = self._room(total_frames)
        shape = (batch, config.num_heads, self.capacity * self.slot_tokens, config.head_dim)
        # Per layer: keys without rotary embedding, keys at their own frames, values.
        self.stores = [
            tuple(torch.empty(shape, dtype=dtype, device=self.device) for _ in range(3))
            for _ in range(config.num_layers)
        ]
        self.slots: tuple[Slot, ...] = ()  # the past in temporal order; the newest chunk once it is committed
        self.storage: list[int] = []  # where each lies in the buffers
        self.start = -1
        self.own: list[int] = []  # buffer slots of the window's first chunk
        self.committing = False
        self.tokens = self.moved = self.own_tokens = torch.empty(0)
        self.rotation = self.turn = torch.empty(0)
        self.attended_tokens = 0

    def begin(self, start: int, frames: int) -> None:
        """The next window: `frames` latent frames from `start` on."""
        if start != self.start:
            self._make_room(start)
        self._plan(self.policy.retention, self.policy.aligned, frames)

    @contextmanager
    def commit(self) -> Iterator[None]:
        """The pass inside is the clean one, on the window's first chunk alone, and stores it."""
        self._plan(self.clean_reads, Absolute(), self.chunk_frames)
        self.committing = True
        try:
            yield
        finally:
            self.committing = False

    def _survivors(self, slots: tuple[Slot, ...]) -> list[int]:
        """Indices of what either kind of pass may still read, at the latest when the window is down to one chunk."""
        retentions = (self.policy.retention, self.clean_reads)
        return sorted({i for retention in retentions for i in kept(retention, slots, self.chunk_frames)})

    def _room(self, total_frames: int) -> int:
        """Slots needed, found by going through the whole video."""
        slots: tuple[Slot, ...] = ()
        most = 0
        for start in range(0, total_frames, self.chunk_frames):
            most = max(most, len(slots) + self.chunk_frames)
            slots = self._with_chunk(slots, start)
            slots = tuple(slots[i] for i in self._survivors(slots))
        return most

    def _with_chunk(self, slots: tuple[Slot, ...], start: int) -> tuple[Slot, ...]:
        role = self.policy.retention.role
        return (*slots, *(Slot(role(f), f) for f in range(start, start + self.chunk_frames)))

    def _make_room(self, start: int) -> None:
        """The chunk before becomes past; what neither kind of pass will read again goes."""
        slots = self._with_chunk(self.slots, self.start) if self.own else ()
        storage = [*self.storage, *self.own]
        stay = self._survivors(slots)
        self.slots, self.storage = tuple(slots[i] for i in stay), [storage[i] for i in stay]
        taken = set(self.storage)
        free = (i for i in range(self.capacity) if i not in taken)
        self.own = [next(free) for _ in range(self.chunk_frames)]
        self.own_tokens = self._token_index(self.own)
        self.start = start

    def _plan(self, retention: Retention, alignment: Alignment, frames: int) -> None:
        """Which stored tokens the next passes read, and how those that are not read at their own frames are turned."""
        chosen = kept(retention, self.slots, frames)
        slots = tuple(self.slots[i] for i in chosen)
        positions = alignment.positions(Layout(slots, self.start))
        self.tokens = self._token_index([self.storage[i] for i in chosen])
        moved = [
            (i, p)
            for i, (slot, p) in enumerate(zip(slots, positions, strict=True))
            if p is not None and p != slot.frame
        ]
        self.moved = self._token_index([i for i, _ in moved])
        self.turn = self.rope.frames([p for _, p in moved])
        self.rotation = self.rope.frames(range(self.start, self.start + frames))
        self.attended_tokens = (len(slots) + frames) * self.slot_tokens

    def _token_index(self, slots: list[int]) -> Tensor:
        first = torch.tensor(slots, dtype=torch.int64)[:, None] * self.slot_tokens
        return (first + torch.arange(self.slot_tokens)).flatten().to(self.device, non_blocking=True)

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention over past and window (Memory protocol)."""
        raw, turned, values = self.stores[layer]
        q, k = rotate(q_BHLD, self.rotation), rotate(k_BHLD, self.rotation)
        past = turned[:, :, self.tokens]
        if len(self.moved):
            past[:, :, self.moved] = rotate(raw[:, :, self.tokens[self.moved]], self.turn)
        out = attend(q, torch.cat([past, k], 2), torch.cat([values[:, :, self.tokens], v_BHLD], 2))
        if self.committing:
            own = self.own_tokens
            raw[:, :, own], turned[:, :, own], values[:, :, own] = k_BHLD, k, v_BHLD
        return out

    def keys(self, layer: int) -> Tensor:
        """Stored keys in temporal order, the sink un-rotated, the rest at its own frames: [B, T, H, D]."""
        raw, turned, _ = self.stores[layer]
        sinks = sum(slot.role == "sink" for slot in self.slots) or sum(
            self.policy.retention.role(f) == "sink" for f in range(self.start, self.start + len(self.own))
        )
        order = [*self.storage, *self.own]
        sink, rest = self._token_index(order[:sinks]), self._token_index(order[sinks:])
        return torch.cat([raw[:, :, sink], turned[:, :, rest]], 2).transpose(1, 2)
