"""A store that keeps keys and values quantised and reads them back when they are attended to.

Quantised are the un-rotated keys where the policy turns keys, the rotated ones otherwise, so re-alignment adds no error. The
current chunk is exact in its own passes; what it commits is quantised once. Selected by `cache.store=rtn|kivi|quarot|prq`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from deepforcing.cache.quantisers import Kivi, Parts, Prq, Quantiser, Quarot, Rtn
from deepforcing.cache.storage import DenseLayer, Layer, Room, kept_for_choosing
from deepforcing.wan.rope import rotate


@dataclass(frozen=True)
class Quantised:
    """quantiser: see quantisers.py. release: as kv-quant-longhorizon does it, for comparing with it: the whole buffer, its
    empty end included, is quantised again after every pass, in blocks that heed neither frames nor chunks. Otherwise every
    frame is quantised by itself, when it is committed."""

    quantiser: Quantiser = field(default_factory=Rtn)
    release: bool = False

    def check(self, head_dim: int, raw: bool) -> None:
        """Raises ValueError."""
        self.quantiser.check(head_dim)
        if self.release and raw:
            raise ValueError(
                "store.release=true quantises rotated keys again and again, which a policy that turns or makes keys "
                "cannot work with: leave it out, or use a cache with alignment=absolute"
            )

    def layers(self, room: Room, dtype: torch.dtype, device: torch.device) -> list[Layer]:
        kind = RequantisedLayer if self.release else QuantisedLayer
        return [  # a layer may have no heads in a band
            kind(self.quantiser, room, heads, dtype, device) if heads else DenseLayer(room, 0, dtype, device)
            for heads in room.heads
        ]

    def bytes(self, room: Room, size: int) -> int:
        """Codes, scales and, where keys are turned, their rotations; and one layer's keys and values read back."""
        if not sum(room.heads):
            return 0
        one = QuantisedLayer(self.quantiser, room, max(room.heads), torch.float32, torch.device("meta"))
        of_head = sum(t.numel() * t.element_size() for t in (*one.key_parts, *one.value_parts)) / max(*room.heads, 1)
        rotations = 0 if one.rotation is None else one.rotation.numel() * 8 * len(room.heads)
        workspace = 2 * room.batch * max(room.heads) * room.slots * room.slot_tokens * room.head_dim * 4
        return int(of_head * sum(room.heads)) + rotations + workspace + room.batch * kept_for_choosing(room, size)


def rtn(bits: int = 4, block_tokens: int = 16, release: bool = False) -> Quantised:
    return Quantised(Rtn(bits, block_tokens), release)


def kivi(bits: int = 4, value_bits: int | None = None, block_tokens: int = 16, release: bool = False) -> Quantised:
    return Quantised(Kivi(bits, value_bits, block_tokens, clipped=release), release)


def quarot(bits: int = 4, block_tokens: int = 16, release: bool = False) -> Quantised:
    return Quantised(Quarot(bits, block_tokens), release)


def prq(bits: int = 2, residual_bits: int = 4, block_tokens: int = 16, release: bool = False) -> Quantised:
    return Quantised(Prq(bits, residual_bits, block_tokens), release)


