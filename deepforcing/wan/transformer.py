"""The causal Wan2.1 transformer: one implementation for every size and every method.

It denoises a few latent frames at a time. What the tokens may look at, and where in time the cached ones are, is not
decided here: every self-attention layer hands its queries, keys and values (before rotary embedding) to `memory`.

Parameter names are those of the official checkpoints (825 tensors for 1.3B), so their state dicts load strictly.
Source: Wan2.1 and the inference path of Self Forcing. As there, everything runs in the weights' dtype, except the
timestep sinusoid (float64), the RMS norm's statistics (float32) and the rotary embedding (see rope.py).

Shapes: B batch, F latent frames, S tokens per frame, L = F * S tokens, E model dim, H heads, D head dim,
C latent channels, Y and X latent height and width, T text tokens.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepforcing.wan.attention import attend
from deepforcing.wan.config import WanConfig
from deepforcing.wan.kernels import Kernels

if TYPE_CHECKING:
    from deepforcing.lossy.exact import Exact

Backend = Literal["plain", "packed", "compiled", "graphs"]
"""How a model computes its passes (deepforcing/backend.py)."""


class Memory(Protocol):
    """What self-attention sees besides the chunk itself. The transformer's only view of caches and policies."""

    def attend(self, layer: int, q_BHLD: Tensor, k_BHLD: Tensor, v_BHLD: Tensor) -> Tensor:
        """Self-attention output [B, H, L, D] of `layer` for one chunk; q, k without rotary embedding."""
        ...


class TextMemory(NamedTuple):
    """Cross-attention keys and values of one prompt batch, per layer [B, H, T, D]: computed once per video."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]


class RMSNorm(nn.Module):
    def __init__(self, dim: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim))

    def forward(self, x: Tensor) -> Tensor:
        # Statistics in float32; the product with the weight in the weights' dtype, as in the published code.
        if x.dtype == torch.float32:
            return F.rms_norm(x, (x.shape[-1],), self.weight, self.eps)
        return F.rms_norm(x.float(), (x.shape[-1],), None, self.eps).to(x.dtype) * self.weight


def sinusoid(t: Tensor, dim: int) -> Tensor:
    """Timestep embedding in float64: [cos | sin], frequencies 10000^(-i / (dim/2)). t: any shape -> [*t.shape, dim]."""
    half = dim // 2
    frequencies = torch.pow(10000.0, -torch.arange(half, dtype=torch.float64, device=t.device) / half)
    angles = t.double()[..., None] * frequencies
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TanhGELU(nn.Module):
    """GELU's tanh form. On the CPU, in float32, as x * sigmoid(2u): the same function, 3 times as fast, 5e-7 apart."""

    def forward(self, x: Tensor) -> Tensor:
        if x.is_cuda or x.dtype != torch.float32 or torch.is_grad_enabled():
            return F.gelu(x, approximate="tanh")
        # u = sqrt(2/pi) * (x + 0.044715 x^3)
        scale = 2 * (2 / math.pi) ** 0.5
        return (x * x).mul_(0.044715 * scale).add_(scale).mul_(x).sigmoid_().mul_(x)


class Attention(nn.Module):
    """Projections of one attention; q and k are normalised over the whole model dim, before the head split."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        dim = config.dim
        self.num_heads = config.num_heads
        self.q, self.k, self.v, self.o = (nn.Linear(dim, dim) for _ in range(4))
        self.norm_q, self.norm_k = RMSNorm(dim, config.eps), RMSNorm(dim, config.eps)

    def heads(self, x_BLE: Tensor) -> Tensor:
        return x_BLE.view(*x_BLE.shape[:2], self.num_heads, -1).transpose(1, 2)

    def project(self, x_BLE: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values of the same tokens."""
        return self.queries(x_BLE), self.keys(x_BLE), self.values(x_BLE)

    def queries(self, x_BLE: Tensor) -> Tensor:
        return self.heads(self.norm_q(self.q(x_BLE)))

    def keys(self, x_BLE: Tensor) -> Tensor:
        return self.heads(self.norm_k(self.k(x_BLE)))

    def values(self, x_BLE: Tensor) -> Tensor:
        return self.heads(self.v(x_BLE))

    def out(self, x_BHLD: Tensor) -> Tensor:
        out: Tensor = self.o(x_BHLD.transpose(1, 2).flatten(2))
        return out


