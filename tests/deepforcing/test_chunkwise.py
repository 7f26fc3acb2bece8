"""The rollout loop: the x0 rule, continuation, streaming, chunk sizes, what the model is fed."""

from __future__ import annotations

from itertools import islice

import pytest
import torch
from naive import NaiveWan, rollout, softmax_attention, turn_frames
from torch import Tensor

from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.rollout.chunkwise import Chunk, chunkwise, clean, mix
from deepforcing.rollout.noise import KeyedNoise, UpstreamNoise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import random_wan

SIZES = {
    "dim": 40,
    "ffn_dim": 64,
    "freq_dim": 16,
    "in_dim": 3,
    "out_dim": 3,
    "num_heads": 2,
    "num_layers": 2,
    "text_dim": 10,
    "text_len": 4,
}
CONFIG = WanConfig(**SIZES)  # type: ignore[arg-type]
LATENT, GRID = (4, 4), (2, 2)
SCHEDULE = Schedule((1000, 500))
MODEL = random_wan(CONFIG)
POLICIES = {
    "keep_all": CachePolicy(KeepAll()),
    "deep_sink": CachePolicy(SinkWindow(9, 4), "sink"),
    "deep_forcing": CachePolicy(ParticipativeCompression(9, 2, 7, 4), "unified"),
}


def generate(
    total: int,
    policy: CachePolicy = POLICIES["deep_sink"],
    *,
    chunk: int = 3,
    model: CausalWan = MODEL,
    noise: object = None,
    schedule: Schedule = SCHEDULE,
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
    **options: object,
) -> list[Chunk]:
    text = model.encode_text(torch.randn(batch, 4, 10, generator=torch.Generator().manual_seed(8)).to(dtype))
    cache = KVCache(policy, model.config, GRID, chunk, total, batch, dtype)
    source = noise or KeyedNoise([(i, "p") for i in range(batch)], dtype)
    return list(chunkwise(model, text, cache, schedule, source, total, LATENT, **options))  # type: ignore[arg-type]


def video(chunks: list[Chunk]) -> Tensor:
    return torch.cat([c.latents for c in chunks], 1)


def test_x0_is_computed_in_float64() -> None:
    """At sigma near 1 the difference cancels: float32 arithmetic would lose digits that float64 keeps."""
    x, flow = torch.randn(2, 1000, generator=torch.Generator().manual_seed(0)).unbind()
    flow = x + 1e-4 * flow
    sigma = 0.9375
    want = (x.double() - sigma * flow.double()).float()
    got = clean(MODEL, x, flow, sigma)
    assert got.dtype == torch.float32
    assert torch.equal(got, want)
    assert not torch.equal(got, x - torch.tensor(sigma) * flow)  # what float32 would give
    half = clean(MODEL, x.bfloat16(), flow.bfloat16(), sigma)
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, (x.bfloat16().double() - sigma * flow.bfloat16().double()).bfloat16())


def test_models_that_predict_x0_are_taken_at_their_word() -> None:
    model = random_wan(WanConfig(**SIZES, prediction="x0"))  # type: ignore[arg-type]
    seen: dict[tuple[int, float], Tensor] = {}
    chunks = generate(6, model=model, watch=lambda s, t, out: seen.update({(s, float(t[0, 0])): out}))
    for chunk in chunks:
        assert torch.equal(chunk.latents, seen[chunk.start, SCHEDULE.timesteps[-1]])


def test_renoise_mixes_in_float32() -> None:
    x0, noise = torch.randn(2, 500, generator=torch.Generator().manual_seed(0)).bfloat16().unbind()
    got = mix(x0, noise, 0.625)
    assert got.dtype == torch.bfloat16
    assert torch.equal(got, (0.375 * x0.float() + 0.625 * noise.float()).bfloat16())