class QuantisedLayer(Layer):
    """Storage of one layer; k, v and raw are read back when they are asked for."""

    def __init__(self, quantiser: Quantiser, room: Room, heads: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(room, heads, dtype, device)
        self.quantiser = quantiser
        empty = torch.zeros(
            (room.batch, heads, room.slots, room.slot_tokens, room.head_dim), dtype=dtype, device=device
        )
        self.key_parts, self.value_parts = quantiser.encode(empty, False), quantiser.encode(empty, True)
        self.rotation: Tensor | None = None
        if room.raw:  # by which the keys are turned when they are read
            turned = (room.batch, heads if room.needs.per_head else 1) if room.needs.origins else (1, 1)
            shape = (*turned, room.slots * room.slot_tokens, room.head_dim // 2)
            self.rotation = torch.ones(shape, dtype=torch.complex64, device=device)
        self.fresh: tuple[Tensor, Tensor, Tensor] | None = None  # the current chunk's tokens, keys and values, exact

    @property
    def stored(self) -> Tensor:
        """The keys that are quantised, [B, H, T, D]."""
        return self.quantiser.decode(self.key_parts, False, self.slot_tokens).flatten(2, 3).to(self.dtype)

    @property
    def raw(self) -> Tensor | None:  # type: ignore[override]
        return None if self.rotation is None else self.stored

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        keys = self.stored if self.rotation is None else rotate(self.stored, self.rotation)
        return keys if self.fresh is None else keys.index_copy(2, self.fresh[0], self.fresh[1])

    @property
    def v(self) -> Tensor:  # type: ignore[override]
        values = self.quantiser.decode(self.value_parts, True, self.slot_tokens).flatten(2, 3).to(self.dtype)
        return values if self.fresh is None else values.index_copy(2, self.fresh[0], self.fresh[2])

    def put(self, at: Tensor, k: Tensor, v: Tensor) -> None:
        if self.fresh is not None and len(at) < len(self.fresh[0]):  # tokens that stand in for the chunk's first ones
            count = len(at)
            k, v = (torch.cat([new, old[:, :, count:]], 2) for new, old in ((k, self.fresh[1]), (v, self.fresh[2])))
            at = self.fresh[0]
        self.fresh = at, k, v

    def keep(self, at: Tensor, raw: Tensor, rotation: Tensor) -> None:
        assert self.fresh is not None
        self.write(at, self.fresh[1] if self.rotation is None else raw, self.fresh[2])
        if self.rotation is not None:
            self.rotation[:, :, at] = rotation

    def settle(self) -> None:
        self.fresh = None

    def turn(self, at: slice, rotation: Tensor) -> None:
        assert self.rotation is not None
        self.rotation[:, :, at] = rotation

    def write(self, at: Tensor, keys: Tensor, values: Tensor) -> None:
        s = self.slot_tokens
        slots = at[::s] // s
        for parts, tensor, is_values in ((self.key_parts, keys, False), (self.value_parts, values, True)):
            spans = tensor.reshape(*tensor.shape[:2], len(slots), s, tensor.shape[3])
            for part, new in zip(parts, self.quantiser.encode(spans, is_values), strict=True):
                part.index_copy_(0, slots, new)

    def shift(self, source: Tensor, to: Tensor) -> None:
        s = self.slot_tokens
        for part in (*self.key_parts, *self.value_parts):
            part.index_copy_(0, to[::s] // s, part.index_select(0, source[::s] // s))
        if self.rotation is not None:
            self.rotation.index_copy_(2, to, self.rotation.index_select(2, source))


class RequantisedLayer(Layer):
    """As in the release: everything is read back, written over with the chunk and quantised again in every pass."""

    raw = None

    def __init__(self, quantiser: Quantiser, room: Room, heads: int, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__(room, heads, dtype, device)
        self.quantiser, self.length = quantiser, room.slots * room.slot_tokens
        zeros = torch.zeros((room.batch, heads, self.length, room.head_dim), dtype=dtype, device=device)
        self.parts = self._encode(zeros, zeros)
        self.exact = zeros, zeros  # of the running pass

    def _encode(self, k: Tensor, v: Tensor) -> tuple[Parts, Parts]:
        return self.quantiser.encode(k[:, :, None], False), self.quantiser.encode(v[:, :, None], True)

    def _decode(self, values: bool) -> Tensor:
        return self.quantiser.decode(self.parts[values], values, self.length).flatten(2, 3).to(self.dtype)

    @property
    def k(self) -> Tensor:  # type: ignore[override]
        return self._decode(False)

    @property
    def v(self) -> Tensor:  # type: ignore[override]
        return self._decode(True)

    def put(self, at: Tensor, k: Tensor, v: Tensor) -> None:
        self.exact = self.k.index_copy(2, at, k), self.v.index_copy(2, at, v)
        self.parts = self._encode(*self.exact)

    def keep(self, at: Tensor, raw: Tensor, rotation: Tensor) -> None:
        return None

    def read(self, tokens: int) -> tuple[Tensor, Tensor]:
        return self.exact[0][:, :, :tokens], self.exact[1][:, :, :tokens]

    def turn(self, at: slice, rotation: Tensor) -> None:
        raise AssertionError("a policy that turns keys was refused")

    def write(self, at: Tensor, keys: Tensor, values: Tensor) -> None:
        self.put(at, keys, values)

    def shift(self, source: Tensor, to: Tensor) -> None:
        self.parts = self._encode(*(t.index_copy(2, to, t.index_select(2, source)) for t in (self.k, self.v)))
