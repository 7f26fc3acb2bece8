"""What the KV cache stores, per layer: keys, values, and where single tokens come from.

A `Store` is a value that makes the layers and counts their bytes; Dense keeps everything in the run's dtype.

Shapes: B batch, H heads, D head dim, S tokens per frame (slot), T tokens, G = H if heads choose for themselves, else 1.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from deepforcing.wan.rope import rotate

if TYPE_CHECKING:
    from deepforcing.cache.policy import Needs, Tokens


@dataclass(frozen=True)
class Room:
    """What is stored for one batch of videos. heads: of every layer. raw: un-rotated keys as well, because keys are read
    at other positions than their own, or content is made from them."""

    heads: tuple[int, ...]
    head_dim: int
    slots: int
    slot_tokens: int
    needs: Needs
    raw: bool
    batch: int = 1

    @property
    def turned(self) -> int:
        """Slots whose keys are held as they are read: the first so many."""
        return self.slots if self.needs.reads is None or not self.raw else min(self.slots, self.needs.reads)


class Store(Protocol):
    def check(self, head_dim: int, raw: bool) -> None:
        """Raise ValueError for a model or a policy that does not fit. raw: as Room.raw."""
        ...

    def layers(self, room: Room, dtype: torch.dtype, device: torch.device) -> Sequence[Layer]: ...
    def bytes(self, room: Room, size: int) -> int:
        """Held by the layers. size: bytes of one number of the run's dtype."""
        ...


