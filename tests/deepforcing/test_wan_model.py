"""The Wan model choice: which files it means, what it says of missing ones, and what it makes of small ones."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from wan_files import CONFIG, write_generator, write_tokenizer, write_umt5

from deepforcing.geometry import Geometry
from deepforcing.wan.catalogue import RELEASES, release_of
from deepforcing.wan.model import WanSpec
from deepforcing.wan.vae import random_vae
from deepforcing.wan.weights import random_wan

CPU = torch.device("cpu")
GEOMETRY = Geometry(height=32, width=48)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A weights root with everything that generator=self_forcing needs, small, in the documented places."""
    root = tmp_path_factory.mktemp("weights")
    wan = root / "Wan2.1-T2V-1.3B"
    write_tokenizer(wan / "google" / "umt5-xxl")
    write_umt5(wan / "models_t5_umt5-xxl-enc-bf16.pth")
    write_generator(root / "Self-Forcing" / "checkpoints" / "self_forcing_dmd.pt")
    return root


def spec_of(root: Path, **changes: object) -> WanSpec:
    fields: dict[str, object] = {"config": CONFIG, "geometry": GEOMETRY, "weights_root": str(root), "name": "small"}
    return WanSpec(**{**fields, **changes})  # type: ignore[arg-type]


def test_everything_missing_is_named_at_once(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        spec_of(tmp_path, generator="longlive").check()
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        "checkpoint ", "LongLive-1.3B/models/longlive_base.pt", "LoRA ", "LongLive-1.3B/models/lora.pt",
        "VAE ", "Wan2.1-T2V-1.3B/Wan2.1_VAE.pth", "text encoder ", "models_t5_umt5-xxl-enc-bf16.pth",
        "tokenizer ", "google/umt5-xxl", "python -m experiments.weights longlive", "download=true",
    ):  # fmt: skip
        assert part in message, part


def test_the_weights_root_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPFORCING_WEIGHTS", str(tmp_path))
    assert WanSpec().checkpoint_path == tmp_path / "Self-Forcing/checkpoints/self_forcing_dmd.pt"
    monkeypatch.delenv("DEEPFORCING_WEIGHTS")
    assert WanSpec().checkpoint_path == Path("weights/Self-Forcing/checkpoints/self_forcing_dmd.pt")


@pytest.mark.parametrize(
    ("generator", "file", "averaged"),
    [
        ("self_forcing", "self_forcing_dmd.pt", True),
        ("deep_forcing", "self_forcing_dmd.pt", True),
        ("baselines.self_forcing.self_forcing", "self_forcing_dmd.pt", True),
        ("causal_forcing", "chunkwise/causal_forcing.pt", False),
        ("causal_forcing_2step", "framewise-2step.pt", True),
        ("longlive_infinity", "longlive_base.pt", None),
        ("rolling_forcing", "rolling_forcing_dmd.pt", True),
        ("causvid", "autoregressive_checkpoint/model.pt", None),
    ],
)
def test_every_generator_has_its_weights(generator: str, file: str, averaged: bool | None) -> None:
    spec = WanSpec(generator=generator)
    assert str(spec.checkpoint_path).endswith(file)
    assert spec.averaged is averaged
    assert (spec.lora_spec is not None) == generator.startswith("longlive")


def test_an_unknown_generator_has_none() -> None:
    with pytest.raises(ValueError, match=r"no published weights are known for generator 'x'.*self_forcing.*causvid"):
        release_of("x")


def test_anothers_weights_by_name_and_files_by_path(tmp_path: Path) -> None:
    spec = WanSpec(generator="self_forcing", checkpoint="longlive")
    assert str(spec.checkpoint_path).endswith("longlive_base.pt")
    assert spec.lora_spec is not None
    assert (spec.lora_spec.rank, spec.lora_spec.scale) == (256, 1.0)
    assert dataclasses.replace(spec, lora="none").lora_spec is None
    mine = WanSpec(checkpoint=str(tmp_path / "mine.pt"), lora=str(tmp_path / "l.pt"), lora_rank=8, lora_alpha=4)
    assert mine.checkpoint_path == tmp_path / "mine.pt"
    assert mine.averaged is None
    assert mine.lora_spec is not None
    assert mine.lora_spec.scale == 0.5


def small_vae(path: Path) -> str:
    save_file(random_vae(4).vae.state_dict(), path)
    return str(path)


def test_embeddings_end_to_end(root: Path) -> None:
    spec = spec_of(root, vae="none")
    spec.prepare(["a red dog"], CPU)
    model = spec.build(CPU, torch.float32)
    rows = model.embed(["a red dog"])
    assert rows.shape == (1, 12, 16)
    assert rows[0, :4].abs().sum(-1).gt(0).all()
    assert not rows[0, 4:].any()
    assert list((root / "embeddings").rglob("*.safetensors"))
    want = random_wan(CONFIG, seed=0).state_dict()["blocks.0.ffn.0.weight"]
    assert torch.equal(model.wan.state_dict()["blocks.0.ffn.0.weight"], want)  # averaged, as published
    raw = spec_of(root, vae="none", use_ema=False).build(CPU, torch.float32)
    assert not torch.equal(raw.wan.state_dict()["blocks.0.ffn.0.weight"], want)


