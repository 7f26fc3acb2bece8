"""The VAE: chunk by chunk equals whole, both namings load alike, encode and decode against diffusers' own calls.

Against the original's recorded outputs: tests/experiments/test_replay.py.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from deepforcing.wan import vae as vaes
from deepforcing.wan.vae import MEAN, STD, WanVAE, _build, diffusers_name, load_vae, random_vae

CPU = torch.device("cpu")
GOLDEN = Path(__file__).parents[1] / "golden" / "wan_vae_micro"


@pytest.fixture(scope="module")
def vae() -> WanVAE:
    return random_vae(dim=4, channels=3)


@pytest.fixture(scope="module")
def latents() -> torch.Tensor:
    return torch.randn(1, 7, 3, 2, 3, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("pieces", [[1] * 7, [3, 3, 1], [1, 6], [2, 5]])
def test_chunks_equal_the_whole(pieces: list[int], vae: WanVAE, latents: torch.Tensor) -> None:
    whole = vae.decoder()(latents)
    decode = vae.decoder()
    parts = [decode(part) for part in latents.split(pieces, 1)]
    assert torch.equal(torch.cat(parts, 1), whole)
    assert whole.shape == (1, 25, 3, 16, 24)
    assert [p.shape[1] for p in parts] == [4 * n - (3 if i == 0 else 0) for i, n in enumerate(pieces)]


def test_two_videos_at_once_do_not_mix(vae: WanVAE, latents: torch.Tensor) -> None:
    a, b = vae.decoder(), vae.decoder()
    first = a(latents[:, :3])
    b(-latents[:, :2])
    assert torch.equal(torch.cat([first, a(latents[:, 3:])], 1), vae.decoder()(latents))


def test_equals_diffusers_whole_clip(vae: WanVAE, latents: torch.Tensor) -> None:
    z = latents.transpose(1, 2) * vae.std + vae.mean
    want = vae.vae.decode(z).sample.transpose(1, 2)
    assert torch.allclose(vae.decoder()(latents).mul(2).sub(1).clamp(-1, 1), want, atol=1e-6)


def test_encode_normalises_and_inverts_the_decoders_affine(vae: WanVAE) -> None:
    video = torch.rand(2, 5, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    got = vae.encode(video)
    mu = vae.vae.encode(2 * video.transpose(1, 2) - 1).latent_dist.mode()
    assert got.shape == (2, 2, 3, 2, 3)
    assert torch.allclose(got.transpose(1, 2) * vae.std + vae.mean, mu, atol=1e-6)
    image = vae.encode(video[:, :1])
    assert torch.allclose(image[:, 0], got[:, 0], atol=1e-6)  # causal: the first latent is the first frame's alone


@pytest.mark.parametrize(
    ("shape", "words"),
    [((1, 4, 3, 16, 16), "4 frames are not 4"), ((1, 1, 3, 15, 16), "15 x 16 pixels are no multiples of 8")],
)
def test_clips_of_another_shape_are_refused(shape: tuple[int, ...], words: str, vae: WanVAE) -> None:
    with pytest.raises(ValueError, match=words):
        vae.encode(torch.zeros(shape))


def test_published_normalisation_and_names() -> None:
    assert (len(MEAN), len(STD)) == (16, 16)
    with torch.device("meta"):
        real = _build({"base_dim": 96}, torch.device("meta"))
    assert torch.allclose(torch.tensor(real.config.latents_mean), torch.tensor(MEAN))
    assert torch.allclose(torch.tensor(real.config.latents_std), torch.tensor(STD))
    assert len(real.state_dict()) == 194
    assert all(diffusers_name(n) == n for n in real.state_dict())  # its own names stay


def micro() -> dict[str, object]:
    import json

    config = json.loads((GOLDEN / "config.json").read_text())
    return dict(config["diffusers"]["config"])


def test_both_namings_load_alike(tmp_path: Path) -> None:
    original = load_file(GOLDEN / "weights.safetensors")
    renamed = {diffusers_name(n, 1): t for n, t in original.items()}
    assert renamed.keys() != original.keys()
    save_file(renamed, tmp_path / "diffusion_pytorch_model.safetensors")
    torch.save(original, tmp_path / "Wan2.1_VAE.pth")
    a = load_vae(tmp_path, torch.float32, config=micro()).vae.state_dict()
    b = load_vae(tmp_path / "Wan2.1_VAE.pth", torch.float32, config=micro()).vae.state_dict()
    assert a.keys() == b.keys()
    assert all(torch.equal(a[n], b[n]) for n in a)


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dtype_and_memory_layout_are_options(dtype: torch.dtype, channels_last: bool, latents: torch.Tensor) -> None:
    want = random_vae(4, 3).decoder()(latents)
    got = random_vae(4, 3, dtype, channels_last=channels_last).decoder()(latents).float()
    assert float((got - want).abs().max()) < (1e-5 if dtype == torch.float32 else 0.1)


def test_a_file_that_is_no_vae(tmp_path: Path) -> None:
    save_file({"token_embedding.weight": torch.zeros(2, 2)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"does not fit this model: .*missing.*it looks like a UMT5 text encoder"):
        load_vae(tmp_path / "w.safetensors")


@pytest.mark.slow
def test_a_compiled_decoder_is_three_graphs_whatever_the_chunks(
    vae: WanVAE, latents: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A break would raise, a graph for a later chunk be counted. By the graphs themselves, so no bit moves."""
    graphs = 0

    def counting(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> Callable[..., Any]:
        nonlocal graphs
        graphs += 1
        return graph.forward

    torch.compiler.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=counting))
    compiled = random_vae(dim=4, channels=3)
    compiled.compile()
    for pieces in ([3, 3, 1], [1, 6]):
        decode = compiled.decoder()
        got = torch.cat([decode(part) for part in latents.split(pieces, 1)], 1)
        assert torch.equal(got, vae.decoder()(latents))
    assert graphs == 3


def test_the_encoder_is_on_the_gpu_only_while_a_clip_is_encoded(vae: WanVAE, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a CPU in the GPU's place: where the encoder was put, in order, also after an encoding that failed."""
    places: list[torch.device] = []
    monkeypatch.setattr(vaes, "parks", lambda device: True)
    monkeypatch.setattr(WanVAE, "encoder_to", lambda self, device: places.append(device))
    parked = WanVAE(vae.vae)
    assert places == [CPU]
    gpu = parked.device = torch.device("cpu", 0)  # told apart from where it is parked
    video = torch.rand(1, 5, 3, 16, 24, generator=torch.Generator().manual_seed(1))
    assert torch.equal(parked.encode(video), vae.encode(video))
    assert places[1:] == [gpu, CPU, vae.device, CPU]
    places.clear()
    monkeypatch.setattr(vae.vae, "encode", lambda x: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        parked.encode(video)
    assert places == [gpu, CPU]
    parked.decoder()(torch.zeros(1, 1, 3, 2, 3))
    assert len(places) == 2