def test_the_whole_loop_against_the_naive_one() -> None:
    """Four steps, everything kept; the other side recomputes the past's keys in float64."""
    schedule, total = Schedule(), 9
    draws = UpstreamNoise(3, (2, total, 3, *LATENT))
    got = video(generate(total, POLICIES["keep_all"], noise=draws, schedule=schedule, batch=2))
    generator = torch.Generator().manual_seed(3)
    noise = torch.randn(2, total, 3, *LATENT, generator=generator)
    renoise = torch.stack([torch.randn(6, 3, *LATENT, generator=generator) for _ in range(9)])
    naive = NaiveWan(MODEL.state_dict(), 2, 16)
    text = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(8))
    past: dict[int, tuple[Tensor, Tensor]] = {}

    def run(start: int, x: Tensor, t: Tensor) -> Tensor:
        def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            own = list(range(start, start + 3))
            old_k, old_v = past.get(layer, (k[:, :, :0], v[:, :, :0]))
            keys = torch.cat([old_k, turn_frames(k, own, GRID)], 2)
            values = torch.cat([old_v, v], 2)
            if float(t[0, 0]) == 0:
                past[layer] = keys, values
            return softmax_attention(turn_frames(q, own, GRID), keys, values)

        return naive(x, t, text, attention)

    want = rollout(run, [1000.0, 937.5, 833.333313, 625.0], [1.0, 0.9375, 0.833333313, 0.625], noise, renoise, 3)
    torch.testing.assert_close(got.double(), want, atol=2e-5, rtol=1e-5)


def test_what_the_model_is_fed() -> None:
    """Float32 timesteps per frame, the commit pass at 0 last; the first chunk may have its own steps."""
    fed: list[tuple[int, list[float]]] = []
    dtypes = set()

    def watch(start: int, t: Tensor, out: Tensor) -> None:
        fed.append((start, t[0].tolist()))
        dtypes.add(t.dtype)
        assert t.shape == (2, 3)

    generate(6, schedule=Schedule((1000, 500), first_chunk_steps=(1000, 750, 250)), batch=2, watch=watch)
    first = [1000.0, 937.5, 625.0, 0.0]
    later = [1000.0, 833.3333129882812, 0.0]
    assert fed == [(0, [t] * 3) for t in first] + [(3, [t] * 3) for t in later]
    assert dtypes == {torch.float32}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("chunk", [1, 3])
def test_the_beginning_of_a_long_run_is_a_short_run(policy: CachePolicy, chunk: int) -> None:
    long, short = generate(18, policy, chunk=chunk), generate(12, policy, chunk=chunk)
    assert [c.start for c in long] == list(range(0, 18, chunk))
    assert torch.equal(video(long)[:, :12], video(short))
    assert [c.tokens for c in long][: len(short)] == [c.tokens for c in short]