def test_identity_follows_content_not_places(root: Path, tmp_path: Path) -> None:
    spec = spec_of(root, vae="none")
    again = spec_of(
        tmp_path,
        vae="none",
        checkpoint=str(root / "Self-Forcing/checkpoints/self_forcing_dmd.pt"),
        use_ema=True,
        text_encoder=str(root / "Wan2.1-T2V-1.3B/models_t5_umt5-xxl-enc-bf16.pth"),
        tokenizer=str(root / "Wan2.1-T2V-1.3B/google/umt5-xxl"),
    )
    assert spec.identity() == again.identity()
    json.dumps(spec.identity())
    others = [
        dataclasses.replace(again, use_ema=False),
        dataclasses.replace(again, random_weights=True, checkpoint=None),
        dataclasses.replace(again, random_weights=True, vae=None, vae_dim=4),
        dataclasses.replace(again, random_weights=True, text_encoder=None),
        dataclasses.replace(again, text_encoder=str(write_umt5(tmp_path / "other.pth", seed=5))),
    ]
    identities = [json.dumps(s.identity()) for s in (spec, *others)]
    assert len(set(identities)) == len(identities)


def test_random_everything(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, random_weights=True, vae_dim=4)
    spec.check()
    spec.prepare(["a"], CPU)
    model = spec.build(CPU, torch.float32)
    a, b = model.embed(["a red dog", "a blue dog"])
    assert not torch.equal(a, b)
    assert torch.equal(model.embed(["a red dog"])[0], a)
    assert not a[4:].any()
    decode = model.decoder()
    pixels = torch.cat([decode(torch.randn(1, 3, 16, 4, 6)) for _ in range(2)], 1)
    assert pixels.shape == (1, 21, 3, 32, 48)
    assert model.encode(pixels[:, :5].clamp(0, 1)).shape == (1, 2, 16, 4, 6)
    with pytest.raises(ValueError, match=r"is 48 x 32 pixels .*the model makes 32 x 48: resize or crop"):
        model.encode(torch.zeros(1, 1, 3, 48, 32))
    with pytest.raises(ValueError, match="3 frames are not"):
        model.encode(torch.zeros(1, 3, 3, 32, 48))


def test_without_a_vae_no_videos(tmp_path: Path) -> None:
    spec = spec_of(tmp_path, random_weights=True, vae="none")
    with pytest.raises(ValueError, match=r"no VAE .*cannot make videos"):
        spec.check()
    with pytest.raises(ValueError, match="no VAE"):
        spec.build(CPU, torch.float32).decoder()


def test_the_official_bidirectional_model_is_refused(root: Path, tmp_path: Path) -> None:
    save_file(random_wan(CONFIG).state_dict(), tmp_path / "diffusion_pytorch_model.safetensors")
    spec = spec_of(root, checkpoint=str(tmp_path), vae=small_vae(tmp_path / "vae.safetensors"))
    spec.check()  # nothing says what it is
    (tmp_path / "config.json").write_text(json.dumps({"_class_name": "WanModel"}))
    with pytest.raises(ValueError, match=r"official bidirectional Wan2.1 .*give one of self_forcing"):
        spec.check()


def test_wrong_files_are_refused_before_any_work(root: Path, tmp_path: Path) -> None:
    vae = small_vae(tmp_path / "vae.safetensors")
    with pytest.raises(ValueError, match="it looks like a Wan VAE"):
        spec_of(root, checkpoint=vae, vae=vae).check()
    with pytest.raises(ValueError, match="holds no LoRA"):
        spec_of(root, lora=vae, vae=vae).check()
    other = dataclasses.replace(CONFIG, num_layers=3)
    with pytest.raises(ValueError, match=r"missing .*Self Forcing style checkpoint, Wan of width 24 with 2 layers"):
        spec_of(root, config=other, vae=vae).check()


def test_every_release_is_complete() -> None:
    for name, release in RELEASES.items():
        assert release_of(name) == release
        for file in (release.checkpoint, release.lora):
            assert file is None or (file.repo.count("/") == 1 and file.licence and file.what)


def test_encoder_of_another_width(root: Path) -> None:
    model = spec_of(root, vae="none").build(CPU, torch.float32)
    model.wan.config = dataclasses.replace(CONFIG, text_dim=20)
    with pytest.raises(ValueError, match="gives 16 numbers a token, the transformer takes 20"):
        model.embed(["a dog"])
