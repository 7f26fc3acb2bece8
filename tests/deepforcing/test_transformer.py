"""The transformer: official names, one implementation for chunks, batches and dtypes, and the naive reference."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from naive import NaiveWan, softmax_attention
from torch import Tensor

from deepforcing.wan.attention import attend
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import WAN_1_3B, random_wan

KEYS = Path(__file__).parents[1] / "golden" / "wan21_t2v_1_3b_keys.json"
CONFIG = WanConfig(
    dim=40, ffn_dim=64, freq_dim=16, in_dim=3, out_dim=3, num_heads=2, num_layers=2, text_dim=10, text_len=4
)


class Whole:
    """A memory without a past and without rotary embedding: every token of the pass sees every other."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v)


class Alone:
    """A memory in which every frame sees only itself."""

    def __init__(self, tokens: int) -> None:
        self.tokens = tokens

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        pieces = (x.split(self.tokens, 2) for x in (q, k, v))
        return torch.cat([attend(*parts) for parts in zip(*pieces, strict=True)], 2)


@pytest.fixture(scope="module")
def model() -> CausalWan:
    model = random_wan(CONFIG)
    with torch.no_grad():  # random_wan leaves all vectors at 0 or 1, which would hide mistakes
        generator = torch.Generator().manual_seed(1)
        for p in model.parameters():
            if p.ndim == 1:
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
    return model


