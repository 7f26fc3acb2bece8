"""Records fixtures by an independent re-implementation of released Deep Forcing.

One concatenated cache, keys rotated at absolute frames and the sink turned in place, in float64.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from naive import NaiveWan, rollout, softmax_attention, split_of, turn_frames
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.weights import random_wan


class ReleaseCache:
    """The released Deep Forcing attention, in the reference's order of events (inference notes, section 6)."""

    def __init__(
        self, window: int, sink: int, cap: int, recent: int, reuse: int, pc: bool, grid: tuple[int, int]
    ) -> None:
        self.window, self.sink, self.cap, self.recent, self.reuse, self.pc = window, sink, cap, recent, reuse, pc
        self.grid, self.s = grid, grid[0] * grid[1]
        self.start = 0
        self.layers: dict[int, dict] = {}
        self.recorded: dict[str, Tensor] = {}
        self.smallest_gap = float("inf")

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        b, h, new, d = q.shape
        frames = list(range(self.start, self.start + new // self.s))
        q, k = turn_frames(q, frames, self.grid), turn_frames(k, frames, self.grid)
        empty = q.new_zeros(b, h, 0, d)
        c = self.layers.setdefault(
            layer, {"k": empty, "v": empty, "q": empty, "count": torch.zeros(b, 0), "end": 0, "desired": None}
        )
        c["q"] = torch.cat([c["q"], q], 2)[:, :, -self.recent * self.s :]
        end, sink = (self.start + len(frames)) * self.s, self.sink * self.s
        fresh = end > c["end"]
        full = c["k"].shape[2] + new > self.window * self.s
        if fresh:
            c["k"], c["v"] = torch.cat([c["k"], k], 2), torch.cat([c["v"], v], 2)
            c["count"] = torch.cat([c["count"], torch.zeros(b, new)], 1)
        if fresh and full and self.pc:
            self.compress(layer, c, frames[0])
            self.shift_sink(c, frames[0] - c["k"].shape[2] // self.s)
        elif fresh and full:
            evicted = c["k"].shape[2] - self.window * self.s
            for name in ("k", "v"):
                c[name] = torch.cat([c[name][:, :, :sink], c[name][:, :, sink + evicted :]], 2)
            self.shift_sink(c, frames[0] - self.window)
        elif not fresh:
            c["k"] = torch.cat([c["k"][:, :, :-new], k], 2)
            c["v"] = torch.cat([c["v"][:, :, :-new], v], 2)
        c["end"] = end
        return softmax_attention(q, c["k"], c["v"])

    def compress(self, layer: int, c: dict, frame: int) -> None:
        b, h, total, d = c["k"].shape
        first, last = self.sink * self.s, total - self.recent * self.s
        count = max(self.cap - self.sink - self.recent, 0) * self.s
        flat = c["k"].transpose(1, 2).reshape(b, total, h * d)
        scores = (c["q"].transpose(1, 2).reshape(b, -1, h * d) @ flat.transpose(1, 2)).sum(1) / (d**0.5 * h)
        chosen = []
        for item in range(b):
            free = [i for i in range(first, last) if c["count"][item, i] < self.reuse]
            ranked = sorted(free, key=lambda i: -float(scores[item, i]))
            assert len(ranked) >= count, "this re-implementation does not cover exhausted candidates"
            if 0 < count < len(ranked):
                gap = float(scores[item, ranked[count - 1]] - scores[item, ranked[count]])
                self.smallest_gap = min(self.smallest_gap, gap)
            chosen.append(sorted(ranked[:count]))
            c["count"][item, chosen[-1]] += 1
        picked = torch.tensor(chosen, dtype=torch.int32).reshape(b, count)
        self.recorded[f"pc.layer{layer}.frame{frame:04d}.topc_selected"] = (picked[0] if b == 1 else picked).clone()
        self.recorded[f"pc.layer{layer}.frame{frame:04d}.scores"] = (scores[0] if b == 1 else scores).float().clone()
        keep = torch.tensor([[*range(first), *row, *range(last, total)] for row in chosen])
        for name in ("k", "v"):
            c[name] = torch.stack([c[name][i][:, keep[i]] for i in range(b)])
        c["count"] = torch.stack([c["count"][i][keep[i]] for i in range(b)])

    def shift_sink(self, c: dict, desired: int) -> None:
        delta = 21 - self.cap if c["desired"] is None else desired - c["desired"]
        c["desired"] = desired
        sink = c["k"][:, :, : self.sink * self.s]
        pairs = sink.unflatten(-1, (-1, 2))
        n = split_of(sink.shape[-1])[0]
        angle = delta * torch.tensor([10000.0 ** (-i / n) for i in range(n)], dtype=torch.float64)
        cos, sin = angle.cos(), angle.sin()
        turned = pairs.clone()
        turned[..., :n, 0] = pairs[..., :n, 0] * cos - pairs[..., :n, 1] * sin
        turned[..., :n, 1] = pairs[..., :n, 0] * sin + pairs[..., :n, 1] * cos
        c["k"] = torch.cat([turned.flatten(-2), c["k"][:, :, self.sink * self.s :]], 2)


def record(
    directory: Path,
    *,
    window: int,
    sink: int,
    cap: int,
    recent: int,
    reuse: int,
    pc: bool,
    batch: int,
    frames: int,
    dim: int,
    heads: int,
    layers: int,
    latent: tuple[int, int],
    chunk: int = 3,
    steps: tuple[int, ...] = (1000, 750, 500, 250),
    timesteps: tuple[float, ...] = (1000.0, 937.5, 833.333313, 625.0),
    sigmas: tuple[float, ...] = (1.0, 0.9375, 0.833333313, 0.625),
) -> float:
    """Write a fixture that our engine had no part in computing; returns the smallest gap at a selection threshold."""
    config = WanConfig(dim, 2 * dim, 16, 3, 3, heads, layers, text_dim=10, text_len=6)
    state = random_wan(config, seed=window + 100 * sink).state_dict()
    state = {name: t * (3 if "self_attn.norm" in name else 1) for name, t in state.items()}  # peaked attention
    directory.mkdir()
    save_file({f"model.{n}": t.contiguous() for n, t in state.items()}, directory / "w.safetensors")
    generator = torch.Generator().manual_seed(5)
    draws = frames // chunk * (len(steps) - 1)
    noise = torch.randn(batch, frames, 3, *latent, generator=generator)
    renoise = torch.randn(draws, batch * chunk, 3, *latent, generator=generator)
    text = torch.randn(batch, 6, 10, generator=generator)
    text[:, 4:] = 0
    save_file({"noise": noise, "renoise": renoise, "text_embeds": text}, directory / "inputs.safetensors")

    cache = ReleaseCache(window, sink, cap, recent, reuse, pc, (latent[0] // 2, latent[1] // 2))
    model = NaiveWan(state, heads, 16)
    outputs: dict[str, Tensor] = {}
    calls = 0

    def run(start: int, x: Tensor, t: Tensor) -> Tensor:
        nonlocal calls
        cache.start = start
        flow = model(x, t, text, cache)
        if calls % 7 == 0:
            outputs[f"call{calls:04d}.flow"] = flow.float().contiguous()
        calls += 1
        if float(t[0, 0]) == 0:
            snapshot = cache.layers[1]["k"].transpose(1, 2).float().contiguous()
            outputs[f"kv_after_frame{start:04d}.k_layer1"] = snapshot
        return flow

    outputs["latents"] = rollout(run, list(timesteps), list(sigmas), noise, renoise, chunk).float().contiguous()
    save_file({**outputs, **cache.recorded}, directory / "outputs.safetensors")
    options = {"repo": "deepf", "local": window, "sink": sink, "pc": pc, "cap": cap, "R": recent, "reuse": reuse}
    (directory / "config.json").write_text(
        json.dumps(
            {
                "options": options,
                "model_config": {
                    **{k: getattr(config, k) for k in ("dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads")},
                    **{k: getattr(config, k) for k in ("num_layers", "text_dim", "text_len", "eps")},
                },
                "latent_hw": latent,
                "chunk_frames": chunk,
                "denoising_steps_requested": steps,
                "timestep_shift": 5.0,
                "weights": "w.safetensors",
                "weights_key_prefix": "model.",
            }
        )
    )
    return cache.smallest_gap
