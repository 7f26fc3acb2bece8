"""The tiny decoder: against a slow one written from the layout alone, chunk by chunk equals whole, strict about files."""

from __future__ import annotations

import dataclasses
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from wan_files import CONFIG, write_taehv

from deepforcing.geometry import Geometry
from deepforcing.wan.catalogue import TAEHV
from deepforcing.wan.config import WanConfig
from deepforcing.wan.model import WanSpec
from deepforcing.wan.taehv import TaehvDecoder, load_taehv, random_taehv
from deepforcing.wan.vae import load_vae, random_vae
from deepforcing.wan.weights import load_wan

Array = NDArray[np.float64]
CPU = torch.device("cpu")
SMALL = (10, 6, 5, 4)


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return 2 * torch.randn(2, 7, 3, 2, 3, generator=torch.Generator().manual_seed(2))


@pytest.fixture(scope="module")
def decoder() -> TaehvDecoder:
    """Every tensor random, biases too: none may be forgotten."""
    model = random_taehv(3, widths=SMALL, seed=1)
    generator = torch.Generator().manual_seed(4)
    for p in model.parameters():
        if p.ndim == 1:
            p.normal_(0.2, 0.3, generator=generator)
    return model


class Naive:
    """One frame at a time through numbered layers in float64; what a layer saw of the frame before is kept by its number."""

    def __init__(self, weights: dict[str, torch.Tensor]) -> None:
        self.w: dict[str, Array] = {n: t.double().numpy() for n, t in weights.items()}
        self.seen: dict[int, Array] = {}

    def conv(self, x: Array, name: str) -> Array:
        """Zero-padded convolution of [C, Y, X] as a sum over the kernel's places."""
        w = self.w[f"{name}.weight"]
        k, (height, width) = w.shape[2], x.shape[1:]
        padded = np.pad(x, ((0, 0), (k // 2, k // 2), (k // 2, k // 2)))
        out = np.zeros((w.shape[0], height, width))
        for dy in range(k):
            for dx in range(k):
                out += np.tensordot(w[:, :, dy, dx], padded[:, dy : dy + height, dx : dx + width], 1)
        return out + self.w.get(f"{name}.bias", np.zeros(len(out)))[:, None, None]

    def layer(self, number: int, x: Array) -> list[Array]:
        """One frame in, the frames that come out of the layer and of all after it."""
        if number == 22:
            return [self.conv(x, "decoder.22")]
        if number in (2, 21):
            return self.layer(number + 1, np.maximum(x, 0))
        if number == 0:
            return self.layer(1, 3 * np.tanh(x / 3))
        if number in (1, 8, 14, 20):
            return self.layer(number + 1, self.conv(x, f"decoder.{number}"))
        if number in (6, 12, 18):
            return self.layer(number + 1, x.repeat(2, 1).repeat(2, 2))
        if number in (7, 13, 19):
            grown = self.conv(x, f"decoder.{number}.conv")
            parts = np.split(grown, len(grown) // len(x))
            return [frame for part in parts for frame in self.layer(number + 1, part)]
        before = self.seen.get(number, np.zeros_like(x))
        self.seen[number] = x
        h = np.maximum(self.conv(np.concatenate([x, before]), f"decoder.{number}.conv.0"), 0)
        h = np.maximum(self.conv(h, f"decoder.{number}.conv.2"), 0)
        return self.layer(number + 1, np.maximum(x + self.conv(h, f"decoder.{number}.conv.4"), 0))

    def decode(self, latents_FCYX: torch.Tensor) -> Array:
        frames = [frame for x in latents_FCYX for frame in self.layer(0, x.double().numpy())]
        return np.stack(frames[3:])


def test_equals_a_slow_decoder_written_from_the_layout(decoder: TaehvDecoder, latents: torch.Tensor) -> None:
    got = decoder.stream()(latents)
    want = np.stack([Naive(decoder.state_dict()).decode(video) for video in latents])
    assert got.shape == want.shape == (2, 25, 3, 16, 24)
    assert want.std() > 0.05
    assert abs(got.numpy() - want).max() < 1e-5 * max(1, abs(want).max())


@pytest.mark.parametrize("pieces", [[1] * 7, [3, 3, 1], [1, 6], [2, 5], [7]])
def test_chunks_equal_the_whole(pieces: list[int], decoder: TaehvDecoder, latents: torch.Tensor) -> None:
    whole = decoder.stream()(latents)
    decode = decoder.stream()
    parts = [decode(part) for part in latents.split(pieces, 1)]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert [p.shape[1] for p in parts] == [4 * n - (3 if i == 0 else 0) for i, n in enumerate(pieces)]


def test_frames_of_a_chunk_given_together_equal_one_by_one(decoder: TaehvDecoder, latents: torch.Tensor) -> None:
    """The module itself takes several latent frames; only sums in another order may differ."""
    z = 3 * torch.tanh(latents / 3)
    assert torch.allclose(decoder(z, {})[:, 3:], decoder.stream()(latents), atol=1e-5)


def test_two_videos_at_once_do_not_mix(decoder: TaehvDecoder, latents: torch.Tensor) -> None:
    a, b = decoder.stream(), decoder.stream()
    first = a(latents[:, :3])
    b(-latents[:, :2])
    assert torch.equal(torch.cat([first, a(latents[:, 3:])], 1), decoder.stream()(latents))


def test_what_a_stream_carries_does_not_grow(decoder: TaehvDecoder, latents: torch.Tensor) -> None:
    memory: dict[str, torch.Tensor] = {}
    sizes = []
    for i in range(7):
        decoder(latents[:, i : i + 1], memory)
        sizes.append(sum(t.untyped_storage().nbytes() for t in memory.values()))
    assert len(memory) == 9
    assert set(sizes) == {4 * 2 * 3 * (10 * 2 * 3 + 6 * 4 * 6 + 5 * 8 * 12)}  # one frame a block, for two videos


def test_published_names_and_shapes() -> None:
    """Names and shapes as several public readers of taew2_1 state them: 64 tensors, 9.8 M numbers."""
    with torch.device("meta"):
        shapes = {n: tuple(t.shape) for n, t in TaehvDecoder().state_dict().items()}
    assert len(shapes) == 64
    assert sum(n.endswith("bias") for n in shapes) == 29
    some = {
        "decoder.1.weight": (256, 16, 3, 3), "decoder.3.conv.0.weight": (256, 512, 3, 3), "decoder.5.conv.4.bias": (256,),
        "decoder.7.conv.weight": (256, 256, 1, 1), "decoder.8.weight": (128, 256, 3, 3),
        "decoder.11.conv.2.weight": (128, 128, 3, 3), "decoder.13.conv.weight": (256, 128, 1, 1),
        "decoder.14.weight": (64, 128, 3, 3), "decoder.17.conv.0.weight": (64, 128, 3, 3),
        "decoder.19.conv.weight": (128, 64, 1, 1), "decoder.20.weight": (64, 64, 3, 3),
        "decoder.22.weight": (3, 64, 3, 3), "decoder.22.bias": (3,),
    }  # fmt: skip
    assert {n: shapes[n] for n in some} == some


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_an_option(dtype: torch.dtype, latents: torch.Tensor) -> None:
    want = random_taehv(3, widths=SMALL).stream()(latents)
    got = random_taehv(3, dtype, widths=SMALL).stream()(latents)
    assert got.dtype == dtype
    assert 0 < float((got.float() - want).abs().max()) < (0.1 if dtype == torch.bfloat16 else 0.01)


def test_both_containers_load_alike_without_the_encoder(tmp_path: Path, latents: torch.Tensor) -> None:
    a = load_taehv(write_taehv(tmp_path / "t.pth", SMALL, 3), torch.float32, channels=3, widths=SMALL)
    b = load_taehv(write_taehv(tmp_path / "t.safetensors", SMALL, 3), torch.float32, channels=3, widths=SMALL)
    assert torch.equal(a.stream()(latents), b.stream()(latents))
    rounded = random_taehv(3, torch.float16, widths=SMALL).float()
    assert torch.equal(a.stream()(latents), rounded.stream()(latents))


def broken(tmp_path: Path) -> Path:
    tensors = load_file(write_taehv(tmp_path / "t.safetensors", SMALL, 3))
    del tensors["decoder.4.conv.2.bias"]
    tensors["decoder.13.conv.weight"] = tensors["decoder.13.conv.weight"][:6].clone()
    tensors["decoder.9.conv.6.weight"] = torch.zeros(2)
    save_file(tensors, tmp_path / "t.safetensors")
    return tmp_path / "t.safetensors"


def test_what_does_not_fit_is_named(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        load_taehv(broken(tmp_path), channels=3, widths=SMALL)
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "1 missing (decoder.4.conv.2.bias)", "1 unexpected (decoder.9.conv.6.weight)",
        "1 misshapen (decoder.13.conv.weight (6, 6, 1, 1) instead of (12, 6, 1, 1))",
    ):  # fmt: skip
        assert part in message, message


def test_another_models_file_says_what_it_is(tmp_path: Path) -> None:
    """taew2_2 takes 48 channels; Wan VAE, tiny decoder and transformer in each other's place."""
    other = write_taehv(tmp_path / "taew2_2.pth", channels=48)
    with pytest.raises(ValueError, match=r"looks like a TAEHV tiny autoencoder of width 256 for 48 latent channels"):
        load_taehv(other)
    save_file(random_vae(4).vae.state_dict(), tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match=r"tiny decoder .* it looks like a Wan VAE \(model.vae\)"):
        load_taehv(tmp_path / "vae.safetensors")
    tiny = write_taehv(tmp_path / "taew2_1.safetensors")
    for load in (load_vae, load_wan):
        with pytest.raises(
            ValueError, match=r"it looks like a TAEHV tiny .* 16 latent channels \(model.decoder=taehv\)"
        ):
            load(tiny)


def test_pickled_code_is_not_run(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "ran",)  # type: ignore[return-value]

    torch.save({"decoder.1.weight": Bomb()}, tmp_path / "taew2_1.pth", pickle_module=pickle)
    with pytest.raises(ValueError, match="never loaded"):
        load_taehv(tmp_path / "taew2_1.pth")
    assert not (tmp_path / "ran").exists()


# ---- as a choice of the model -------------------------------------------------------------------------------------


def spec_of(root: Path, **changes: object) -> WanSpec:
    fields: dict[str, object] = {
        "config": CONFIG, "geometry": Geometry(height=32, width=48), "weights_root": str(root), "name": "small",
        "random_weights": True, "vae_dim": 4,
    }  # fmt: skip
    return WanSpec(**{**fields, **changes})  # type: ignore[arg-type]


def test_identities_without_it_are_what_they_were(tmp_path: Path) -> None:
    usual = spec_of(tmp_path, config=WanConfig(), geometry=Geometry())
    assert usual.identity() == {
        "name": "small", "checkpoint": "random", "vae": "random 4", "vae_dtype": None, "text": "random"
    }  # fmt: skip


def test_identity_follows_file_and_dtype_not_place(tmp_path: Path) -> None:
    here = write_taehv(TAEHV.local(tmp_path))
    spec = spec_of(tmp_path, decoder="taehv", taehv=str(here))
    known = spec.identity()
    assert (known["decoder"], len(known["taehv"]["sha256"]), known["taehv"]["dtype"]) == ("taehv", 64, None)
    elsewhere = write_taehv(tmp_path / "mine.safetensors")
    assert dataclasses.replace(spec, taehv=str(elsewhere)).identity() == known
    others = [
        dataclasses.replace(spec, taehv=str(write_taehv(tmp_path / "other.safetensors", seed=1))),
        dataclasses.replace(spec, taehv_dtype="float16"),
        dataclasses.replace(spec, taehv=None),
        spec_of(tmp_path),
    ]
    assert len({str(s.identity()) for s in (spec, *others)}) == 5
    assert dataclasses.replace(spec, taehv=None, random_weights=False).taehv_spec == spec.taehv_spec


def test_it_decodes_and_the_vae_encodes(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, decoder="taehv", taehv=str(write_taehv(tmp_path / "t.pth")), taehv_dtype="float16")
    spec.check()
    model = spec.build(CPU, torch.float32)
    latents = torch.randn(1, 3, 16, 4, 6, generator=torch.Generator().manual_seed(0))
    want = load_taehv(tmp_path / "t.pth").stream()(latents)
    assert torch.equal(model.decoder()(latents), want)
    assert want.dtype == torch.float16
    clip = torch.rand(1, 5, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    assert torch.equal(model.encode(clip), spec_of(tmp_path).build(CPU, torch.float32).encode(clip))


def test_without_the_vae_it_still_decodes(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, decoder="taehv", vae="none")
    spec.check()
    assert "vae" not in spec.identity()
    model = spec.build(CPU, torch.bfloat16)
    pixels = model.decoder()(torch.zeros(1, 2, 16, 4, 6))
    assert (pixels.shape, pixels.dtype) == ((1, 5, 3, 32, 48), torch.bfloat16)
    with pytest.raises(ValueError, match=r"no VAE \(model.vae=none\), which images and clips are encoded by"):
        model.encode(torch.zeros(1, 1, 3, 32, 48))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decoder": "tae"}, "decoder='tae' must be vae, or taehv"),
        ({"taehv": "t.pth"}, "go with decoder=taehv"),
        ({"taehv_dtype": "float16"}, "go with decoder=taehv"),
        ({"decoder": "taehv", "taehv_dtype": "int8"}, "taehv_dtype='int8' must be one of float32, bfloat16, float16"),
    ],
)
def test_options_that_make_no_sense(tmp_path: Path, changes: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        spec_of(tmp_path, **changes)


def test_a_missing_or_wrong_file_is_found_before_any_work(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=rf"tiny decoder {TAEHV.local(tmp_path)}.*experiments.weights self_forcing taehv"
    ):
        spec_of(tmp_path, decoder="taehv", random_weights=False, text_encoder=None).check()
    save_file(random_vae(4).vae.state_dict(), tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="it looks like a Wan VAE"):
        spec_of(tmp_path, decoder="taehv", taehv=str(tmp_path / "vae.safetensors")).check()
