"""Fixtures of sizes that nobody recorded, for Rolling Forcing.

The test records them with a plain re-implementation of the published code's bookkeeping (token indices, literal constants),
in float64, written from its description and not from the library.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from naive import softmax_attention, turn_frames
from recorder import SIZES, STEPS, Fixture
from torch import Tensor

from deepforcing.rollout.rolling import UpstreamRollingNoise
from experiments.replay import main


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
