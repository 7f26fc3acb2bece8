"""Linears of a CPU in oneDNN's own layout: the products of float32 weights in half to two thirds of the time of torch's.

torch multiplies float32 matrices by MKL, which lays out the weight anew in every product and is slow on AMD's processors.
oneDNN keeps it laid out, adds the bias and applies GELU in the same pass. Queries, keys and values become one product. Sums are
added up in another order, so the last bits differ (float32 rounding); runs say so in their identity.

These operators are the ones that torch.compile's frozen graphs call; they are here without a compiler.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from deepforcing.wan.transformer import Attention, Block, CausalWan, TanhGELU

ROWS = 4096  # tokens that the layout is chosen for; others work as well


def why_not(device: torch.device, dtype: torch.dtype) -> str | None:
    """Why weights there cannot be packed; None: they can."""
    if device.type != "cpu" or dtype != torch.float32:
        return "it packs float32 weights for a CPU"
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return "this build of torch has no oneDNN"
    return None


class PackedLinear(nn.Module):
    """Linears of one input side by side, as one product: [..., in] -> [..., out of all]. activation: as in oneDNN's names."""

    def __init__(self, linears: Sequence[nn.Linear], activation: tuple[str, str] = ("none", "")) -> None:
        super().__init__()
        self.activation = activation
        weight = torch.cat([linear.weight.detach() for linear in linears])
        self.weight = torch.ops.mkldnn._reorder_linear_weight(weight, ROWS)
        self.bias = torch.cat([linear.bias.detach() for linear in linears])

    def forward(self, x: Tensor) -> Tensor:
        unary, kind = self.activation
        out: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, unary, [], kind)
        return out


class PackedAttention(Attention):
    """Self-attention's projections, three of them as one product. Made from an Attention."""

    qkv: PackedLinear

    def project(self, x_BLE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = self.qkv(x_BLE).chunk(3, -1)
        return self.heads(self.norm_q(q)), self.heads(self.norm_k(k)), self.heads(v)


def pack(model: CausalWan) -> None:
    """The blocks' linears, in place; the weights as they were are freed. The text's keys and values stay torch's."""
    blocks: list[Block] = [*model.blocks]
    for block in blocks:
        own, cross = block.self_attn, block.cross_attn
        own.__class__ = PackedAttention
        assert isinstance(own, PackedAttention)
        own.qkv = PackedLinear([own.q, own.k, own.v])
        for name in ("q", "k", "v"):
            delattr(own, name)
        for attention, names in ((own, ("o",)), (cross, ("q", "o"))):
            for name in names:
                setattr(attention, name, PackedLinear([getattr(attention, name)]))
        first, gelu, second = block.ffn
        assert isinstance(first, nn.Linear)
        assert isinstance(gelu, TanhGELU)
        assert isinstance(second, nn.Linear)
        block.ffn = nn.Sequential(PackedLinear([first], ("gelu", "tanh")), PackedLinear([second]))
