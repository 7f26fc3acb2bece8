"""The seam between transformer and cache: cached rollouts equal one uncached pass over all frames, and nothing syncs.

The uncached reference is the naive transformer in float64 over the whole video at once: every chunk's queries meet the
un-rotated keys of all frames, rotated afresh at the positions that the policy's definition gives (written out here).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from naive import NaiveWan, softmax_attention, turn_frames
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from deepforcing.cache.alignment import NAMED, ReleaseSink
from deepforcing.cache.bands import BandedPolicy
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.dummy_forcing import DummyForcing
from deepforcing.cache.forcing_kv import ForcingKV
from deepforcing.cache.head_classes import HeadClasses
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy, Retention
from deepforcing.cache.pyramid_forcing import PyramidForcing, PyramidPositions
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.cache.scorers import Random
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import random_wan

CONFIG = WanConfig(
    dim=40, ffn_dim=64, freq_dim=16, in_dim=3, out_dim=3, num_heads=2, num_layers=2, text_dim=10, text_len=4
)
LATENT, GRID = (4, 6), (2, 3)
SCHEDULE = Schedule((1000, 500))
PAST = Callable[[int], list[tuple[int, int]]]
"""Start of a chunk -> (frame, temporal position) of everything before it that it sees."""


def peaked(seed: int = 0) -> CausalWan:
    """Random weights with attention far from uniform, so that a wrong key shows."""
    model = random_wan(CONFIG, seed=seed)
    for block in model.blocks:
        block.self_attn.norm_q.weight.mul_(4)
        block.self_attn.norm_k.weight.mul_(2)
    return model


def seen(window: int | None, sink: int, alignment: str, chunk: int) -> PAST:
    """From the definitions: window counts the chunk; the sink sits right before the tail when it is re-aligned."""

    def past(start: int) -> list[tuple[int, int]]:
        if window is None or start + chunk <= window:
            return [(f, f) for f in range(start)]
        tail = list(range(start - (window - chunk - sink), start))
        shift = 0 if alignment == "absolute" else start - len(tail) - sink
        return [(f, f + shift) for f in range(sink)] + [(f, f) for f in tail]

    return past


def uncached(past: PAST, chunk: int, total: int) -> Callable[[int, Tensor, Tensor, Tensor], Tensor]:
    """Block-causal attention over a whole video, chunk by chunk from the raw keys."""
    s = GRID[0] * GRID[1]

    def frames(x: Tensor, which: list[int]) -> Tensor:
        return torch.cat([x[:, :, f * s : f * s + s] for f in which], 2) if which else x[:, :, :0]

    def attention(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = []
        for start in range(0, total, chunk):
            own = list(range(start, start + chunk))
            visible = past(start) + [(f, f) for f in own]
            keys = turn_frames(frames(k, [f for f, _ in visible]), [p for _, p in visible], GRID)
            out.append(
                softmax_attention(turn_frames(frames(q, own), own, GRID), keys, frames(v, [f for f, _ in visible]))
            )
        return torch.cat(out, 2)

    return attention


CASES: list[tuple[str, Retention, str, PAST, int]] = [
    ("keep_all", KeepAll(), "absolute", seen(None, 0, "absolute", 3), 3),
    ("keep_all_framewise", KeepAll(), "absolute", seen(None, 0, "absolute", 1), 1),
    ("window", SinkWindow(9), "absolute", seen(9, 0, "absolute", 3), 3),
    ("window_not_a_multiple", SinkWindow(8), "absolute", seen(8, 0, "absolute", 3), 3),
    ("sink", SinkWindow(9, 4), "absolute", seen(9, 4, "absolute", 3), 3),
    ("deep_sink", SinkWindow(9, 4), "sink", seen(9, 4, "sink", 3), 3),
    ("deep_sink_no_tail", SinkWindow(6, 3), "sink", seen(6, 3, "sink", 3), 3),
    ("deep_sink_unified", SinkWindow(10, 5), "unified", seen(10, 5, "sink", 3), 3),
    ("slots", SinkWindow(9, 4), "slot", seen(9, 4, "slot", 3), 3),
    ("slots_framewise", SinkWindow(5, 2), "slot", seen(5, 2, "slot", 1), 1),
]


@pytest.mark.parametrize(("retention", "alignment", "past", "chunk"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_cached_rollout_equals_one_uncached_pass(retention: Retention, alignment: str, past: PAST, chunk: int) -> None:
    total, batch = 8 * chunk if chunk == 3 else 12, 2
    model = peaked()
    embeddings = torch.randn(batch, 4, 10, generator=torch.Generator().manual_seed(3))
    cache = KVCache(CachePolicy(retention, alignment), CONFIG, GRID, chunk, total, batch)
    predictions: dict[tuple[int, float], Tensor] = {}
    inputs: dict[tuple[int, float], Tensor] = {}
    hook = model.register_forward_hook(
        lambda m, args, out: inputs.update({(cache.view.start, float(args[1][0, 0])): args[0]})
    )
    noise = KeyedNoise([(0, "a"), (1, "b")])
    latents = []
    for piece in chunkwise(
        model,
        model.encode_text(embeddings),
        cache,
        SCHEDULE,
        noise,
        total,
        LATENT,
        watch=lambda start, t, out: predictions.update({(start, float(t[0, 0])): out}),
    ):
        latents.append(piece.latents)
    hook.remove()
    clean = torch.cat(latents, 1)
    naive = NaiveWan(model.state_dict(), CONFIG.num_heads, CONFIG.freq_dim)
    attention = uncached(past, chunk, total)
    # All commit passes at once: the clean video at timestep 0.
    whole = naive(clean, torch.zeros(batch, total), embeddings, attention)
    for start in range(0, total, chunk):
        torch.testing.assert_close(
            predictions[start, 0.0].double(), whole[:, start : start + chunk], atol=2e-5, rtol=1e-5
        )
    # Denoising passes: a noisy last chunk after its clean past.
    for start in (total // 2 // chunk * chunk, total - chunk):
        for t in SCHEDULE.timesteps:
            video = torch.cat([clean[:, :start], inputs[start, t]], 1)
            times = torch.cat([torch.zeros(batch, start), torch.full((batch, chunk), t)], 1)
            want = naive(video, times, embeddings, uncached(past, chunk, start + chunk))[:, start:]
            torch.testing.assert_close(predictions[start, t].double(), want, atol=2e-5, rtol=1e-5)


def test_the_comparison_can_fail() -> None:
    """A reference that moves the sink, or drops one frame more, is far from the right one."""
    total, model = 24, peaked()
    text, video = torch.randn(1, 4, 10), torch.randn(1, total, 3, *LATENT)
    naive = NaiveWan(model.state_dict(), CONFIG.num_heads, CONFIG.freq_dim)
    right, moved, shorter = (
        naive(video, torch.zeros(1, total), text, uncached(seen(w, 4, a, 3), 3, total))
        for w, a in ((9, "absolute"), (9, "sink"), (8, "absolute"))
    )
    assert (right - moved).abs().max() > 1e-3
    assert (right - shorter).abs().max() > 1e-3


# ---- no device-to-host synchronisation ---------------------------------------------------------------------------

SYNCING = (
    "_local_scalar_dense",
    "item",
    "nonzero",
    "equal",
    "is_nonzero",
    "masked_select",
    "unique",
    "_unique2",
    "is_same_size_and_equal",
    "allclose",
)


class NoSyncOps(TorchDispatchMode):
    """Fails on operators whose result the host must wait for on a GPU."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = func.name().split("::")[1].split(".")[0]
        assert name not in SYNCING, f"{func} waits for the device"
        if name in ("index", "index_put", "index_put_"):
            indices = [i for i in args[1] if isinstance(i, Tensor)]
            assert all(i.dtype != torch.bool for i in indices), f"{func} by a boolean mask waits for the device"
        return func(*args, **(kwargs or {}))


