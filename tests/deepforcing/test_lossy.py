"""Lossy options: each does what it says and nothing else, is part of the identity, and is refused where it cannot work."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from steady import CONFIG, POLICIES
from torch import Tensor

from baselines.self_forcing import self_forcing
from deepforcing.cache.recency import RecencyBias
from deepforcing.generator import Generator
from deepforcing.lossy import fp8_attention, teacache
from deepforcing.lossy.exact import Exact, use
from deepforcing.lossy.fp8_attention import FP8Attention
from deepforcing.lossy.fp8_linears import FP8Linears, RoundedLinear, rounded
from deepforcing.lossy.no_commit import NoCommit
from deepforcing.lossy.teacache import SkippingSteps, TeaCache
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.noise import KeyedNoise
from deepforcing.rollout.rules import Rolling
from deepforcing.rollout.schedule import Schedule
from deepforcing.tiny.model import TinySpec
from deepforcing.wan.attention import attend
from deepforcing.wan.kernels import computed
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import random_wan

CPU = torch.device("cpu")
FOUR = Schedule((1000, 750, 500, 250))
SPEC = self_forcing(TinySpec(), POLICIES["deep_sink"])


def latents(lossy: Exact, policy: Any = POLICIES["deep_sink"], passes: list[int] | None = None) -> Tensor:
    """A rollout of 8 chunks by a small random model, as generator.py runs it. passes: counts the blocks' passes."""
    model, total = random_wan(CONFIG), 24
    use(model, lossy)
    if passes is not None:
        model.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    text = model.encode_text(torch.randn(1, 4, 10, generator=torch.Generator().manual_seed(8)))
    cache = policy.new_cache(CONFIG, (2, 2), 3, total)
    made = chunkwise(
        model,
        text,
        cache,
        FOUR,
        KeyedNoise([(0, "p")]),
        total,
        (4, 4),
        steps=lossy.steps(model),
        clean_pass=lossy.cleans,
    )
    return torch.cat([chunk.latents for chunk in computed(made, model.kernels)], 1)


@pytest.mark.parametrize("name", ["deep_sink", "deep_forcing", "longlive", "dummy_forcing"])
@pytest.mark.parametrize(
    "lossy", [FP8Linears(), FP8Attention(), TeaCache(9.0), NoCommit()], ids=lambda option: option.name
)
def test_other_latents_but_of_the_same_kind(lossy: Exact, name: str) -> None:
    """Every option changes something, and none of them leaves the scale of what is exact."""
    exact, other = latents(Exact(), POLICIES[name]), latents(lossy, POLICIES[name])
    assert torch.equal(exact, latents(Exact(), POLICIES[name]))
    difference = float((exact - other).norm() / exact.norm())
    assert 1e-4 < difference < 2
    if lossy.changes:
        assert difference < 0.3


# ---- TeaCache -------------------------------------------------------------------------------------------------------


def test_a_threshold_that_nothing_stays_below_is_exact() -> None:
    passes: list[int] = []
    assert torch.equal(latents(TeaCache(1e-9), passes=passes), latents(Exact()))
    assert len(passes) == 8 * 5


def test_steps_below_the_threshold_are_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    """First steps and clean passes always run; the sum starts anew when the blocks ran."""
    passes: list[int] = []
    latents(TeaCache(1e6), passes=passes)
    assert len(passes) == 8 * 2
    changes = iter([0.4, 0.4, 0.4] * 8)  # .4, .8, 1.2: the last step runs
    monkeypatch.setattr(teacache, "distance", lambda new, old: next(changes))
    passes = []
    latents(TeaCache(1.0), passes=passes)
    assert len(passes) == 8 * 3
    changes = iter([0.4, 0.4, 0.4] * 8)  # 2 (.4)^2 + .1 = .42, twice that reaches .8
    passes = []
    latents(TeaCache(0.8, (2.0, 0.0, 0.1)), passes=passes)
    assert len(passes) == 8 * 3


