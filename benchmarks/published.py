"""Ours beside the published way of computing the same: `python -m benchmarks.published [cache=self_forcing] [chunks=24] ...`

The published Self Forcing keeps keys after the rotary embedding, at absolute frames, tokens before heads; rolls its window by
a clone in every layer at a chunk's first pass; turns queries and keys in float64, complex, with angles put together in every
call; modulates, norms and gates operation by operation; has GELU's tanh form and a strided convolution over patches from torch.
This is that, written from a description of it (not from its code), around our weights. Left out, which flatters it: its search
of the noise table in every step, its prints. cache=deep_forcing_release: the same with the Deep Forcing release's compression
(published_caches.py), beside our policy of that name.

All sides make the same video (`model=bench`, window 21), chunk by chunk in turn in one process; that their latents are equal is
checked. Ratios are of processor times of chunks whose window is full (of two where every second one compresses): median, and
Student's interval over chunks. Another process may differ by a few percent, for its memory lies elsewhere (check_speed.py).
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

from benchmarks.published_caches import WINDOW, CompressedCache, RolledCache
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.wan.transformer import Attention, Block, CausalWan, TextMemory, sinusoid
from experiments.command.compose import compose
from experiments.command.entry import give_back_less

CACHES = {"self_forcing": RolledCache, "deep_forcing_release": CompressedCache}
SAME = {"self_forcing": 1e-6, "deep_forcing_release": 1e-5}  # latents
KEYS = {"cache": "self_forcing", "chunks": "24", "threads": "1"}


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


def sides(cache: str, total: int) -> dict[str, Iterator[Any]]:
    """The same video by the published way, by ours, and by ours with packed linears."""
    from deepforcing.generator import Generator
    from deepforcing.stopwatch import Stopwatch
    from experiments.request import build_spec

    spec, cpu = build_spec(compose("rollout", ["model=bench", f"cache={cache}"])), torch.device("cpu")
    found: dict[str, Iterator[Any]] = {}
    for name in ("published", "plain", "packed"):
        of = replace(spec, backend="packed" if name == "packed" else "plain")
        job = Generator(of, of.model.build(cpu, torch.float32), cpu).job("a prompt", "p", 0, total, Stopwatch(cpu))
        if name == "published":
            memory: Any = CACHES[cache](job.model, job.geometry.grid)
            model: Any = Published(job.model)
            found[name] = chunkwise(model, job.texts[0], memory, job.schedule, job.noise, total, job.latent_size)
        else:
            found[name] = (chunk for chunk, _ in of.rule.generate(replace(job, codec=None)))
    return found


def compare(cache: str, chunks: int) -> dict[str, Any]:
    grown, cycle = WINDOW // RolledCache.chunk_frames + 1, CACHES[cache].cycle
    chunks = chunks // cycle * cycle
    made = sides(cache, (grown + chunks) * RolledCache.chunk_frames)
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
    result: dict[str, Any] = {"cache": cache, "chunks": chunks, "seconds": {}, "ratio": {}, "differ_by": apart}
    taken = {name: np.array(seconds[name][grown:]).reshape(-1, cycle).mean(1) for name in names}
    for name in names:
        logs = np.log(taken[name] / taken["published"])
        half = float(stats.t.ppf(0.975, len(logs) - 1) * stats.sem(logs))
        middle = float(np.median(logs))
        result["seconds"][name] = float(np.median(taken[name]))
        result["ratio"][name] = [math.exp(middle + by) for by in (0.0, -half, half)]
    return result


def main(words: list[str]) -> int:
    give_back_less()
    given = dict(KEYS)
    for word in words:
        key, _, value = word.partition("=")
        number = value.isdecimal() and (4 if key == "chunks" else 1) <= int(value) <= 300
        if key not in KEYS or not (value in CACHES if key == "cache" else number):
            known = f"cache= one of {', '.join(CACHES)}, chunks=N from 4 to 300, threads=N from 1 to 300"
            print(f"error: {word!r} is no key here; known: {known}", file=sys.stderr)
            return 2
        given[key] = value
    torch.set_num_threads(int(given["threads"]))
    with torch.inference_mode():
        result = compare(given["cache"], int(given["chunks"]))
    print(json.dumps({**result, "threads": int(given["threads"]), "torch": torch.__version__}))
    wrong = [name for name, by in result["differ_by"].items() if by > SAME[given["cache"]]]
    for name in wrong:
        print(
            f"error: {name} and published differ by {result['differ_by'][name]:.1e}: not the same computation",
            file=sys.stderr,
        )
    return int(bool(wrong))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