class NoHostReads(TorchFunctionMode):
    """Fails on Python-level reads, among them those that a CPU tensor serves without an operator."""

    FORBIDDEN = frozenset(
        ("item", "tolist", "numpy", "cpu", "__bool__", "__int__", "__float__", "__index__", "__array__", "__contains__")
    )

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        name = getattr(func, "__name__", "")
        assert name not in self.FORBIDDEN, f"Tensor.{name} reads from the device"
        return func(*args, **(kwargs or {}))


def compression(**changes: object) -> ParticipativeCompression:
    sizes = {"window_frames": 12, "sink_frames": 3, "budget_frames": 9, "recent_frames": 4, **changes}
    return ParticipativeCompression(**sizes)  # type: ignore[arg-type]


POLICIES = {
    "keep_all": CachePolicy(KeepAll()),
    "window": CachePolicy(SinkWindow(9)),
    "sink": CachePolicy(SinkWindow(9, 4)),
    "deep_sink": CachePolicy(SinkWindow(9, 4), "sink"),
    "slot": CachePolicy(SinkWindow(9, 4), "slot"),
    "deep_forcing": CachePolicy(compression(), "unified"),
    "deep_forcing_sink": CachePolicy(compression(), "sink"),
    "deep_forcing_release": CachePolicy(compression(every_pass=True, reuse_limit=7), ReleaseSink(9)),
    "per_head_reuse": CachePolicy(compression(per_head=True, reuse_limit=1, budget_frames=11), NAMED["unified"]),
    "past": CachePolicy(compression(queries="past", recent_frames=5), "absolute"),
    "forcing_kv": BandedPolicy(ForcingKV(HeadClasses(((), (0,)), 2), static_frames=3)),
    "pyramid_forcing": BandedPolicy(PyramidForcing(((-1, 2), (1, 2))), PyramidPositions()),
    "denoising_random": CachePolicy(compression(queries="denoising", scorer=Random(3)), "slot"),
}