def test_a_skipped_step_adds_what_the_blocks_added_before() -> None:
    model = random_wan(CONFIG)
    x, text = torch.randn(1, 3, 3, 4, 4), model.encode_text(torch.randn(1, 4, 10))
    t = [torch.full((1, 3), value) for value in (900.0, 500.0)]
    cache = POLICIES["self_forcing"].new_cache(CONFIG, (2, 2), 3, 3)
    cache.begin(0)
    with torch.no_grad():
        steps = SkippingSteps(model, TeaCache(1e6))
        steps(x, t[0], text, cache.denoise(0), 0)
        got = steps(2 * x, t[1], text, cache.denoise(1), 1)
        embedded, _, modulation = model.embed(x, t[0])
        added = model.through_blocks(embedded, modulation, text, cache.denoise(0)) - embedded
        embedded, time, _ = model.embed(2 * x, t[1])
        want = model.unpatchify(model.head(embedded + added, time), x.shape[-2:])
    torch.testing.assert_close(got, want)


def test_the_distance_is_the_papers() -> None:
    assert teacache.distance(torch.tensor([3.0, -1.0]), torch.tensor([1.0, -3.0])) == pytest.approx(4 / 4)


# ---- no clean pass --------------------------------------------------------------------------------------------------


def test_without_a_clean_pass_the_last_denoising_pass_is_kept() -> None:
    passes: list[int] = []
    got = latents(NoCommit(), passes=passes)
    assert len(passes) == 8 * 4
    torch.testing.assert_close(got[:, :3], latents(Exact())[:, :3])  # only later chunks read what is stored
    assert float((got[:, 3:] - latents(Exact())[:, 3:]).abs().max()) > 1e-3


# ---- FP8 ------------------------------------------------------------------------------------------------------------


def test_rounding_is_to_three_bits_of_a_row() -> None:
    x = torch.randn(64, 512, generator=torch.Generator().manual_seed(1)) * torch.logspace(-3, 3, 64)[:, None]
    error = (rounded(x) - x).abs() / x.abs().amax(-1, keepdim=True)
    assert float(error.max()) <= 16 / 448 + 1e-6  # half a step of the highest octave, 256 to 448
    relative = ((rounded(x) - x).abs() / x.abs())[x.abs() > x.abs().amax(-1, keepdim=True) / 1000]
    assert float(relative.max()) <= 1 / 16 + 1e-6
    assert torch.equal(rounded(torch.zeros(2, 8)), torch.zeros(2, 8))
    assert torch.equal(rounded(rounded(x)), rounded(x))


def test_rounding_is_torchaos() -> None:
    module = pytest.importorskip("torchao.quantization.quantize_.workflows.float8.float8_tensor")
    from torchao.quantization import PerRow

    x = torch.randn(7, 256, generator=torch.Generator().manual_seed(2)) * 3
    assert torch.equal(rounded(x), module.Float8Tensor.from_hp(x, granularity=PerRow()).dequantize())


def test_all_linears_of_a_block_but_the_texts_are_rounded() -> None:
    model = random_wan(CONFIG)
    use(model, FP8Linears())
    kinds = {name: type(module) for name, module in model.named_modules() if name.startswith("blocks.1.")}
    kept = [name for name, kind in kinds.items() if kind is torch.nn.Linear]
    assert kept == ["blocks.1.cross_attn.k", "blocks.1.cross_attn.v"]
    assert sum(kind is RoundedLinear for kind in kinds.values()) == 8
    use(model, FP8Linears())  # a second generator of the same model
    with pytest.raises(ValueError, match="lossy=fp8_linears; build it again for exact"):
        use(model, Exact())


