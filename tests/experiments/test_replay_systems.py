"""Fixtures of sizes that nobody recorded, for LongLive and CausVid.

The test records them with plain re-implementations of the published code's bookkeeping (token indices, literal constants),
in float64, written from its description and not from the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from naive import softmax_attention, turn_frames
from recorder import SHIFT_8, SIZES, STEPS, Fixture
from torch import Tensor

from experiments.replay import main


class LongLiveCache:
    """One concatenated cache per layer, global and local end in tokens; infinity: keys un-rotated, turned by slot."""

    def __init__(self, f: Fixture, window: int, sink: int, global_sink: bool, infinity: bool) -> None:
        self.f, self.cap, self.sink = f, window * f.s, sink * f.s
        self.global_sink, self.infinity = global_sink, infinity
        self.start = 0
        self.layers: dict[int, dict] = {}

    def slots(self, x: Tensor, first: int) -> Tensor:
        return turn_frames(x, list(range(first, first + x.shape[2] // self.f.s)), self.f.grid)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        new, s = q.shape[2], self.f.s
        if not self.infinity:
            q, k = self.slots(q, self.start), self.slots(k, self.start)
        c = self.layers.setdefault(layer, {"k": k[:, :, :0], "v": v[:, :, :0], "end": 0})
        end = self.start * s + new
        if end > c["end"]:
            evicted = max(0, c["k"].shape[2] + new - self.cap)
            for name, x in (("k", k), ("v", v)):
                old = c[name]
                c[name] = torch.cat([old[:, :, : self.sink], old[:, :, self.sink + evicted :], x], 2)
            c["end"] = end
        else:
            first = c["k"].shape[2] - new
            keep = max(first, self.sink) if self.global_sink and self.start > 0 else first
            for name, x in (("k", k), ("v", v)):
                c[name] = torch.cat([c[name][:, :, :keep], x[:, :, keep - first :]], 2)
        keys = c["k"]
        if self.infinity:
            q, keys = self.slots(q, (keys.shape[2] - new) // s), self.slots(keys, 0)
        return softmax_attention(q, keys, c["v"])


def record_longlive(
    to: Path,
    size: dict,
    window: int,
    sink: int,
    frames: int,
    switch: list[int],
    global_sink: bool,
    infinity: bool = False,
) -> Path:
    steps = [1000, 750, 500, 250]
    f = Fixture(window + 10 * sink, len(switch) + 1, **size)
    cache = LongLiveCache(f, window, sink, global_sink, infinity)
    noise = f.randn(1, frames, 3, *f.latent)
    renoise = f.randn(frames, 3, 3, *f.latent)  # 3 draws for each of frames / 3 chunks
    draws: Iterator[Tensor] = iter(renoise)
    done = torch.zeros(1, 0, 3, *f.latent, dtype=torch.float64)
    segment = 0
    for start in range(0, frames, 3):
        if segment < len(switch) and start >= switch[segment]:
            segment += 1
            n = min(window, start)
            cache.start = start - n
            f.run(done[:, start - n :], torch.zeros(1, n, dtype=torch.float64), f.text[segment], cache)
        cache.start = start
        x = noise[:, start : start + 3].double()
        for i, step in enumerate(steps):
            t, sigma = STEPS[step]
            x0 = x - sigma * f.run(x, torch.full((1, 3), t, dtype=torch.float64), f.text[segment], cache)
            if i + 1 < len(steps):
                after = STEPS[steps[i + 1]][1]
                x = (1 - after) * x0 + after * next(draws)[None].double()
        f.run(x0, torch.zeros(1, 3, dtype=torch.float64), f.text[segment], cache)
        done = torch.cat([done, x0], 1)
        f.outputs[f"kv_after_frame{start:04d}.k_layer1"] = cache.layers[1]["k"].transpose(1, 2).float().contiguous()
    f.outputs["latents"] = done.float().contiguous()
    options = {"repo": "longlive1", "local": window, "sink": sink, "frames": frames}
    if switch:
        options |= {"switch": switch, "global_sink": global_sink}
    if infinity:
        options["infinity"] = True
    text = f.text if switch else f.text[0]
    return f.write(to, options, steps, {"noise": noise, "renoise": renoise, "text_embeds": text})


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("global_sink", [True, False])
@pytest.mark.parametrize(
    ("window", "sink", "switch", "infinity"),
    [
        (9, 3, [12, 20], False),
        (12, 2, [13], False),
        (11, 3, [11, 22], False),
        (15, 0, [18, 19, 20], False),
        (9, 3, [5, 9, 10], False),  # while the cache still holds the whole video
        (12, 3, [14, 24], True),
        (10, 1, [18], True),
    ],
)
def test_longlive_switch(
    window: int, sink: int, switch: list[int], infinity: bool, global_sink: bool, size: int, tmp_path: Path
) -> None:
    fixture = record_longlive(tmp_path / "f", SIZES[size], window, sink, 30, switch, global_sink, infinity)
    assert main([f"golden={fixture}"]) == 0


def test_the_other_sink_mode_is_a_miss(tmp_path: Path) -> None:
    fixture = record_longlive(tmp_path / "f", SIZES[0], 9, 3, 24, [15], True)
    config = json.loads((fixture / "config.json").read_text())
    config["options"]["global_sink"] = False
    (fixture / "config.json").write_text(json.dumps(config))
    assert main([f"golden={fixture}"]) == 1


class EverythingSoFar:
    """CausVid's cache: written at the absolute place, read from the beginning."""

    def __init__(self, f: Fixture) -> None:
        self.f, self.start = f, 0
        self.layers: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        at, s = self.start * self.f.s, self.f.s
        frames = list(range(self.start, self.start + q.shape[2] // s))
        q, k = turn_frames(q, frames, self.f.grid), turn_frames(k, frames, self.f.grid)
        old_k, old_v = self.layers.get(layer, (k[:, :, :0], v[:, :, :0]))
        keys, values = torch.cat([old_k[:, :, :at], k], 2), torch.cat([old_v[:, :, :at], v], 2)
        self.layers[layer] = keys, values
        return softmax_attention(q, keys, values)


@pytest.mark.parametrize(("frames", "overlap", "rollouts"), [(12, 3, 3), (15, 6, 2), (9, 6, 3), (6, 3, 1)])
def test_causvid(frames: int, overlap: int, rollouts: int, tmp_path: Path) -> None:
    steps = [1000, 757, 522]
    f = Fixture(frames, 1, **SIZES[overlap % 2])  # type: ignore[arg-type]
    noise = f.randn(rollouts, 1, frames, 3, *f.latent)
    start_latents = f.randn(max(rollouts - 1, 1), 1, overlap, 3, *f.latent)
    used, videos = [], []
    for r in range(rollouts):
        cache = EverythingSoFar(f)
        done = torch.zeros(1, 0, 3, *f.latent, dtype=torch.float64)
        if r:
            given = torch.cat([start_latents[r - 1][:, :1].double(), videos[-1][:, 1 - overlap :]], 1)
            start_latents[r - 1] = given
        for start in range(0, frames, 3):
            cache.start = start
            if r and start < overlap:
                x0 = given[:, start : start + 3]
            else:
                x = noise[r][:, start : start + 3].double()
                for i, step in enumerate(steps):
                    t = torch.full((1, 3), float(step), dtype=torch.float64)
                    x0 = x - SHIFT_8[step] * f.run(x, t, f.text[0], cache)
                    if i + 1 < len(steps):
                        after = SHIFT_8[steps[i + 1]]
                        used.append(f.randn(3, 3, *f.latent))
                        x = (1 - after) * x0 + after * used[-1][None].double()
            f.run(x0, torch.zeros(1, 3, dtype=torch.float64), f.text[0], cache)
            done = torch.cat([done, x0], 1)
        videos.append(done)
    f.outputs["latents"] = torch.stack(videos).float().contiguous()
    options = {
        "repo": "causvid", "frames": frames, "steps": [*steps, 0], "warp": False, "rollouts": rollouts, "overlap": overlap,
    }  # fmt: skip
    inputs = {"noise": noise, "renoise": torch.stack(used), "text_embeds": f.text[0], "start_latents": start_latents}
    assert main([f"golden={f.write(tmp_path / 'f', options, [*steps, 0], inputs, 8.0)}"]) == 0