def test_upstream_noise_does_depend_on_the_length() -> None:
    """So the test above says something: with the published order of draws it would not hold."""
    long = generate(18, noise=UpstreamNoise(0, (1, 18, 3, *LATENT)))
    short = generate(12, noise=UpstreamNoise(0, (1, 12, 3, *LATENT)))
    assert not torch.equal(video(long)[:, :12], video(short))


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_items_of_a_batch_are_their_own_runs(policy: CachePolicy) -> None:
    both = video(generate(18, policy, batch=2))
    text = torch.randn(2, 4, 10, generator=torch.Generator().manual_seed(8))
    for i in (0, 1):
        cache = KVCache(policy, CONFIG, GRID, 3, 18)
        memory = MODEL.encode_text(text[i : i + 1])
        alone = list(chunkwise(MODEL, memory, cache, SCHEDULE, KeyedNoise([(i, "p")]), 18, LATENT))
        torch.testing.assert_close(both[i : i + 1], video(alone), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("chunk", [1, 3])
def test_continuation_equals_the_run_that_made_the_given_frames(chunk: int) -> None:
    """Given frames are committed as they are: continuing a run's own beginning gives the rest of that run."""
    policy = POLICIES["deep_sink"]
    whole = video(generate(18, policy, chunk=chunk))
    chunks = generate(18, policy, chunk=chunk, initial=whole[:, :12])
    assert torch.equal(video(chunks), whole)
    other = generate(18, policy, chunk=chunk, initial=whole[:, :12] + 0.5)
    assert not torch.allclose(video(other)[:, 12:], whole[:, 12:], atol=1e-3)
    assert torch.equal(video(other)[:, :12], whole[:, :12] + 0.5)


def test_given_frames_take_one_pass_each_and_no_noise() -> None:
    passes: list[tuple[int, float]] = []
    initial = torch.randn(1, 6, 3, *LATENT)
    noise = UpstreamNoise(0, (1, 6, 3, *LATENT), first=6)
    generate(12, initial=initial, noise=noise, watch=lambda s, t, out: passes.append((s, float(t[0, 0]))))
    assert passes[:3] == [(0, 0.0), (3, 0.0), (6, 1000.0)]


def test_the_longer_list_is_for_the_first_chunk_made() -> None:
    """Causal Forcing's few-step models: after given frames as well, as published."""
    schedule = Schedule((1000,), first_chunk_steps=(1000, 500))
    counts: dict[int, int] = {}

    def count(start: int, *_: object) -> None:
        counts[start] = counts.get(start, 0) + 1

    generate(12, schedule=schedule, initial=torch.randn(1, 6, 3, *LATENT), watch=count)
    assert counts == {0: 1, 3: 1, 6: 3, 9: 2}  # with each one's clean pass


@pytest.mark.parametrize(("given", "total"), [(4, 12), (3, 10)])
def test_lengths_that_are_not_whole_chunks(given: int, total: int) -> None:
    with pytest.raises(ValueError, match="multiples of the chunk, 3"):
        generate(total, initial=torch.zeros(1, given, 3, *LATENT))


def test_chunks_stream() -> None:
    """The first chunk is there before the second is computed, and its latents are not written to again."""
    passes: list[int] = []
    text = MODEL.encode_text(torch.zeros(1, 4, 10))
    cache = KVCache(POLICIES["deep_sink"], CONFIG, GRID, 3, 30_000)
    stream = chunkwise(
        MODEL, text, cache, SCHEDULE, KeyedNoise([(0, "p")]), 30_000, LATENT, watch=lambda s, t, out: passes.append(s)
    )
    first = next(stream)
    assert passes == [0, 0, 0]
    copy = first.latents.clone()
    rest = list(islice(stream, 4))
    assert torch.equal(first.latents, copy)
    assert [c.start for c in rest] == [3, 6, 9, 12]
    assert cache.layers[0].k.shape[2] == 9 * 4  # the window, not the video
    stream.close()


def test_no_gradients_are_recorded() -> None:
    model = CausalWan(CONFIG)
    assert any(p.requires_grad for p in model.parameters())
    chunk = next(
        chunkwise(
            model,
            model.encode_text(torch.zeros(1, 4, 10)),
            KVCache(POLICIES["keep_all"], CONFIG, GRID, 3, 3),
            SCHEDULE,
            KeyedNoise([(0, "p")]),
            3,
            LATENT,
        )
    )
    assert not chunk.latents.requires_grad


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
def test_bfloat16_follows_float32(policy: CachePolicy) -> None:
    half = random_wan(CONFIG, torch.bfloat16)
    half.load_state_dict(MODEL.state_dict())
    got = video(generate(18, policy, model=half, dtype=torch.bfloat16))
    want = video(generate(18, policy))
    assert got.dtype == torch.bfloat16
    assert got.isfinite().all()
    assert (got.float() - want).norm() / want.norm() < 0.05


def test_prompts_change_at_their_chunk_and_not_before() -> None:
    other = MODEL.encode_text(torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(9)))
    plain = video(generate(18))
    switched = {
        on_switch: video(generate(18, switches={12: other}, on_switch=on_switch))
        for on_switch in ("nothing", "recache", "recache_sink")
    }
    for latents in switched.values():
        assert torch.equal(latents[:, :12], plain[:, :12])
        assert not torch.allclose(latents[:, 12:], plain[:, 12:], atol=1e-3)
    assert not torch.allclose(switched["nothing"], switched["recache"], atol=1e-4)
    assert not torch.allclose(switched["recache"], switched["recache_sink"], atol=1e-4)


@pytest.mark.parametrize("start", [0, 4, 18, -3])
def test_prompt_changes_that_begin_no_later_chunk_are_refused(start: int) -> None:
    other = MODEL.encode_text(torch.zeros(1, 4, 10))
    with pytest.raises(ValueError, match="begin no later chunk of 3"):
        generate(18, switches={start: other})
