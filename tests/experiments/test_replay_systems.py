"""Fixtures of sizes that nobody recorded, for LongLive, Rolling Forcing and CausVid.

The test records them with plain re-implementations of the published code's bookkeeping (token indices, literal constants),
in float64, written from its description and not from the library.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from naive import NaiveWan, softmax_attention, turn_frames
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.rollout.rolling import UpstreamRollingNoise
from deepforcing.wan.config import WanConfig
from deepforcing.wan.weights import random_wan
from experiments.replay import main

SIZES = [
    {"dim": 40, "heads": 2, "layers": 2, "latent": (4, 6)},  # head 20: pairs 4, 3, 3
    {"dim": 48, "heads": 3, "layers": 3, "latent": (2, 8)},  # head 16: pairs 4, 2, 2
]
# Shift 5; the numbers that are published for it.
STEPS = {
    1000: (1000.0, 1.0),
    800: (952.3810424804688, 0.9523810148239136),
    750: (937.5, 0.9375),
    600: (882.3529052734375, 0.882352888584137),
    500: (833.3333129882812, 0.8333333134651184),
    400: (769.2307739257812, 0.7692307829856873),
    250: (625.0, 0.625),
    200: (555.5556030273438, 0.5555555820465088),
}
SHIFT_8 = {1000: 1.0, 757: 0.7567567229270935, 522: 0.52173912525177}  # not warped


class Fixture:
    """Model, text and noise of a fixture to be, and what goes into its files."""

    def __init__(self, seed: int, prompts: int, dim: int, heads: int, layers: int, latent: tuple[int, int]) -> None:
        self.config = WanConfig(dim, 2 * dim, 16, 3, 3, heads, layers, text_dim=10, text_len=6)
        state = random_wan(self.config, seed=seed).state_dict()
        self.state = {name: t * (3 if "self_attn.norm" in name else 1) for name, t in state.items()}
        self.model = NaiveWan(self.state, heads, 16)
        self.latent, self.grid = latent, (latent[0] // 2, latent[1] // 2)
        self.s = self.grid[0] * self.grid[1]
        self.generator = torch.Generator().manual_seed(seed)
        self.text = self.randn(prompts, 1, 6, 10)
        self.text[:, :, 4:] = 0
        self.outputs: dict[str, Tensor] = {}
        self.calls = 0

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def run(self, x: Tensor, t: Tensor, text: Tensor, attention: object) -> Tensor:
        flow = self.model(x, t, text, attention)  # type: ignore[arg-type]
        if self.calls % 3 == 0:
            self.outputs[f"call{self.calls:04d}.flow"] = flow.float().contiguous()
        self.calls += 1
        return flow

    def write(self, to: Path, options: dict, steps: list[int], inputs: dict[str, Tensor], shift: float = 5.0) -> Path:
        to.mkdir()
        save_file({f"model.{n}": t.contiguous() for n, t in self.state.items()}, to / "w.safetensors")
        save_file({n: t.contiguous() for n, t in inputs.items()}, to / "inputs.safetensors")
        save_file(self.outputs, to / "outputs.safetensors")
        names = ("dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads", "num_layers", "text_dim", "text_len")
        config = {
            "options": options,
            "model_config": {**{k: getattr(self.config, k) for k in names}, "eps": 1e-6},
            "latent_hw": self.latent,
            "chunk_frames": 3,
            "denoising_steps_requested": steps,
            "timestep_shift": shift,
            "weights": "w.safetensors",
            "weights_key_prefix": "model.",
        }
        (to / "config.json").write_text(json.dumps(config))
        return to


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


class RollingForcingCache:
    """Constants as in the original: blocks of 3 frames, 21 attended, 24 stored, the first block's keys un-rotated."""

    def __init__(self, f: Fixture) -> None:
        self.f, self.start, self.updating = f, 0, False
        self.layers: dict[int, dict] = {}

    def at(self, x: Tensor, first: int) -> Tensor:
        return turn_frames(x, list(range(first, first + x.shape[2] // self.f.s)), self.f.grid)

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        s, start = self.f.s, self.start
        block = 3 * s
        c = self.layers.setdefault(layer, {"k": k[:, :, :0], "v": v[:, :, :0], "end": 0})
        stored = k if start == 0 else self.at(k, start)
        end = start * s + block
        new = end - c["end"]
        if new > 0:
            evicted = max(0, c["k"].shape[2] + new - 24 * s)
            for name, x in (("k", stored), ("v", v)):
                old = c[name]
                c[name] = torch.cat([old[:, :, :block], old[:, :, block + evicted :], x[:, :, :block]], 2)
            c["end"] = end
        else:
            for name, x in (("k", stored), ("v", v)):
                c[name] = torch.cat([c[name][:, :, :-block], x[:, :, :block]], 2)
        local_end = c["k"].shape[2]
        local_start = local_end - block
        own_q, own_k = self.at(q, start), self.at(k, start)
        if local_start == 0:
            return softmax_attention(own_q, own_k, v)
        if self.updating:
            first = max(0, local_end - 21 * s)
            keys = c["k"]
            if first == 0:
                keys = torch.cat([self.at(keys[:, :, :block], 0), keys[:, :, block:]], 2)
            return softmax_attention(own_q, keys[:, :, first:], c["v"][:, :, first:])
        room = 21 * s - q.shape[2] - block
        working = slice(max(block, local_start - room), local_start)
        frames = c["k"][:, :, working].shape[2] // s
        anchor = self.at(c["k"][:, :, :block], start - frames - 3)
        keys = torch.cat([anchor, c["k"][:, :, working], own_k], 2)
        return softmax_attention(own_q, keys, torch.cat([c["v"][:, :, :block], c["v"][:, :, working], v], 2))


def record_rolling(to: Path, size: dict, steps: list[int], frames: int) -> Path:
    f = Fixture(frames + len(steps), 1, **size)
    cache = RollingForcingCache(f)
    noise = f.randn(1, frames, 3, *f.latent)
    blocks, levels = frames // 3, len(steps)
    noisy: dict[int, Tensor] = {}
    output = torch.zeros(1, frames, 3, *f.latent, dtype=torch.float64)
    used = []
    # Row from clean to noisy, one entry per frame.
    row = [STEPS[step] for step in reversed(steps) for _ in range(3)]
    for w in range(blocks + levels - 1):
        first, last = max(0, w - levels + 1), min(blocks - 1, w)
        n = last - first + 1
        part = row[: n * 3] if w >= blocks else row[len(row) - n * 3 :]
        parts = [noisy[b] for b in range(first, last)]
        parts.append(noise[:, last * 3 : last * 3 + 3].double() if w < blocks else noisy[last])
        x = torch.cat(parts, 1)
        t = torch.tensor([[entry[0] for entry in part]], dtype=torch.float64)
        sigma = torch.tensor([entry[1] for entry in part], dtype=torch.float64).view(1, -1, 1, 1, 1)
        cache.start, cache.updating = first * 3, False
        x0 = x - sigma * f.run(x, t, f.text[0], cache)
        output[:, first * 3 : last * 3 + 3] = x0
        for i in range(n):
            step = [entry[0] for entry in (STEPS[s] for s in steps)].index(part[i * 3][0])
            if step + 1 == levels:
                continue
            draw = f.randn(1, n * 3, 3, *f.latent)[:, i * 3 : i * 3 + 3]
            used.append(draw[0])
            after = STEPS[steps[step + 1]][1]
            noisy[first + i] = (1 - after) * x0[:, i * 3 : i * 3 + 3] + after * draw.double()
        cache.updating = True
        f.run(x0[:, :3], torch.zeros(1, 3, dtype=torch.float64), f.text[0], cache)
        snapshot = cache.layers[1]["k"].transpose(1, 2).float().contiguous()
        f.outputs[f"kv_after_frame{first * 3:04d}.k_layer1"] = snapshot
    f.outputs["latents"] = output.float().contiguous()
    renoise = torch.stack(used) if used else noise[:0, :3]
    inputs = {"noise": noise, "renoise": renoise, "text_embeds": f.text[0]}
    return f.write(to, {"repo": "rolling", "frames": frames, "steps": steps}, steps, inputs)


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize(
    ("steps", "frames"),
    [
        ([1000, 800, 600, 400, 200], 48),
        ([1000, 750, 500, 250], 42),
        ([1000, 500], 36),
        ([1000, 600, 200], 33),
        ([1000], 30),
        ([1000, 750, 600, 500, 400, 250], 39),
        ([1000, 800, 600, 400, 200], 15),
    ],
)
def test_rolling_forcing(steps: list[int], frames: int, size: int, tmp_path: Path) -> None:
    assert main([f"golden={record_rolling(tmp_path / 'f', SIZES[size], steps, frames)}"]) == 0


def test_rolling_forcing_shorter_than_its_window_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"golden={record_rolling(tmp_path / 'f', SIZES[0], [1000, 500, 250], 6)}"]) == 2
    assert "less than one rolling window" in capsys.readouterr().out


def test_upstream_rolling_noise_draws_whole_windows() -> None:
    """Per window, for every chunk that is not at the last step, left to right, a draw for the whole window."""
    shape, steps, chunks = (1, 15, 2, 2, 2), 3, 5
    noise = UpstreamRollingNoise(7, shape, steps, 3)
    generator = torch.Generator().manual_seed(7)
    assert torch.equal(noise.initial(6, (1, 3, 2, 2, 2)), torch.randn(shape, generator=generator)[:, 6:9])
    for w in range(chunks + steps - 1):
        first, last = max(0, w - steps + 1), min(w, chunks - 1)
        for i, chunk in enumerate(range(first, last + 1)):
            if w - chunk + 1 < steps:
                whole = torch.randn(((last - first + 1) * 3, 2, 2, 2), generator=generator)
                got = noise.renoise(chunk * 3, w - chunk, (1, 3, 2, 2, 2))
                assert torch.equal(got[0], whole[i * 3 : i * 3 + 3])


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
