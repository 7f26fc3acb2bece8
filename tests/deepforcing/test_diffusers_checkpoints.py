"""Transformers that diffusers saved: the same numbers as diffusers' own module, from files, folders, pipelines and shards."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from deepforcing.torchvision_cpu import make_importable
from deepforcing.wan.attention import attend
from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import open_checkpoint
from deepforcing.wan.names import diffusers_name, official_name
from deepforcing.wan.origin import refuse_official
from deepforcing.wan.recognise import looks_like
from deepforcing.wan.rope import Rope, rotate
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_wan, sha256_of_all

CONFIG = WanConfig(
    dim=24, ffn_dim=32, freq_dim=8, in_dim=4, out_dim=4, num_heads=2, num_layers=2, text_dim=10, text_len=6
)


def diffusers_wan(**changes: Any) -> Any:
    make_importable()
    from diffusers import WanTransformer3DModel

    make: Any = WanTransformer3DModel  # without types
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = make(**{
            "patch_size": (1, 2, 2), "num_attention_heads": 2, "attention_head_dim": 12, "in_channels": 4,
            "out_channels": 4, "text_dim": 10, "freq_dim": 8, "ffn_dim": 32, "num_layers": 2, "cross_attn_norm": True,
            "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 32, **changes,
        }).eval()  # fmt: skip
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.3)
    return model


@pytest.fixture(scope="module")
def theirs() -> Any:
    return diffusers_wan()


@pytest.fixture(scope="module")
def folder(theirs: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("diffusers") / "transformer"
    theirs.save_pretrained(path)
    return path


class Clip:
    """A memory in which a clip's tokens see each other, at their own places: the bidirectional model."""

    def __init__(self, grid: tuple[int, int], frames: int) -> None:
        self.rotation = Rope(CONFIG.rope_split, grid).frames(range(frames))

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(rotate(q, self.rotation), rotate(k, self.rotation), v)


@torch.no_grad()
def assert_same(ours: CausalWan, theirs: Any) -> None:
    g = torch.Generator().manual_seed(1)
    x, text = torch.randn(2, 3, 4, 4, 6, generator=g), torch.randn(2, 6, 10, generator=g)
    t = torch.tensor([700.0, 31.0])
    want = theirs(x.transpose(1, 2), t, text, return_dict=False)[0].transpose(1, 2)
    got = ours(x, t[:, None].expand(2, 3), ours.encode_text(text), Clip((2, 3), 3))
    assert want.abs().mean() > 0.1
    torch.testing.assert_close(got, want, atol=1e-4, rtol=1e-4)


def test_the_same_numbers_as_diffusers(theirs: Any, folder: Path) -> None:
    for path in (folder, folder / "diffusion_pytorch_model.safetensors"):
        assert_same(load_wan(path, CONFIG, torch.float32), theirs)


@pytest.mark.parametrize("safe", [True, False])
def test_shards(safe: bool, theirs: Any, folder: Path, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path, max_shard_size="20KB", safe_serialization=safe)
    index = next(tmp_path.glob("*.index.json"))
    assert len(list(tmp_path.iterdir())) > 4
    whole = load_wan(folder, CONFIG, torch.float32).state_dict()
    for path in (tmp_path, index):
        got = load_wan(path, CONFIG, torch.float32).state_dict()
        assert all(torch.equal(got[n], whole[n]) for n in whole)


@pytest.mark.parametrize("variant", ["bf16", "fp16"])
def test_variants(variant: str, theirs: Any, tmp_path: Path) -> None:
    theirs.save_pretrained(tmp_path, variant=variant)
    load_wan(tmp_path, CONFIG)


def test_a_pipelines_folder_means_its_transformer(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "pipeline" / "transformer")
    (tmp_path / "pipeline" / "model_index.json").write_text(json.dumps({"_class_name": "WanPipeline"}))
    load_wan(tmp_path / "pipeline", CONFIG)


def test_every_name_goes_there_and_back(theirs: Any) -> None:
    with torch.device("meta"):
        ours = CausalWan(CONFIG).state_dict()
    assert {official_name(n) for n in theirs.state_dict()} == ours.keys()
    assert {diffusers_name(n) for n in ours} == theirs.state_dict().keys()
    assert all(official_name(n) == n for n in ours)


@pytest.mark.parametrize("prefix", ["model.diffusion_model.", "diffusion_model.", "module.", "transformer.", "model."])
@pytest.mark.parametrize("entry", [None, "state_dict", "model", "generator", "generator_ema"])
def test_diffusers_names_under_prefixes_and_entries(
    prefix: str, entry: str | None, theirs: Any, folder: Path, tmp_path: Path
) -> None:
    state = {prefix + n: t.clone() for n, t in theirs.state_dict().items()}
    torch.save(state if entry is None else {entry: state, "step": 3}, tmp_path / "w.pt")
    got, want = (load_wan(p, CONFIG, torch.float32).state_dict() for p in (tmp_path / "w.pt", folder))
    assert all(torch.equal(got[n], want[n]) for n in want)


@pytest.mark.parametrize(
    ("changes", "theirs_", "words"),
    [
        ({"num_heads": 4}, {}, r"num_attention_heads=2 \(config.json\), not num_heads=4; set model.config.num_heads"),
        ({"eps": 1e-5}, {}, r"eps=1e-06 \(config.json\), not eps=1e-05"),
        (
            {"num_layers": 3},
            {},
            r"missing .*diffusers' own names \(WanTransformer3DModel\), Wan of width 24 with 2 layers",
        ),
        ({}, {"image_dim": 8, "added_kv_proj_dim": 24}, r"unexpected .*image-to-video with a CLIP branch"),
    ],
)
def test_another_model_is_refused(changes: Any, theirs_: Any, words: str, tmp_path: Path) -> None:
    """Heads and eps do not show in the tensors: only config.json knows them."""
    diffusers_wan(**theirs_).save_pretrained(tmp_path)
    with pytest.raises(ValueError, match=words) as caught:
        load_wan(tmp_path, replace(CONFIG, **changes))
    assert "\n" not in str(caught.value)
    (tmp_path / "config.json").write_text("[]")
    with pytest.raises(ValueError, match=r"config.json, beside the checkpoint, is damaged|missing|unexpected"):
        load_wan(tmp_path, replace(CONFIG, **changes))


def test_it_is_told_apart_from_the_official_model(folder: Path) -> None:
    assert "diffusers' own names" in looks_like(open_checkpoint(folder))
    refuse_official(folder)


def test_shards_digest_follows_every_shard(theirs: Any, tmp_path: Path) -> None:
    """The index names tensors and sizes only: two fine-tunes of one model have the same one."""
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    index = next(tmp_path.glob("*.index.json"))
    before = sha256_of_all(tmp_path)
    assert before == sha256_of_all(index)
    shard = sorted(tmp_path.glob("*.safetensors"))[-1]
    save_file({n: t + 1 for n, t in load_file(shard).items()}, shard)
    assert sha256_of_all(tmp_path) != before
    shard.unlink()
    with pytest.raises(ValueError, match=rf"shard {shard.name} is missing"):
        sha256_of_all(tmp_path)
