"""A second implementation for the tests, written from the published formulas and not from the library.

Slow and plain: float64, even/odd rotations with cos and sin, explicit softmax, everything recomputed or concatenated.
Shapes: B batch, H heads, L tokens, D head dim, F latent frames, S tokens per frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Attention = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""(layer, q, k, v), each [B, H, L, D] without rotary embedding -> [B, H, L, D]."""


def split_of(head_dim: int) -> tuple[int, int, int]:
    pairs = head_dim // 2
    return pairs - 2 * (pairs // 3), pairs // 3, pairs // 3


def turn(x: Tensor, time: Tensor, row: Tensor, column: Tensor) -> Tensor:
    """x: [..., L, D]; time, row, column: [..., L] positions, broadcast against each other. float64."""
    x = x.double()
    parts = []
    for position, n in zip(torch.broadcast_tensors(time, row, column), split_of(x.shape[-1]), strict=True):
        frequencies = torch.tensor([10000.0 ** (-i / n) for i in range(n)], dtype=torch.float64)
        parts.append(position.double()[..., None] * frequencies)
    angle = torch.cat(parts, -1)
    even, odd = x[..., 0::2], x[..., 1::2]
    turned = (even * angle.cos() - odd * angle.sin(), even * angle.sin() + odd * angle.cos())
    return torch.stack(turned, -1).flatten(-2)


def turn_frames(x: Tensor, frames: list[int], grid: tuple[int, int]) -> Tensor:
    """x: [B, H, len(frames) * S, D], whole frames at the given temporal positions."""
    rows, columns = grid
    place = torch.arange(rows * columns).repeat(len(frames))
    time = torch.tensor(frames, dtype=torch.float64).repeat_interleave(rows * columns)
    return turn(x, time, place // columns, place % columns)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights = torch.softmax(q.double() @ k.double().transpose(-1, -2) / math.sqrt(q.shape[-1]), -1)
    return weights @ v.double()


class NaiveWan:
    """The transformer from its state dict, in float64."""

    def __init__(self, state: dict[str, Tensor], heads: int, freq_dim: int, eps: float = 1e-6) -> None:
        self.w = {name: tensor.double() for name, tensor in state.items()}
        self.heads, self.freq_dim, self.eps = heads, freq_dim, eps
        self.layers = 1 + max(int(name.split(".")[1]) for name in state if name.startswith("blocks."))

    def linear(self, name: str, x: Tensor) -> Tensor:
        return x @ self.w[f"{name}.weight"].T + self.w[f"{name}.bias"]

    def norm(self, x: Tensor) -> Tensor:
        return (x - x.mean(-1, keepdim=True)) / torch.sqrt(x.var(-1, unbiased=False, keepdim=True) + self.eps)

    def rms(self, name: str, x: Tensor) -> Tensor:
        return x / torch.sqrt((x * x).mean(-1, keepdim=True) + self.eps) * self.w[f"{name}.weight"]

    def split(self, x: Tensor) -> Tensor:
        b, n, e = x.shape
        return x.reshape(b, n, self.heads, e // self.heads).permute(0, 2, 1, 3)

    def merge(self, x: Tensor) -> Tensor:
        b, h, n, d = x.shape
        return x.permute(0, 2, 1, 3).reshape(b, n, h * d)

    @staticmethod
    def gelu(x: Tensor) -> Tensor:
        return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))

    def __call__(self, x: Tensor, t: Tensor, text: Tensor, attention: Attention) -> Tensor:
        """x: [B, F, C, Y, X]; t: [B, F]; text: [B, T, text_dim] -> like x."""
        b, f, c, y, z = x.shape
        tokens = torch.nn.functional.conv3d(
            x.double().permute(0, 2, 1, 3, 4),
            self.w["patch_embedding.weight"],
            self.w["patch_embedding.bias"],
            stride=(1, 2, 2),
        )
        h = tokens.flatten(3).permute(0, 2, 3, 1)  # [B, F, S, E]
        s, e = h.shape[2], h.shape[3]
        half = self.freq_dim // 2
        angle = t.double()[..., None] * torch.tensor([10000.0 ** (-i / half) for i in range(half)], dtype=torch.float64)
        wave = torch.cat([angle.cos(), angle.sin()], -1)
        silu = torch.nn.functional.silu
        time = self.linear("time_embedding.2", silu(self.linear("time_embedding.0", wave)))  # [B, F, E]
        modulation = self.linear("time_projection.1", silu(time)).reshape(b, f, 6, e)
        context = self.linear("text_embedding.2", self.gelu(self.linear("text_embedding.0", text.double())))
        for i in range(self.layers):
            p = f"blocks.{i}"
            shift_a, scale_a, gate_a, shift_f, scale_f, gate_f = (
                (self.w[f"{p}.modulation"][:, None] + modulation)[:, :, j, None] for j in range(6)
            )
            a = (self.norm(h) * (1 + scale_a) + shift_a).reshape(b, f * s, e)
            q = self.split(self.rms(f"{p}.self_attn.norm_q", self.linear(f"{p}.self_attn.q", a)))
            k = self.split(self.rms(f"{p}.self_attn.norm_k", self.linear(f"{p}.self_attn.k", a)))
            v = self.split(self.linear(f"{p}.self_attn.v", a))
            out = self.merge(attention(i, q, k, v))
            h = h + gate_a * self.linear(f"{p}.self_attn.o", out).reshape(b, f, s, e)
            n = (self.norm(h) * self.w[f"{p}.norm3.weight"] + self.w[f"{p}.norm3.bias"]).reshape(b, f * s, e)
            q = self.split(self.rms(f"{p}.cross_attn.norm_q", self.linear(f"{p}.cross_attn.q", n)))
            k = self.split(self.rms(f"{p}.cross_attn.norm_k", self.linear(f"{p}.cross_attn.k", context)))
            v = self.split(self.linear(f"{p}.cross_attn.v", context))
            out = self.merge(softmax_attention(q, k, v))
            h = h + self.linear(f"{p}.cross_attn.o", out).reshape(b, f, s, e)
            n = self.norm(h) * (1 + scale_f) + shift_f
            h = h + gate_f * self.linear(f"{p}.ffn.2", self.gelu(self.linear(f"{p}.ffn.0", n)))
        shift, scale = ((self.w["head.modulation"][:, None] + time[:, :, None])[:, :, j, None] for j in range(2))
        out = self.linear("head.head", self.norm(h) * (1 + scale) + shift)  # (row, column, channel), channel fastest
        video = torch.zeros(b, f, c, y, z, dtype=torch.float64)
        columns = z // 2
        for token in range(s):
            r, q0 = token // columns * 2, token % columns * 2
            video[:, :, :, r : r + 2, q0 : q0 + 2] = out[:, :, token].reshape(b, f, 2, 2, c).permute(0, 1, 4, 2, 3)
        return video


def rollout(
    run: Callable[[int, Tensor, Tensor], Tensor],
    timesteps: list[float],
    sigmas: list[float],
    noise: Tensor,
    renoise: Tensor,
    chunk: int,
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    """Self Forcing's loop. run(start, x, t) is one pass, returning the flow; every draw of `renoise` is used in order."""
    batch, frames = noise.shape[:2]
    draws = iter(renoise)
    done = []
    for start in range(0, frames, chunk):
        x = noise[:, start : start + chunk].to(dtype)
        for i, (t, sigma) in enumerate(zip(timesteps, sigmas, strict=True)):
            x0 = x - sigma * run(start, x, torch.full((batch, chunk), t, dtype=torch.float64)).to(dtype)
            if i + 1 < len(timesteps):
                x = (1 - sigmas[i + 1]) * x0 + sigmas[i + 1] * next(draws).reshape(x0.shape).to(dtype)
        run(start, x0, torch.zeros(batch, chunk, dtype=torch.float64))
        done.append(x0)
    return torch.cat(done, 1)