def passes(policy: CachePolicy, device: str, chunks: int = 7) -> Iterator[Callable[[], None]]:
    """The work of a rollout, one callable per chunk: begin, two denoising passes, commit."""
    model = peaked().to(device)
    cache = policy.new_cache(CONFIG, GRID, 3, chunks * 3, 1, device=device)
    text = model.encode_text(torch.zeros(1, 4, 10, device=device))
    times = [torch.full((1, 3), t, device=device) for t in (1000.0, 833.3, 0.0)]
    videos = [torch.randn(1, 3, 3, *LATENT, device=device) for _ in range(chunks)]

    def work(chunk: int) -> None:
        cache.begin(chunk * 3)
        for t in times[:2]:
            model(videos[chunk], t, text, cache.denoise())
        model(videos[chunk], times[2], text, cache.commit())

    for chunk in range(chunks):
        yield lambda chunk=chunk: work(chunk)  # type: ignore[misc]


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@torch.no_grad()
def test_a_chunk_reads_nothing_back(policy: CachePolicy) -> None:
    for work in passes(policy, "cpu"):
        with NoHostReads(), NoSyncOps():
            work()


@torch.no_grad()
def test_heads_are_told_apart_by_one_read_of_a_video() -> None:
    """Dummy Forcing's classes come back from the device at the start of the third chunk, and nothing else ever does."""
    reads = []
    for chunk, work in enumerate(passes(BandedPolicy(DummyForcing()), "cpu")):
        try:
            with NoHostReads(), NoSyncOps():
                work()
        except AssertionError as read:
            reads.append((chunk, str(read).splitlines()[0]))
            work()
    assert reads == [(2, "Tensor.cpu reads from the device")]


class NoBlockingUploads(TorchFunctionMode):
    """Fails on copies from the host to the (meta) device that a GPU's host would wait for."""

    def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        kwargs = kwargs or {}
        if func in (torch.tensor, torch.as_tensor) and not isinstance(args[0], Tensor):
            assert torch.device(kwargs.get("device") or "cpu").type == "cpu", f"{func.__name__} of host data waits"
        result = func(*args, **kwargs)
        if func in (Tensor.to, torch.as_tensor) and isinstance(args[0], Tensor) and args[0].device != result.device:
            assert kwargs.get("non_blocking"), "a blocking copy to the device waits"
        return result


@pytest.mark.parametrize("policy", [p for n, p in POLICIES.items() if "random" not in n])
@torch.no_grad()
def test_a_cache_runs_without_any_data(policy: CachePolicy) -> None:
    """On the meta device there are no values: whatever needs one, by whatever operator, raises."""
    cache = policy.new_cache(CONFIG, GRID, 3, 30, device="meta")
    q, k, v = (torch.empty(1, 2, 18, 20, device="meta") for _ in range(3))
    with NoBlockingUploads():
        for start in range(0, 21, 3):
            cache.begin(start)
            for memory in (cache.denoise, cache.commit):
                for layer in (0, 1):
                    assert memory().attend(layer, q, k, v).shape == q.shape


@pytest.mark.parametrize(
    "read",
    [
        lambda x: x.sum().item(),
        lambda x: x.tolist(),
        lambda x: bool(x.sum() > 0),
        lambda x: x[x > 0],
        lambda x: x.nonzero(),
        lambda x: torch.equal(x, x),
        lambda x: range(x.long().sum()),
    ],
)
def test_the_guard_sees_a_read(read: Callable[[Tensor], object]) -> None:
    with pytest.raises(AssertionError), NoHostReads(), NoSyncOps():
        read(torch.ones(3))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@torch.no_grad()
def test_a_chunk_does_not_wait_for_the_gpu(policy: CachePolicy) -> None:
    work = list(passes(policy, "cuda"))
    for chunk in work[:1]:  # the first chunk may initialise libraries
        chunk()
    try:
        torch.cuda.set_sync_debug_mode("error")
        for chunk in work[1:]:
            chunk()
    finally:
        torch.cuda.set_sync_debug_mode("default")