class Layer(ABC):
    """Storage of one layer. Slot i of the buffers is tokens [i*S, (i+1)*S).

    raw: keys without rotary embedding, None where none are kept. k: keys as read, of the slots that are (Room.turned). v:
    values; [B, H, T, D] each. origin:
    int64 [3, B, G, T]: frame, place, reuse. visible: bool [B, G, T]; None: every token is. past_queries: see Needs.queries.
    gap: float32 [B, G, T], see Needs.gap.
    """

    k: Tensor
    v: Tensor
    raw: Tensor | None

    def __init__(self, room: Room, heads: int, dtype: torch.dtype, device: torch.device) -> None:
        self.slot_tokens, self.dtype = room.slot_tokens, dtype
        single = (room.batch, heads if room.needs.per_head else 1, room.slots * room.slot_tokens)
        self.origin = torch.zeros((3, *single), dtype=torch.int64, device=device) if room.needs.origins else None
        self.gap = None if room.needs.gap is None else torch.zeros(single, dtype=torch.float32, device=device)
        self.visible: Tensor | None = None
        self.past_queries: Tensor | None = None

    @property
    def held(self) -> int:
        """Bytes of the tensors that it holds now, for all videos of the batch."""
        return tensor_bytes(vars(self))

    @abstractmethod
    def put(self, at: Tensor, k: Tensor, v: Tensor) -> None:
        """Keys as read and values of these tokens, for now."""

    @abstractmethod
    def keep(self, at: Tensor, raw: Tensor, rotation: Tensor) -> None:
        """The tokens put last are final. raw: their un-rotated keys; rotation: by which they were put."""

    @abstractmethod
    def turn(self, at: slice, rotation: Tensor) -> None:
        """Bring the keys as read to a position, from the un-rotated ones. rotation: broadcastable to [B, H, T, P]."""

    @abstractmethod
    def write(self, at: Tensor, keys: Tensor, values: Tensor) -> None:
        """Un-rotated keys and values of content made anew; they are turned afterwards."""

    @abstractmethod
    def shift(self, source: Tensor, to: Tensor) -> None:
        """Keys and values to other places, all at once. Whole slots."""

    def tensors(self) -> tuple[Tensor | None, ...] | None:
        """All that a pass reads and writes here, if it does so in place; None: it makes new ones."""
        return None

    def settle(self) -> None:
        """The chunk that was put last is past."""
        return None

    def read(self, tokens: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first `tokens`."""
        return self.k[:, :, :tokens], self.v[:, :, :tokens]

    def pick(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of these tokens."""
        return self.k.index_select(2, index), self.v.index_select(2, index)

    def fill(self, at: Tensor, tokens: Tokens) -> None:
        """Content made anew."""
        count = len(at)
        self.write(at, tokens.keys[:, :, :count], tokens.values[:, :, :count])
        if self.origin is not None and tokens.origin is not None:
            self.origin.index_copy_(3, at, tokens.origin[..., :count])
        if self.gap is not None and tokens.gap is not None:
            self.gap.index_copy_(2, at, tokens.gap[..., :count])
        if tokens.visible is not None and self.visible is None:
            shape = (*tokens.visible.shape[:2], self.v.shape[2])
            self.visible = torch.ones(shape, dtype=torch.bool, device=tokens.visible.device)
        if self.visible is not None:
            self.visible.fill_(True)
            if tokens.visible is not None:
                self.visible.index_copy_(2, at, tokens.visible[:, :, :count])

    def move(self, source: Tensor, to: Tensor) -> None:
        """Tokens to other places, all at once. Whole slots."""
        self.shift(source, to)
        if self.visible is not None:
            self.visible.index_copy_(2, to, self.visible.index_select(2, source))
        if self.origin is not None:
            self.origin.index_copy_(3, to, self.origin.index_select(3, source))
        if self.gap is not None:
            self.gap.index_copy_(2, to, self.gap.index_select(2, source))

    def take(self, to: Tensor, other: Layer, source: Tensor, heads: Tensor, apart: bool) -> None:
        """Tokens of another layer, which has all heads. apart: its videos' heads count as heads of one video."""

        def of(x: Tensor) -> Tensor:
            return (x.flatten(0, 1)[None] if apart else x).index_select(1, heads)

        keys, values = other.pick(source)
        self.put(to, of(keys), of(values))
        raw = other.raw
        self.write(to, of(keys) if raw is None else of(raw.index_select(2, source)), of(values))

    def remember(self, q: Tensor, tokens: int) -> None:
        """Keep the latest `tokens` rotated queries; once there are so many, always in the same tensor."""
        past = self.past_queries
        if past is None or past.shape[2] < tokens:
            grown = q if past is None or q.shape[2] >= tokens else torch.cat([past, q], 2)
            self.past_queries = grown[:, :, -tokens:].clone()
        elif q.shape[2] >= tokens:
            past.copy_(q[:, :, -tokens:])
        else:
            past.copy_(torch.cat([past[:, :, q.shape[2] :], q], 2))


def tensor_bytes(value: object) -> int:
    """Of tensors, also inside of mappings and tuples."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(tensor_bytes, inside))


class DenseLayer(Layer):
    """Buffers in the run's dtype."""

    def __init__(self, room: Room, heads: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(room, heads, dtype, device)
        shape = (room.batch, heads, room.slots * room.slot_tokens, room.head_dim)
        turned = (*shape[:2], room.turned * room.slot_tokens, room.head_dim)
        self.k = torch.empty(turned, dtype=dtype, device=device)
        self.v = torch.empty(shape, dtype=dtype, device=device)
        self.raw = torch.empty(shape, dtype=dtype, device=device) if room.raw else None

    def tensors(self) -> tuple[Tensor | None, ...]:
        return self.k, self.v, self.raw, self.origin, self.visible, self.past_queries

    def put(self, at: Tensor, k: Tensor, v: Tensor) -> None:
        self.k.index_copy_(2, at, k)
        self.v.index_copy_(2, at, v)

    def keep(self, at: Tensor, raw: Tensor, rotation: Tensor) -> None:
        if self.raw is not None:
            self.raw.index_copy_(2, at, raw)

    def turn(self, at: slice, rotation: Tensor) -> None:
        assert self.raw is not None
        self.k[:, :, at] = rotate(self.raw[:, :, at], rotation)

    def write(self, at: Tensor, keys: Tensor, values: Tensor) -> None:
        if self.raw is not None:
            self.raw.index_copy_(2, at, keys)
        self.v.index_copy_(2, at, values)

    def shift(self, source: Tensor, to: Tensor) -> None:
        k = self.k if self.k.shape == self.v.shape else None  # else what is moved is turned again where it is read
        for buffer in (self.raw, k, self.v):
            if buffer is not None:
                buffer.index_copy_(2, to, buffer.index_select(2, source))


@dataclass(frozen=True)
class Dense:
    """Everything in the run's dtype: keys as read, values, and un-rotated keys where anything is turned."""

    def check(self, head_dim: int, raw: bool) -> None:
        return None

    def layers(self, room: Room, dtype: torch.dtype, device: torch.device) -> list[Layer]:
        return [DenseLayer(room, heads, dtype, device) for heads in room.heads]

    def bytes(self, room: Room, size: int) -> int:
        slots = room.turned + (2 if room.raw else 1) * room.slots
        keys_values = sum(room.heads) * slots * room.slot_tokens * room.head_dim * size
        return room.batch * (keys_values + kept_for_choosing(room, size))


def kept_for_choosing(room: Room, size: int) -> int:
    """Bytes per video of single tokens' origins and gaps and of the queries that score: the same for every store."""
    heads, needs, tokens = sum(room.heads), room.needs, room.slots * room.slot_tokens
    groups = heads if needs.per_head else len(room.heads)
    origins = 3 * groups * tokens * 8 if needs.origins else 0
    gaps = 0 if needs.gap is None else (groups + 1) * tokens * 4  # and those of the newest frames (gaps.py)
    return origins + gaps + heads * needs.queries * room.slot_tokens * room.head_dim * size
