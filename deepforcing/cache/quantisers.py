"""Quantisers of keys and values: tensors to small integers with scales, and back.

Tokens are quantised in blocks of `block_tokens` consecutive ones, the last filled up with zeros. Scales and zero points are
kept as float16; codes are computed with the scale before that rounding, as published. Codes of 2 and 4 bits are packed, so
that what is stored is as small as it is said to be.

Source of the formulas: arXiv 2602.02958's neighbourhood of methods (RTN, KIVI, QuaRot, PRQ) as implemented for Self Forcing in
kv-quant-longhorizon (THIRD_PARTY.md), whose unit tensors are replayed exactly.

Shapes: B batch, H heads, N spans that are quantised apart, L tokens of a span, D head dim, K blocks of a span.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol

import torch
from torch import Tensor

Parts = tuple[Tensor, ...]
FLOOR = 1e-8
BITS = (2, 4, 8)


class Quantiser(Protocol):
    def encode(self, x_BHNLD: Tensor, values: bool) -> Parts:
        """values: whether these are values (keys otherwise). Every part has N as its first axis."""
        ...

    def decode(self, parts: Parts, values: bool, tokens: int) -> Tensor:
        """float32 [B, H, N, tokens, D]."""
        ...

    def check(self, head_dim: int) -> None:
        """Raise ValueError for a head that does not fit."""
        ...


def check_bits(bits: int, block_tokens: int, name: str = "bits") -> None:
    if bits not in BITS:
        raise ValueError(f"store.{name}={bits} must be one of {', '.join(map(str, BITS))}")
    if block_tokens < 1:
        raise ValueError(f"store.block_tokens={block_tokens} must be at least 1")


def blocks(x_BHNLD: Tensor, size: int) -> Tensor:
    """[B, H, N, K, size, D] in float32, filled up with zeros."""
    missing = -x_BHNLD.shape[3] % size
    padded = torch.nn.functional.pad(x_BHNLD.float(), (0, 0, 0, missing))
    return padded.view(*padded.shape[:3], padded.shape[3] // size, size, padded.shape[4])  # N may be 0


def tokens_of(x_BHNKSD: Tensor, tokens: int) -> Tensor:
    return x_BHNKSD.flatten(3, 4)[:, :, :, :tokens]


def spans_first(x: Tensor) -> Tensor:
    return x.movedim(2, 0).contiguous()


def pack(codes: Tensor, bits: int) -> Tensor:
    """Unsigned codes along the last axis into bytes, 8 // bits of them each."""
    per_byte = 8 // bits
    missing = -codes.shape[-1] % per_byte
    grouped = torch.nn.functional.pad(codes.to(torch.uint8), (0, missing)).unflatten(-1, (-1, per_byte))  # type: ignore[no-untyped-call]
    shifts = torch.arange(0, 8, bits, device=codes.device, dtype=torch.uint8)
    packed: Tensor = (grouped << shifts).sum(-1, dtype=torch.uint8)
    return packed


def unpack(packed: Tensor, bits: int, length: int) -> Tensor:
    shifts = torch.arange(0, 8, bits, device=packed.device, dtype=torch.uint8)
    codes: Tensor = (packed[..., None] >> shifts) & (2**bits - 1)
    return codes.flatten(-2)[..., :length]


@dataclass(frozen=True)
class Rtn:
    """Round to nearest, symmetric: one scale per block, head and channel. bits: 2, 4 or 8."""

    bits: int = 4
    block_tokens: int = 16

    def __post_init__(self) -> None:
        check_bits(self.bits, self.block_tokens)

    def check(self, head_dim: int) -> None:
        return None

    def encode(self, x_BHNLD: Tensor, values: bool) -> Parts:
        x = blocks(x_BHNLD, self.block_tokens)
        top = 2 ** (self.bits - 1)
        scale = (x.abs().amax(4, keepdim=True) / (top - 1)).clamp_min(FLOOR)
        codes = (x / scale).round().clamp(-top, top - 1) + top
        return spans_first(pack(codes, self.bits)), spans_first(scale.half())

    def decode(self, parts: Parts, values: bool, tokens: int) -> Tensor:
        packed, scale = (part.movedim(0, 2) for part in parts)
        codes = unpack(packed, self.bits, scale.shape[5]).float() - 2 ** (self.bits - 1)
        return tokens_of(codes * scale.float(), tokens)