@pytest.mark.parametrize("masked", [None, "bool", "bias"])
def test_attention_is_rounded_but_the_same_attention(masked: str | None) -> None:
    g = torch.Generator().manual_seed(3)
    q, k, v = (torch.randn(2, 3, n, 16, generator=g) for n in (5, 40, 40))
    mask = None
    if masked:
        mask = torch.rand(2, 1, 1, 40, generator=g) > 0.5
        mask = mask if masked == "bool" else mask.float() * 3
    exact, got = attend(q, k, v, mask), fp8_attention.attend(q, k, v, mask)
    assert 1e-4 < float((exact - got).abs().max()) < 0.15
    alone = fp8_attention.attend(q[:, :1], k[:, :1], v[:, :1], mask)
    torch.testing.assert_close(got[:, :1], alone)  # a scale for every head
    only = fp8_attention.attend(q, k[:, :, :1], v[:, :, :1])  # one key: its value, rounded
    assert math.isclose(float((only - v[:, :, :1]).abs().max() / v.abs().max()), 0, abs_tol=1 / 16)


# ---- where it belongs -----------------------------------------------------------------------------------------------


def test_identity() -> None:
    options = [FP8Linears(), FP8Attention(), TeaCache(), TeaCache(0.9), TeaCache(polynomial=(2.0, 0.0)), NoCommit()]
    usual = SPEC.identity(6)
    assert "lossy" not in usual
    found = [replace(SPEC, lossy=option).identity(6) for option in options]
    assert len({str(identity["lossy"]) for identity in found}) == len(options)
    assert all({k: v for k, v in identity.items() if k != "lossy"} == usual for identity in found)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lossy": NoCommit(), "rule": Rolling()}, "lossy=no_commit works on the steps of one chunk"),
        ({"lossy": TeaCache(), "rule": Rolling()}, "lossy=teacache works on the steps of one chunk"),
        ({"lossy": NoCommit(), "cache": POLICIES["commit_frames"]}, "its clean pass reads other frames"),
        ({"lossy": NoCommit(), "cache": POLICIES["decoprune"]}, "it chooses tokens by the finished chunk"),
        ({"lossy": NoCommit(), "cache": replace(POLICIES["sink"], bias=RecencyBias())}, "its bias is for denoising"),
        ({"lossy": TeaCache(), "backend": "graphs"}, "use backend=compiled"),
        ({"lossy": FP8Linears(), "backend": "packed"}, "use backend=plain"),
        ({"lossy": FP8Attention(), "backend": "graphs"}, "not graphs"),
        ({"lossy": FP8Attention(), "attention": "flash"}, "use attention=torch, not flash"),
    ],
)
def test_what_does_not_fit_is_one_line(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why) as said:
        replace(SPEC, **changes).lossy.check(replace(SPEC, **changes))
    assert "\n" not in str(said.value)


def test_one_video_decides_for_no_other() -> None:
    with pytest.raises(ValueError, match="batch=2 does not fit it: use batch=1"):
        replace(SPEC, lossy=TeaCache()).check_batch(2)
    replace(SPEC, lossy=FP8Linears()).check_batch(2)
    with pytest.raises(ValueError, match=r"threshold=0\.0 must be positive"):
        TeaCache(0.0)
    with pytest.raises(ValueError, match="must have a coefficient"):
        TeaCache(polynomial=())


def test_fp8_on_a_gpu_needs_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu, check = torch.device("cuda"), FP8Linears().check_device
    check(CPU, torch.float32)
    with pytest.raises(ValueError, match="use dtype=bfloat16"):
        check(gpu, torch.float32)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (8, 0))
    with pytest.raises(ValueError, match="no FP8 matrix units"):
        check(gpu, torch.bfloat16)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="needs the package torchao"):
        check(gpu, torch.bfloat16)


def test_a_generator_runs_its_option() -> None:
    """Through the spec, on the embedded world: one chunk less a pass, other pixels."""
    spec = replace(SPEC, lossy=NoCommit())
    generator, passes = Generator(spec, spec.model.build(CPU, torch.float32), CPU), []
    wan: CausalWan = generator.model.wan
    wan.blocks[0].register_forward_hook(lambda *_: passes.append(1))
    list(generator.generate("a red disc starts at the left and circles clockwise on a slate background", "p", 0, 3))
    assert len(passes) == 4
