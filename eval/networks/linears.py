"""Linears of the networks on a CPU by oneDNN, whose float32 products take half to two thirds of the time of torch's there.

Sums are added up in another order: features move in their last bits, scores by less than 1e-6 (wan/packed.py says more).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepforcing.wan import packed
from deepforcing.wan.packed import PackedLinear
from eval.networks import backend

SMALLEST = 2**16  # numbers of a weight; smaller products are not what takes the time


class PackedAttention(nn.Module):
    """nn.MultiheadAttention of tokens over themselves, [T, B, D], no weights given back."""

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        dim = attention.embed_dim
        three = nn.Linear(dim, 3 * dim, device="meta")
        assert attention.in_proj_weight is not None
        three.weight, three.bias = attention.in_proj_weight, attention.in_proj_bias
        self.heads = attention.num_heads
        self.qkv, self.out = PackedLinear([three]), PackedLinear([attention.out_proj])

    def forward(
        self, x: Tensor, key: Tensor, value: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        assert key is x
        assert value is x
        assert not need_weights
        q, k, v = (part.unflatten(2, (self.heads, -1)).permute(1, 2, 0, 3) for part in self.qkv(x).chunk(3, 2))
        out = F.scaled_dot_product_attention(q, k, v, attn_mask)
        return self.out(out.permute(2, 0, 1, 3).flatten(2)), None


class PackedPoint(nn.Module):
    """A convolution of single pixels, [B, C, H, W] -> [B, out, H, W], channels last in memory. For one picture torch takes
    its slowest convolution there."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        linear = nn.Linear(conv.in_channels, conv.out_channels, device="meta")
        assert conv.bias is not None
        linear.weight, linear.bias = nn.Parameter(conv.weight.detach().flatten(1)), nn.Parameter(conv.bias.detach())
        self.linear = PackedLinear([linear])

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(x.permute(0, 2, 3, 1))
        return out.permute(0, 3, 1, 2)


def is_worth_it(linear: nn.Linear) -> bool:
    """Torch's own, which subclasses may not be, with a bias, and large."""
    return type(linear) is nn.Linear and linear.bias is not None and linear.weight.numel() >= SMALLEST


def is_point(conv: nn.Conv2d) -> bool:
    """Of single pixels, torch's own and with a bias; of any size, for it is torch's slowest that they take."""
    kind = (conv.kernel_size, conv.stride, conv.padding, conv.groups)
    return type(conv) is nn.Conv2d and conv.bias is not None and kind == ((1, 1), (1, 1), (0, 0), 1)


def pack(network: nn.Module) -> nn.Module:
    """The network's linears, attentions and convolutions of single pixels, in place, where they can be; its other weights stay
    as they are. Again it does nothing: packed ones are of other classes."""
    weight = next(network.parameters())
    if backend.in_use is not None or packed.why_not(weight.device, weight.dtype) is not None:
        return network  # a compiler has its own way, and none into these
    for parent in list(network.modules()):
        for name, child in list(parent.named_children()):
            if isinstance(child, nn.MultiheadAttention):
                if not child.batch_first and child.in_proj_weight is not None and child.bias_k is None:
                    setattr(parent, name, PackedAttention(child))
            elif isinstance(child, nn.Linear) and is_worth_it(child):
                setattr(parent, name, PackedLinear([child]))
            elif isinstance(child, nn.Conv2d) and is_point(child):
                setattr(parent, name, PackedPoint(child))
    return network


def products(a: Tensor, b: Tensor) -> Tensor:
    """a [n, T, C] @ b [n, C, U], on a CPU by oneDNN."""
    if packed.why_not(a.device, a.dtype) is not None or b[0].numel() < SMALLEST:
        return a @ b
    out = []
    for one, other in zip(a, b, strict=True):
        weight = torch.ops.mkldnn._reorder_linear_weight(other.mT.contiguous(), len(one))
        out.append(torch.ops.mkldnn._linear_pointwise(one, weight, None, "none", [], ""))
    return torch.stack(out) if len(out) > 1 else out[0][None]