@dataclass(frozen=True)
class Kivi:
    """Asymmetric: keys with a scale and a least value per block, head and channel, values per token over all heads and
    channels.

    bits: of keys; value_bits: of values, None the same. 2, 4 or 8. clipped: as published, a zero point rounded and clipped to
    the codes' range in place of the least value, so that a block of one sign, far from zero, is lost.
    """

    bits: int = 4
    value_bits: int | None = None
    block_tokens: int = 16
    clipped: bool = False

    def __post_init__(self) -> None:
        check_bits(self.bits, self.block_tokens)
        if self.value_bits is not None:
            check_bits(self.value_bits, self.block_tokens, "value_bits")

    def check(self, head_dim: int) -> None:
        return None

    def _bits(self, values: bool) -> int:
        return self.value_bits or self.bits if values else self.bits

    def encode(self, x_BHNLD: Tensor, values: bool) -> Parts:
        x = blocks(x_BHNLD, self.block_tokens)
        over = (1, 5) if values else (4,)
        top = 2 ** self._bits(values) - 1
        least = x.amin(over, keepdim=True)
        scale = ((x.amax(over, keepdim=True) - least) / top).clamp_min(FLOOR)
        zero = (-least / scale).round().clamp(0, top)
        codes = x / scale + zero if self.clipped else (x - least) / scale
        packed = pack(codes.round().clamp(0, top), self._bits(values))
        offset = zero if self.clipped else least
        return tuple(spans_first(p) for p in (packed, scale.half(), offset.half(), _width(x)))

    def decode(self, parts: Parts, values: bool, tokens: int) -> Tensor:
        packed, scale, offset, width = (part.movedim(0, 2) for part in parts)
        codes = unpack(packed, self._bits(values), width.shape[5]).float()
        if self.clipped:
            return tokens_of((codes - offset.float()) * scale.float(), tokens)
        return tokens_of(codes * scale.float() + offset.float(), tokens)


def _width(x: Tensor) -> Tensor:
    """Nothing, in the shape of a span's channels: how long a packed row is."""
    return x.new_empty((*x.shape[:3], 1, 0, x.shape[5]), dtype=torch.uint8)


@dataclass(frozen=True)
class Quarot:
    """Channels mixed by a normalised Hadamard matrix before rounding to nearest, so that none stands out. The head
    dimension must be a power of two."""

    bits: int = 4
    block_tokens: int = 16

    def __post_init__(self) -> None:
        check_bits(self.bits, self.block_tokens)

    def check(self, head_dim: int) -> None:
        if head_dim & (head_dim - 1):
            raise ValueError(f"store=quarot needs a head dimension that is a power of two; this model's is {head_dim}")

    @property
    def rounding(self) -> Rtn:
        return Rtn(self.bits, self.block_tokens)

    def encode(self, x_BHNLD: Tensor, values: bool) -> Parts:
        return self.rounding.encode(x_BHNLD.float() @ hadamard(x_BHNLD.shape[4], x_BHNLD.device), values)

    def decode(self, parts: Parts, values: bool, tokens: int) -> Tensor:
        mixed = self.rounding.decode(parts, values, tokens)
        return mixed @ hadamard(mixed.shape[4], mixed.device)  # its own inverse


def hadamard(size: int, device: torch.device) -> Tensor:
    matrix = torch.ones((1, 1), device=device)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    normalised: Tensor = matrix / size**0.5
    return normalised


@dataclass(frozen=True)
class Prq:
    """Progressive residual: rounded to nearest, and what is left rounded again at `residual_bits`."""

    bits: int = 2
    residual_bits: int = 4
    block_tokens: int = 16
    parts: ClassVar[int] = 2

    def __post_init__(self) -> None:
        check_bits(self.bits, self.block_tokens)
        check_bits(self.residual_bits, self.block_tokens, "residual_bits")

    def check(self, head_dim: int) -> None:
        return None

    def encode(self, x_BHNLD: Tensor, values: bool) -> Parts:
        first, second = Rtn(self.bits, self.block_tokens), Rtn(self.residual_bits, self.block_tokens)
        coarse = first.encode(x_BHNLD, values)
        rest = x_BHNLD.float() - first.decode(coarse, values, x_BHNLD.shape[3])
        return (*coarse, *second.encode(rest, values))

    def decode(self, parts: Parts, values: bool, tokens: int) -> Tensor:
        first, second = Rtn(self.bits, self.block_tokens), Rtn(self.residual_bits, self.block_tokens)
        return first.decode(parts[:2], values, tokens) + second.decode(parts[2:], values, tokens)