def inputs(batch: int = 2, frames: int = 3, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(batch, frames, 3, 4, 6, generator=generator)
    t = torch.rand(batch, frames, generator=generator) * 1000
    return x, t, torch.randn(batch, 4, 10, generator=generator)


def test_official_names_and_shapes() -> None:
    listing = json.loads(KEYS.read_text())
    want: dict[str, tuple[int, ...]] = {}
    for pattern, entry in listing["patterns"].items():
        for i in range(entry["count"]):
            want[pattern.replace("{i}", str(i))] = tuple(entry["shape"])
    assert len(want) == listing["total_tensors"] == 825
    with torch.device("meta"):
        state = CausalWan(WAN_1_3B).state_dict()
    assert {name: tuple(t.shape) for name, t in state.items()} == want
    assert sum(t.numel() for t in state.values()) == listing["total_params"]


def test_rope_split_of_the_full_size_model() -> None:
    assert WAN_1_3B.rope_split == (22, 21, 21)
    assert WanConfig(dim=96, num_heads=2).rope_split == (8, 8, 8)


@pytest.mark.parametrize("frames", [1, 3, 4])
@torch.no_grad()
def test_equals_the_naive_float64_transformer(model: CausalWan, frames: int) -> None:
    x, t, text = inputs(frames=frames)
    naive = NaiveWan(model.state_dict(), CONFIG.num_heads, CONFIG.freq_dim)
    want = naive(x, t, text, lambda layer, q, k, v: softmax_attention(q, k, v))
    got = model(x, t, model.encode_text(text), Whole())
    assert want.abs().mean() > 0.1
    torch.testing.assert_close(got.double(), want, atol=2e-5, rtol=1e-5)


class Own:
    """A memory in which every token sees only itself."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return v


@torch.no_grad()
def test_spatial_embedding_is_added_at_its_place_to_every_frame() -> None:
    """Seen from one place, it is as if the patch embedding had another bias."""
    small = random_wan(replace(CONFIG, spatial_embedding=(2, 3)))
    x, t, text = inputs(frames=2)
    got = small(x, t, small.encode_text(text), Own())
    state = small.state_dict()
    places = state.pop("spatial_embedding")
    bias = state["patch_embedding.bias"]
    for place, (row, column) in {0: (0, 0), 4: (2, 2)}.items():
        state["patch_embedding.bias"] = bias + places[0, 0, place]
        want = NaiveWan(state, 2, 16)(x, t, text, lambda layer, q, k, v: v)
        at = (..., slice(row, row + 2), slice(column, column + 2))
        torch.testing.assert_close(got[at].double(), want[at], atol=2e-5, rtol=1e-5)


@torch.no_grad()
def test_items_of_a_batch_do_not_mix(model: CausalWan) -> None:
    x, t, text = inputs(batch=3)
    together = model(x, t, model.encode_text(text), Whole())
    for i in range(3):
        one = model(x[i : i + 1], t[i : i + 1], model.encode_text(text[i : i + 1]), Whole())
        torch.testing.assert_close(together[i : i + 1], one, atol=1e-5, rtol=1e-5)
    other = x.clone()
    other[1] += 1
    assert torch.equal(model(other, t, model.encode_text(text), Whole())[0], together[0])


@torch.no_grad()
def test_every_frame_has_its_own_timestep(model: CausalWan) -> None:
    """Where no frame sees another, one frame's timestep changes that frame and no other; where they do, all."""
    x, t, text = inputs()
    changed = t.clone()
    changed[0, 1] += 100
    memory = model.encode_text(text)
    a, b = model(x, t, memory, Alone(6)), model(x, changed, memory, Alone(6))
    moved = (a - b).abs().amax((2, 3, 4)) > 1e-3
    assert moved.tolist() == [[False, True, False], [False, False, False]]
    a, b = model(x, t, memory, Whole()), model(x, changed, memory, Whole())
    moved = (a - b).abs().amax((2, 3, 4)) > 0
    assert moved.tolist() == [[True, True, True], [False, False, False]]


@torch.no_grad()
def test_chunks_of_three_equal_chunks_of_one_where_frames_do_not_mix(model: CausalWan) -> None:
    x, t, text = inputs()
    memory = model.encode_text(text)
    whole = model(x, t, memory, Alone(6))
    single = torch.cat([model(x[:, f : f + 1], t[:, f : f + 1], memory, Whole()) for f in range(3)], 1)
    torch.testing.assert_close(whole, single, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_bfloat16_is_close_to_float32(model: CausalWan) -> None:
    x, t, text = inputs()
    want = model(x, t, model.encode_text(text), Whole())
    half = CausalWan(CONFIG)
    half.load_state_dict(model.state_dict())
    half = half.bfloat16()
    out = half(x.bfloat16(), t, half.encode_text(text.bfloat16()), Whole())
    assert out.dtype == torch.bfloat16
    assert 0 < (out.float() - want).norm() / want.norm() < 0.03


@torch.no_grad()
def test_timesteps_stay_exact_in_bfloat16(model: CausalWan) -> None:
    """625.0 and 626.0 are one number in bfloat16; the model must tell them apart."""
    half = CausalWan(CONFIG)
    half.load_state_dict(model.state_dict())
    half = half.bfloat16()
    x, _, text = inputs(batch=1)
    memory = half.encode_text(text.bfloat16())
    a, b = (half(x.bfloat16(), torch.full((1, 3), t), memory, Whole()) for t in (625.0, 626.0))
    assert not torch.equal(a, b)


def test_padded_text_rows_are_attended(model: CausalWan) -> None:
    """As in the published systems: the rows after the prompt's end are zeros, but not invisible."""
    x, t, text = inputs(batch=1)
    text[:, 3:] = 0
    with torch.no_grad():
        long = model(x, t, model.encode_text(text), Whole())
        short = model(x, t, model.encode_text(text[:, :3]), Whole())
    assert (long - short).abs().max() > 1e-3


@pytest.mark.parametrize(
    ("sizes", "words"),
    [
        ({"dim": 30, "num_heads": 4}, "multiple of 2 \\* num_heads=8"),
        ({"patch": (2, 2, 2)}, "patch"),
        ({"prediction": "noise"}, "'flow' or 'x0'"),
    ],
)
def test_sizes_that_cannot_work(sizes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        WanConfig(**sizes)  # type: ignore[arg-type]
