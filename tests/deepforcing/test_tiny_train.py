"""The trainer trains what the engine runs: its attention is the cached rollout's, its loss goes down, it is repeatable."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from trained import trained

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll
from deepforcing.tiny import train
from deepforcing.tiny.model import CHUNK_FRAMES, SHIPPED, TINY_CONFIG, TINY_GEOMETRY, TinyModel
from deepforcing.tiny.muon import orthogonalise


@pytest.fixture(scope="module")
def shipped() -> TinyModel:
    return TinyModel.load(SHIPPED).eval().requires_grad_(False)


def test_teacher_forcing_computes_what_the_cached_rollout_computes(shipped: TinyModel) -> None:
    frames = 4 * CHUNK_FRAMES
    classes, latents = train.clip_batch(shipped, 2, frames, torch.Generator().manual_seed(0))
    sigma = torch.tensor([[1.0, 0.9, 0.5, 0.7]]).expand(2, -1)
    noisy = latents + 0.3 * torch.randn(latents.shape, generator=torch.Generator().manual_seed(1))
    clean = frames - CHUNK_FRAMES
    t = torch.cat([torch.zeros(2, clean), 1000 * sigma.repeat_interleave(CHUNK_FRAMES, 1)], 1)
    text = shipped.wan.encode_text(shipped.text.embed(classes))
    rope = KVCache(CachePolicy(KeepAll()), TINY_CONFIG, TINY_GEOMETRY.grid, CHUNK_FRAMES, frames).rope
    memory = train.TeacherForcing(rope, frames, CHUNK_FRAMES)
    at_once = shipped.wan(torch.cat([latents[:, :clean], noisy], 1), t, text, memory)[:, clean:]

    cache = KVCache(CachePolicy(KeepAll()), TINY_CONFIG, TINY_GEOMETRY.grid, CHUNK_FRAMES, frames, batch=2)
    for i, start in enumerate(range(0, frames, CHUNK_FRAMES)):
        chunk = slice(start, start + CHUNK_FRAMES)
        cache.begin(start)
        level = 1000 * sigma[:, i : i + 1].expand(2, CHUNK_FRAMES)
        torch.testing.assert_close(
            shipped.wan(noisy[:, chunk], level, text, cache.denoise()), at_once[:, chunk], atol=2e-4, rtol=1e-4
        )
        shipped.wan(latents[:, chunk], torch.zeros(2, CHUNK_FRAMES), text, cache.commit())


def test_attention_gradients_are_autograds() -> None:
    rope = KVCache(CachePolicy(KeepAll()), TINY_CONFIG, (1, 2), CHUNK_FRAMES, 9).rope
    memory = train.TeacherForcing(rope, 9, CHUNK_FRAMES)
    tokens = (9 - CHUNK_FRAMES + 9) * 2
    visible = torch.zeros(tokens, tokens, dtype=torch.bool)
    for own, seen in memory.views():
        for part in seen:
            visible[own, part] = True
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(1, 2, tokens, 32, generator=generator).requires_grad_() for _ in range(3)]

    def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        weights = (q @ k.mT / 32**0.5).masked_fill(~visible, float("-inf")).softmax(-1)
        return weights @ v

    ours = train.ChunkedAttention.apply(*inputs, memory)
    torch.testing.assert_close(ours, masked(*inputs), atol=1e-5, rtol=1e-4)
    weight = torch.randn(ours.shape, generator=generator)
    for a, b in zip(
        torch.autograd.grad((ours * weight).sum(), inputs),
        torch.autograd.grad((masked(*inputs) * weight).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(a, b, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("shape", [(3, 8, 8), (2, 6, 20), (2, 20, 6)])
def test_muon_direction_has_singular_values_near_one(shape: tuple[int, int, int]) -> None:
    m = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    values = torch.linalg.svdvals(orthogonalise(m))
    assert values.min() > 0.5
    assert values.max() < 1.3


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> dict[str, Tensor]:
    return trained(monkeypatch, out, "--batch", "2", "--lr", "1e-3", *options)


@pytest.mark.slow
def test_training_is_repeatable_and_records_its_history(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(monkeypatch, tmp_path / "a.safetensors", "--steps", "3")
    again = run(monkeypatch, tmp_path / "b.safetensors", "--steps", "3")
    other = run(monkeypatch, tmp_path / "c.safetensors", "--steps", "3", "--seed", "1")
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["wan.head.head.weight"], other["wan.head.head.weight"])
    run(monkeypatch, tmp_path / "d.safetensors", "--steps", "1", "--init", str(tmp_path / "a.safetensors"))
    with safe_open(tmp_path / "d.safetensors", framework="pt") as file:
        history = file.metadata()["history"].splitlines()
    assert len(history) == 2
    assert "--steps 3" in history[0]
    assert "--steps 1" in history[1]


def test_shipped_checkpoint_says_how_it_was_made() -> None:
    assert SHIPPED.stat().st_size < 10e6
    with safe_open(SHIPPED, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["history"].count("deepforcing.tiny.train") == 2
    assert {"data", "machine"} <= metadata.keys()
