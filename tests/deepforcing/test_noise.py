"""Keyed noise depends on its key and nothing else; upstream noise follows the published order of draws."""

from __future__ import annotations

import pytest
import torch

from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.generator import Generator, GeneratorSpec
from deepforcing.rollout.noise import KeyedNoise, Noise, UpstreamNoise
from deepforcing.rollout.rules import Rolling
from deepforcing.runs import identity_hash
from deepforcing.stopwatch import Stopwatch
from deepforcing.tiny.model import TinySpec

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


# ---- noise=release: Deep Forcing's release -------------------------------------------------------------------------

CPU = torch.device("cpu")
CAPTIONS = [
    "a red disc starts at the left and circles clockwise on a slate background",
    "a blue ring starts at the top and circles counterclockwise on a sand background",
]


def spec(noise: str, **changes: object) -> GeneratorSpec:
    return GeneratorSpec("g", TinySpec(), CachePolicy(SinkWindow(21, 3)), noise=noise, **changes)  # type: ignore[arg-type]


def noises(generator: Generator, frames: int, seed: int = 0) -> list[Noise]:
    return [generator.job(text, f"p{i}", seed, frames, Stopwatch(CPU)).noise for i, text in enumerate(CAPTIONS)]


def draws(noise: Noise, frames: int) -> list[torch.Tensor]:
    """Every draw of a rollout of four steps, in the rollout's order."""
    shape, found = (1, 3, 48, 8, 8), []
    for start in range(0, frames, 3):
        found.append(noise.initial(start, shape))
        found += [noise.renoise(start, step, shape) for step in range(3)]
    return found


@pytest.mark.parametrize(("dtype", "process"), [("float32", 0), ("bfloat16", 0), ("float32", 2)])
def test_every_prompt_has_the_noise_of_the_release(dtype: str, process: int) -> None:
    """Its process seeds torch's own generator with 1356145 plus its number and draws in this order, in the run's dtype."""
    generator = spec("release", dtype=dtype).build(CPU)
    first, second = (draws(noise, 9) for noise in noises(generator, 9, process))
    with torch.random.fork_rng():
        torch.manual_seed(1356145 + process)
        everything = torch.randn([1, 9, 48, 8, 8], dtype=getattr(torch, dtype))
        want = []
        for chunk in everything.split(3, 1):
            want.append(chunk)
            want += [torch.randn_like(chunk.flatten(0, 1)).unflatten(0, (1, 3)) for _ in range(3)]
    assert all(torch.equal(a, b) for a, b in zip(first, want, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(second, want, strict=True))
    assert first[0].dtype == getattr(torch, dtype)


def test_the_released_videos_are_126_latent_frames() -> None:
    """501 pixel frames. The first draw is of all frames, so with another length every later draw is another."""
    made = spec("release")
    assert {made.latent_frames(seconds) for seconds in (31.3, 501 / 16)} == {126}
    generator = made.build(CPU)
    (long, _), (short, _) = noises(generator, 126), noises(generator, 63)
    assert torch.equal(long.initial(0, (1, 3, 48, 8, 8)), short.initial(0, (1, 3, 48, 8, 8)))
    assert not torch.equal(long.renoise(0, 0, (1, 3, 48, 8, 8)), short.renoise(0, 0, (1, 3, 48, 8, 8)))


def test_a_run_tells_which_noise_it_has() -> None:
    """Each kind is a run of its own; where noise is drawn on the device, a CPU's and a GPU's are as well."""
    identities = {
        (noise, device): identity_hash(spec(noise).identity(9, device=device))
        for noise in ("keyed", "upstream", "release")
        for device in ("cpu", "cuda")
    }
    assert identities["keyed", "cpu"] == identities["keyed", "cuda"]
    assert len(set(identities.values())) == 5
    assert spec("release").identity(9)["noise"] == "release"


def test_the_release_has_one_order_of_draws() -> None:
    with pytest.raises(ValueError, match="noise='published' must be one of keyed, upstream, release"):
        spec("published")
    with pytest.raises(
        ValueError, match="drawn chunk after chunk, as Deep Forcing's release does; generator g follows"
    ):
        spec("release", rule=Rolling()).check_sizes(30)
