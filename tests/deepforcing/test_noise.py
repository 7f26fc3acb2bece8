"""Keyed noise depends on its key and nothing else; upstream noise follows the published order of draws."""

from __future__ import annotations

import pytest
import torch

from deepforcing.rollout.noise import KeyedNoise, UpstreamNoise

SHAPE = (1, 3, 4, 6, 8)
PINNED = [-1.7959813, 1.2733617, 0.0338521, -0.7253445]


def test_keyed_noise_does_not_depend_on_batch_order_or_what_was_drawn_before() -> None:
    both, alone, other_way = KeyedNoise([(0, "a"), (1, "b")]), KeyedNoise([(1, "b")]), KeyedNoise([(1, "b"), (0, "a")])
    two = (2, *SHAPE[1:])
    late = alone.renoise(9, 2, SHAPE)
    first = alone.initial(0, SHAPE)
    for start in (0, 3, 6):
        both.initial(start, two)
    assert torch.equal(both.initial(0, two)[1:], first)
    assert torch.equal(other_way.initial(0, two)[:1], first)
    assert torch.equal(both.renoise(9, 2, two)[1:], late)


def test_every_key_gives_its_own_noise() -> None:
    draws = [
        KeyedNoise([(seed, prompt)]).renoise(start, step, SHAPE)
        for seed, prompt, start, step in [
            (0, "a", 0, 0),
            (1, "a", 0, 0),
            (0, "b", 0, 0),
            (0, "a", 3, 0),
            (0, "a", 0, 1),
        ]
    ]
    draws.append(KeyedNoise([(0, "a")]).initial(0, SHAPE))
    draws.append(KeyedNoise([(1, "1/0")]).initial(0, SHAPE))
    flat = torch.stack([d.flatten() for d in draws])
    correlation = torch.corrcoef(flat) - torch.eye(len(draws))
    assert correlation.abs().max() < 0.2
    assert flat.mean().abs() < 0.1
    assert flat.std() == pytest.approx(1, abs=0.05)


def test_keyed_noise_in_bfloat16_is_the_same_draw_rounded() -> None:
    want = KeyedNoise([(5, "a")]).initial(3, SHAPE)
    assert torch.equal(KeyedNoise([(5, "a")], torch.bfloat16).initial(3, SHAPE), want.bfloat16())


def test_keyed_noise_is_pinned() -> None:
    """The first numbers for one key: a change would silently make old samples irreproducible."""
    got = KeyedNoise([(0, "prompt")]).initial(0, (1, 1, 1, 1, 4)).flatten()
    torch.testing.assert_close(got, torch.tensor(PINNED), atol=1e-6, rtol=0)


@pytest.mark.parametrize("given", [0, 6])
def test_upstream_order(given: int) -> None:
    """One draw of all initial noise, then one [B * chunk, ...] draw per non-last step, chunk after chunk."""
    batch, frames = 2, 9
    noise = UpstreamNoise(42, (batch, frames, 4, 6, 8), first=given)
    shape = (batch, 3, 4, 6, 8)
    got = []
    for start in range(given, given + frames, 3):
        got.append(noise.initial(start, shape))
        got += [noise.renoise(start, step, shape) for step in range(3)]
    generator = torch.Generator().manual_seed(42)
    everything = torch.randn(batch, frames, 4, 6, 8, generator=generator)
    for chunk in range(3):
        assert torch.equal(got.pop(0), everything[:, chunk * 3 : chunk * 3 + 3])
        for _ in range(3):
            assert torch.equal(got.pop(0), torch.randn(batch * 3, 4, 6, 8, generator=generator).view(shape))
