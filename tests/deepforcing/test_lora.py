"""LoRA over a base: the merge against its formula, in float32 before the cast; every wrong file refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.lora import LoraSpec, layer_shapes
from deepforcing.wan.weights import load_wan, random_wan

CONFIG = WanConfig(
    dim=12, ffn_dim=16, freq_dim=8, in_dim=2, out_dim=2, num_heads=2, num_layers=2, text_dim=6, text_len=3
)
PEFT = "base_model.model."


@pytest.fixture
def base(tmp_path: Path) -> Path:
    state = random_wan(CONFIG, seed=4).state_dict()
    torch.save({"generator": {f"model.{n}": t for n, t in state.items()}}, tmp_path / "base.pt")
    return tmp_path / "base.pt"


def adapter(config: WanConfig = CONFIG, rank: int = 3, prefix: str = PEFT, middle: str = "") -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(1)
    out = {}
    for layer, (wide, inner) in layer_shapes(config).items():
        out[f"{prefix}{layer}.lora_A{middle}.weight"] = torch.randn(rank, inner, generator=g)
        out[f"{prefix}{layer}.lora_B{middle}.weight"] = torch.randn(wide, rank, generator=g)
    return out


@pytest.mark.parametrize("prefix", [PEFT, PEFT + "model.", "", "model._fsdp_wrapped_module." + PEFT])
@pytest.mark.parametrize("middle", ["", ".default"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_merge(prefix: str, middle: str, dtype: torch.dtype, base: Path, tmp_path: Path) -> None:
    tensors = adapter(prefix=prefix, middle=middle)
    torch.save({"generator_lora": tensors, "critic_lora": {}, "step": 3}, tmp_path / "lora.pt")
    plain = load_wan(base, CONFIG, torch.float32).state_dict()
    merged = load_wan(base, CONFIG, dtype, lora=LoraSpec(tmp_path / "lora.pt", 3, 6.0)).state_dict()
    layers = layer_shapes(CONFIG)
    assert len(layers) == 20
    for name, tensor in plain.items():
        layer = name.removesuffix(".weight")
        want = tensor
        if name.endswith(".weight") and layer in layers:
            a, b = (tensors[f"{prefix}{layer}.lora_{p}{middle}.weight"] for p in "AB")
            want = tensor + 6.0 / 3 * (b @ a)
            assert not torch.allclose(want, tensor)
        assert torch.equal(merged[name], want.to(dtype)), name


def test_a_bare_lora_in_safetensors(base: Path, tmp_path: Path) -> None:
    save_file(adapter(), tmp_path / "lora.safetensors")
    load_wan(base, CONFIG, lora=LoraSpec(tmp_path / "lora.safetensors", 3, 3))


def refused(base: Path, tensors: dict[str, Tensor], tmp_path: Path, rank: int = 3) -> str:
    torch.save({"generator_lora": tensors}, tmp_path / "lora.pt")
    with pytest.raises(ValueError) as caught:
        load_wan(base, CONFIG, lora=LoraSpec(tmp_path / "lora.pt", rank, 3))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_another_rank(base: Path, tmp_path: Path) -> None:
    message = refused(base, adapter(rank=4), tmp_path)
    assert "has rank 4, not lora_rank=3; set lora_rank=4 and the lora_alpha it was trained with" in message
    mixed = adapter()
    mixed[f"{PEFT}blocks.0.ffn.0.lora_A.weight"] = torch.zeros(5, 12)
    assert "has rank 3 and 5" in refused(base, mixed, tmp_path)


def test_missing_and_unexpected_tensors_are_named(base: Path, tmp_path: Path) -> None:
    tensors = adapter()
    del tensors[f"{PEFT}blocks.1.ffn.2.lora_B.weight"]
    tensors[f"{PEFT}head.head.lora_A.weight"] = torch.zeros(3, 12)
    message = refused(base, tensors, tmp_path)
    assert "1 missing (blocks.1.ffn.2.lora_B.weight)" in message
    assert "1 unexpected (head.head.lora_A.weight)" in message


@pytest.mark.parametrize(
    "other",
    [
        WanConfig(dim=24, ffn_dim=16, num_heads=2, num_layers=2),
        WanConfig(dim=12, ffn_dim=32, num_heads=2, num_layers=2),
        WanConfig(dim=12, ffn_dim=16, num_heads=2, num_layers=3),
    ],
)
def test_another_models_lora(other: WanConfig, base: Path, tmp_path: Path) -> None:
    assert "is not for this model" in refused(base, adapter(other), tmp_path)


def test_what_is_no_lora(base: Path, tmp_path: Path) -> None:
    assert "holds no LoRA" in refused(base, {"a": torch.zeros(1)}, tmp_path)
    with pytest.raises(ValueError, match="holds no LoRA"):
        load_wan(base, CONFIG, lora=LoraSpec(base, 3, 3))
    tensors = adapter()
    tensors[f"{PEFT}blocks.0.ffn.0.lora_A.weight"][0, 0] = float("nan")
    assert "NaN" in refused(base, tensors, tmp_path)


def test_a_lora_instead_of_the_base(tmp_path: Path) -> None:
    torch.save({"generator_lora": adapter()}, tmp_path / "lora.pt")
    with pytest.raises(ValueError, match="it looks like a LoRA, which goes over a base checkpoint"):
        load_wan(tmp_path / "lora.pt", CONFIG)
