"""Ours beside the published code's way of computing the same: `python -m benchmarks.published [chunks=24] [threads=1]`.

The published Self Forcing keeps keys after the rotary embedding, at absolute frames, tokens before heads; rolls its window by
a clone in every layer at a chunk's first pass; turns queries and keys in float64, complex, with angles put together in every
call; modulates, norms and gates operation by operation; has GELU's tanh form and a strided convolution over patches from torch.
This is that, written from a description of it (not from its code), around our weights. Left out, which flatters it: its search
of the noise table in every step, its prints.

All sides make the same video (`model=bench`, window 21), chunk by chunk in turn in one process; that their latents are equal is
checked. Ratios are of processor times of chunks whose window is full: median, and Student's interval over chunks. Another
process may differ by a few percent, for its memory lies elsewhere (check_speed.py).
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from scipy import stats
from torch import Tensor, nn

from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.wan.transformer import Attention, Block, CausalWan, TextMemory, sinusoid
from experiments.command.compose import compose
from experiments.command.entry import give_back_less

WINDOW, TABLE, SAME = 21, 1024, 1e-6
KEYS = {"chunks": "24", "threads": "1"}


class RolledCache:
    """The published window of keys and values (rollout's Cache), and its passes' memory. Sizes in latent frames."""

    gaps, chunk_frames, batch, capacity, steady = None, 3, 1, WINDOW, False

    def __init__(self, model: CausalWan, grid: tuple[int, int]) -> None:
        config = model.config
        self.tokens, self.grid = grid[0] * grid[1], grid
        shape = (1, WINDOW * self.tokens, config.num_heads, config.dim // config.num_heads)
        self.k, self.v = ([torch.zeros(shape) for _ in model.blocks] for _ in range(2))
        self.ends = [0] * config.num_layers  # tokens held
        self.done = [0] * config.num_layers  # tokens of the video
        pairs = [2 * n for n in config.rope_split]
        self.table = [
            torch.outer(torch.arange(TABLE).double(), 10000.0 ** -(torch.arange(0, n, 2).double() / n)) for n in pairs
        ]
        self.table = [torch.polar(torch.ones_like(angles), angles) for angles in self.table]
        self.start = 0

    def begin(self, start: int, frames: int | None = None, switched: bool = False, cut: bool = False) -> None:
        self.start = start

    def denoise(self, step: int = 0) -> RolledCache:
        return self

    def commit(self) -> RolledCache:
        return self

    def state(self) -> None:
        return None

    @property
    def attended_tokens(self) -> float:
        return self.ends[0]

    @property
    def held(self) -> int:
        return sum(x.numel() * x.element_size() for x in (*self.k, *self.v))

    def turned(self, x_BLHD: Tensor) -> Tensor:
        rows, columns = self.grid
        frames = x_BLHD.shape[1] // self.tokens
        time_part, row, column = self.table
        turns = torch.cat(
            [
                time_part[self.start : self.start + frames].view(frames, 1, 1, -1).expand(frames, rows, columns, -1),
                row[:rows].view(1, rows, 1, -1).expand(frames, rows, columns, -1),
                column[:columns].view(1, 1, columns, -1).expand(frames, rows, columns, -1),
            ],
            -1,
        ).reshape(frames * self.tokens, 1, -1)
        made = []
        for x in x_BLHD:
            pairs = torch.view_as_complex(x.double().reshape(*x.shape[:2], -1, 2))
            made.append(torch.view_as_real(pairs * turns).flatten(2))
        return torch.stack(made).type_as(x_BLHD)

    def attend(self, layer: int, q_BLHD: Tensor, k_BLHD: Tensor, v_BLHD: Tensor) -> Tensor:
        """[B, L, H, D], tokens before heads as all of its tensors are."""
        q, k = self.turned(q_BLHD), self.turned(k_BLHD)
        new, keys, values = k.shape[1], self.k[layer], self.v[layer]
        until = self.start * self.tokens + new
        beyond = max(0, self.ends[layer] + until - self.done[layer] - keys.shape[1])
        if beyond:
            kept = self.ends[layer] - beyond
            for buffer in (keys, values):
                buffer[:, :kept] = buffer[:, beyond : beyond + kept].clone()
        end = self.ends[layer] + until - self.done[layer] - beyond
        keys[:, end - new : end], values[:, end - new : end] = k, v_BLHD
        self.ends[layer], self.done[layer] = end, until
        q, k, v = (x.transpose(1, 2) for x in (q, keys[:, :end], values[:, :end]))
        out = F.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).contiguous()


class Published(nn.Module):
    """Our weights, computed operation by operation. Stands for a CausalWan in `chunkwise`."""

    def __init__(self, model: CausalWan) -> None:
        super().__init__()
        self.model, self.config, self.patch_embedding = model, model.config, model.patch_embedding

    def forward(self, x_BFCYX: Tensor, t_BF: Tensor, text: TextMemory, memory: RolledCache) -> Tensor:
        model = self.model
        x = model.patch_embedding(x_BFCYX.transpose(1, 2))  # [B, E, F, Y, X]
        frames, tokens = x.shape[2], x.shape[3] * x.shape[4]
        x = x.flatten(2).transpose(1, 2)
        time_BFE = model.time_embedding(sinusoid(t_BF, self.config.freq_dim).to(x.dtype))
        modulation = model.time_projection(time_BFE).unflatten(2, (6, -1))
        for layer, block in enumerate(model.blocks):
            assert isinstance(block, Block)
            x = through(block, layer, x, modulation, (frames, tokens), text, memory)
        e = (model.head.modulation.unsqueeze(1) + time_BFE.unsqueeze(2)).chunk(2, 2)
        x = model.head.head(by_frame(normed(x, self.config.eps), (frames, tokens)) * (1 + e[1]) + e[0])
        return model.unpatchify(x, x_BFCYX.shape[-2:])


def by_frame(x_BLE: Tensor, sizes: tuple[int, int]) -> Tensor:
    return x_BLE.view(x_BLE.shape[0], *sizes, -1)


def normed(x: Tensor, eps: float) -> Tensor:
    return F.layer_norm(x.float(), (x.shape[-1],), None, None, eps).type_as(x)


def rms(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    x32 = x.float()
    return (x32 * torch.rsqrt(x32.pow(2).mean(-1, keepdim=True) + eps)).type_as(x) * weight


def through(
    block: Block,
    layer: int,
    x: Tensor,
    modulation: Tensor,
    sizes: tuple[int, int],
    text: TextMemory,
    memory: RolledCache,
) -> Tensor:
    """One block. x: [B, L, E]. sizes: frames, tokens of each."""
    eps, own, cross = block.config.eps, block.self_attn, block.cross_attn
    e = (block.modulation.unsqueeze(1) + modulation).chunk(6, 2)

    def heads(y: Tensor, part: Attention) -> Tensor:
        return y.view(*y.shape[:2], part.num_heads, -1)

    y = (by_frame(normed(x, eps), sizes) * (1 + e[1]) + e[0]).flatten(1, 2)
    q, k = (rms(linear(y), norm.weight, norm.eps) for linear, norm in ((own.q, own.norm_q), (own.k, own.norm_k)))
    y = own.o(memory.attend(layer, heads(q, own), heads(k, own), heads(own.v(y), own)).flatten(2))
    x = x + (by_frame(y, sizes) * e[2]).flatten(1, 2)
    q = heads(rms(cross.q(block.norm3(x)), cross.norm_q.weight, cross.norm_q.eps), cross).transpose(1, 2)
    y = F.scaled_dot_product_attention(q, text.keys[layer], text.values[layer]).transpose(1, 2).flatten(2)
    x = x + cross.o(y)
    y = (by_frame(normed(x, eps), sizes) * (1 + e[4]) + e[3]).flatten(1, 2)
    y = block.ffn[2](F.gelu(block.ffn[0](y), approximate="tanh"))
    out: Tensor = x + (by_frame(y, sizes) * e[5]).flatten(1, 2)
    return out


def sides(total: int) -> dict[str, Iterator[Any]]:
    """The same video by the published way, by ours, and by ours with packed linears."""
    from deepforcing.generator import Generator
    from deepforcing.stopwatch import Stopwatch
    from experiments.request import build_spec

    spec, cpu = build_spec(compose("rollout", ["model=bench", "cache=self_forcing"])), torch.device("cpu")
    found: dict[str, Iterator[Any]] = {}
    for name in ("published", "plain", "packed"):
        of = replace(spec, backend="packed" if name == "packed" else "plain")
        job = Generator(of, of.model.build(cpu, torch.float32), cpu).job("a prompt", "p", 0, total, Stopwatch(cpu))
        if name == "published":
            cache: Any = RolledCache(job.model, job.geometry.grid)
            model: Any = Published(job.model)
            found[name] = chunkwise(model, job.texts[0], cache, job.schedule, job.noise, total, job.latent_size)
        else:
            found[name] = (chunk for chunk, _ in of.rule.generate(replace(job, codec=None)))
    return found


def compare(chunks: int) -> dict[str, Any]:
    grown = WINDOW // RolledCache.chunk_frames + 1
    made = sides((grown + chunks) * RolledCache.chunk_frames)
    names, apart = [*made], dict.fromkeys(made, 0.0)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    for i in range(grown + chunks):
        latents = {}
        for name in names[i % 3 :] + names[: i % 3]:
            began = time.process_time()
            latents[name] = next(made[name]).latents
            seconds[name].append(time.process_time() - began)
        for name in names:
            apart[name] = max(apart[name], float((latents[name] - latents["published"]).abs().max()))
    result: dict[str, Any] = {"chunks": chunks, "seconds": {}, "ratio": {}, "differ_by": apart}
    for name in names:
        taken = np.array(seconds[name][grown:])
        logs = np.log(taken / np.array(seconds["published"][grown:]))
        half = float(stats.t.ppf(0.975, chunks - 1) * stats.sem(logs))
        middle = float(np.median(logs))
        result["seconds"][name] = float(np.median(taken))
        result["ratio"][name] = [math.exp(middle + by) for by in (0.0, -half, half)]
    return result


def main(words: list[str]) -> int:
    give_back_less()
    given = dict(KEYS)
    for word in words:
        key, _, value = word.partition("=")
        if (
            key not in KEYS
            or not value.isdecimal()
            or not 1 <= int(value) <= 300
            or (key == "chunks" and int(value) < 2)
        ):
            print(
                f"error: {word!r} is no key here; known: chunks=N from 2 to 300, threads=N from 1 on", file=sys.stderr
            )
            return 2
        given[key] = value
    torch.set_num_threads(int(given["threads"]))
    with torch.inference_mode():
        result = compare(int(given["chunks"]))
    print(json.dumps({**result, "threads": int(given["threads"]), "torch": torch.__version__}))
    wrong = [name for name, by in result["differ_by"].items() if by > SAME]
    for name in wrong:
        print(
            f"error: {name} and published differ by {result['differ_by'][name]:.1e}: not the same computation",
            file=sys.stderr,
        )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