class Block(nn.Module):
    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        self.self_attn = Attention(config)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.eps)
        self.cross_attn = Attention(config)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim), TanhGELU(), nn.Linear(config.ffn_dim, config.dim)
        )
        self.modulation = nn.Parameter(torch.randn(1, 6, config.dim) / config.dim**0.5)

    def modulated(self, x_BFSE: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        normed = F.layer_norm(x_BFSE, (x_BFSE.shape[-1],), eps=self.config.eps)
        return torch.addcmul(shift, normed, 1 + scale)

    def forward(
        self, layer: int, x_BFSE: Tensor, time_BF6E: Tensor, text_k: Tensor, text_v: Tensor, memory: Memory
    ) -> Tensor:
        q, k, v = self.before(x_BFSE, time_BF6E)
        return self.after(x_BFSE, time_BF6E, memory.attend(layer, q, k, v), text_k, text_v)

    # What stands before and after self-attention is two functions of tensors, the same for every layer, cache and chunk: so
    # each is compiled once (backend.py).

    def before(self, x_BFSE: Tensor, time_BF6E: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Self-attention's queries, keys and values, [B, H, L, D]."""
        e = self.modulation_of(time_BF6E)
        return self.self_attn.project(self.modulated(x_BFSE, e[0], e[1]).flatten(1, 2))

    def after(self, x_BFSE: Tensor, time_BF6E: Tensor, o_BHLD: Tensor, text_k: Tensor, text_v: Tensor) -> Tensor:
        """The rest of the block. o: self-attention's output."""
        shape, e = x_BFSE.shape, self.modulation_of(time_BF6E)
        x_BFSE = torch.addcmul(x_BFSE, self.self_attn.out(o_BHLD).view(shape), e[2])
        h = self.norm3(x_BFSE).flatten(1, 2)
        cross = self.cross_attn
        x_BFSE = x_BFSE + cross.out(attend(cross.queries(h), text_k, text_v)).view(shape)
        h = self.ffn(self.modulated(x_BFSE, e[3], e[4]))
        return torch.addcmul(x_BFSE, h, e[5])

    def modulation_of(self, time_BF6E: Tensor) -> tuple[Tensor, ...]:
        """Shift, scale, gate of attention, then of the FFN, each [B, F, 1, E]."""
        return (self.modulation + time_BF6E).unsqueeze(3).unbind(2)


class Head(nn.Module):
    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        self.head = nn.Linear(config.dim, config.out_dim * config.patch[1] * config.patch[2])
        self.modulation = nn.Parameter(torch.randn(1, 2, config.dim) / config.dim**0.5)

    def forward(self, x_BFSE: Tensor, time_BFE: Tensor) -> Tensor:
        shift, scale = (self.modulation[:, None] + time_BFE[:, :, None]).unsqueeze(3).unbind(2)
        normed = F.layer_norm(x_BFSE, (x_BFSE.shape[-1],), eps=self.config.eps)
        out: Tensor = self.head(torch.addcmul(shift, normed, 1 + scale))
        return out


class CausalWan(nn.Module):
    """The transformer. `forward` is one pass over one chunk; `encode_text` once per video."""

    def __init__(self, config: WanConfig) -> None:
        super().__init__()
        self.config = config
        self.backend: Backend = "plain"
        self.kernels = Kernels()
        self.lossy: Exact | None = None  # the option that changed this model (lossy/)
        dim = config.dim
        self.patch_embedding = nn.Conv3d(config.in_dim, dim, kernel_size=config.patch, stride=config.patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)
        if config.spatial_embedding is not None:
            rows, columns = config.spatial_embedding
            self.spatial_embedding = nn.Parameter(torch.randn(1, 1, rows * columns, dim) * 0.02)

    def encode_text(self, text_BTE: Tensor) -> TextMemory:
        """Keys and values for cross-attention. text: [B, text_len, text_dim], zero rows where the prompt has ended.

        The padded rows are attended to like the others, as in the published systems.
        """
        context = self.text_embedding(text_BTE)
        attentions: list[Attention] = [block.cross_attn for block in self.blocks]  # type: ignore[misc]
        return TextMemory(
            tuple(a.keys(context) for a in attentions),
            tuple(a.values(context) for a in attentions),
        )

    def forward(self, x_BFCYX: Tensor, t_BF: Tensor, text: TextMemory, memory: Memory) -> Tensor:
        """One pass. x: noisy latents [B, F, C, Y, X]; t: float32 timesteps (0..1000), one per frame.

        Returns the raw prediction (see WanConfig.prediction), shaped like x.
        """
        x_BFSE, time_BFE, time_BF6E = self.embed(x_BFCYX, t_BF)
        x_BFSE = self.through_blocks(x_BFSE, time_BF6E, text, memory)
        return self.unpatchify(self.head(x_BFSE, time_BFE), x_BFCYX.shape[-2:])

    def embed(self, x_BFCYX: Tensor, t_BF: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """What the blocks are given: tokens [B, F, S, E], the timesteps' embedding [B, F, E], its projection [B, F, 6, E]."""
        x = self.patchify(x_BFCYX)
        if self.config.spatial_embedding is not None:
            x = x + self.spatial_embedding
        time_BFE = self.time_embedding(sinusoid(t_BF, self.config.freq_dim).to(x.dtype))
        return x, time_BFE, self.time_projection(time_BFE).unflatten(2, (6, -1))

    def through_blocks(self, x_BFSE: Tensor, time_BF6E: Tensor, text: TextMemory, memory: Memory) -> Tensor:
        for layer, block in enumerate(self.blocks):
            x_BFSE = block(layer, x_BFSE, time_BF6E, text.keys[layer], text.values[layer], memory)
        return x_BFSE

    def patchify(self, x_BFCYX: Tensor) -> Tensor:
        """[B, F, C, Y, X] -> tokens [B, F, S, E] in row-major order; the strided convolution as one matrix product."""
        _, p, q = self.config.patch
        b, f, c, y, x = x_BFCYX.shape
        patches = x_BFCYX.view(b, f, c, y // p, p, x // q, q).permute(0, 1, 3, 5, 2, 4, 6).reshape(b, f, -1, c * p * q)
        return F.linear(patches, self.patch_embedding.weight.flatten(1), self.patch_embedding.bias)

    def unpatchify(self, x_BFSO: Tensor, size: torch.Size) -> Tensor:
        """Tokens -> [B, F, C, Y, X]; a token's outputs are ordered (row, column, channel)."""
        _, p, q = self.config.patch
        b, f = x_BFSO.shape[:2]
        y, x = size
        return (
            x_BFSO.view(b, f, y // p, x // q, p, q, self.config.out_dim)
            .permute(0, 1, 6, 2, 4, 3, 5)
            .reshape(b, f, self.config.out_dim, y, x)
        )
