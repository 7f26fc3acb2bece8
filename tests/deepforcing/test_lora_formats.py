"""LoRA files as peft, diffusers, ComfyUI and kohya's trainers write them: every one merges as by hand, or is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.lora import LoraSpec, fit_lora, layer_shapes
from deepforcing.wan.names import diffusers_name
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_wan, random_wan

CONFIG = WanConfig(
    dim=12, ffn_dim=16, freq_dim=8, in_dim=2, out_dim=2, num_heads=2, num_layers=2, text_dim=6, text_len=3
)
RANK = 3
Pairs = dict[str, tuple[Tensor, Tensor]]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_file(random_wan(CONFIG, seed=4).state_dict(), path)
    return path


def pairs(layers: Mapping[str, tuple[int, int]] | None = None, rank: int = RANK) -> Pairs:
    g = torch.Generator().manual_seed(1)
    shapes = layer_shapes(CONFIG) if layers is None else layers
    return {n: (torch.randn(rank, i, generator=g), torch.randn(o, rank, generator=g)) for n, (o, i) in shapes.items()}


def every_layer() -> dict[str, tuple[int, int]]:
    with torch.device("meta"):
        state = CausalWan(CONFIG).state_dict()
    return {
        n.removesuffix(".weight"): (t.shape[0], t.shape[1:].numel())
        for n, t in state.items()
        if n.endswith(".weight") and t.ndim > 1
    }


def merged(base: Path, lora: Path, **options: Any) -> dict[str, Tensor]:
    return load_wan(base, CONFIG, torch.float32, lora=LoraSpec(lora, **options)).state_dict()


def assert_merged(base: Path, lora: Path, made: Pairs, scale: float | dict[str, float], **options: Any) -> None:
    plain, got = load_wan(base, CONFIG, torch.float32).state_dict(), merged(base, lora, **options)
    for name, tensor in plain.items():
        layer = name.removesuffix(".weight")
        want = tensor
        if name.endswith(".weight") and layer in made:
            a, b = made[layer]
            each = scale[layer] if isinstance(scale, dict) else scale
            want = tensor + each * (b @ a).view(tensor.shape)
            assert not torch.allclose(want, tensor)
        torch.testing.assert_close(got[name], want, atol=1e-6, rtol=1e-6)


def kohya(layer: str) -> str:
    return "lora_unet_" + layer.replace(".", "_")


WRITERS: dict[str, tuple[Callable[[str], str], str, str]] = {
    "longlive": (lambda n: f"base_model.model.{n}", "lora_A.weight", "lora_B.weight"),
    "peft": (lambda n: f"base_model.model.{n}", "lora_A.default.weight", "lora_B.default.weight"),
    "peft, another adapter": (lambda n: f"base_model.model.{n}", "lora_A.style_2.weight", "lora_B.style_2.weight"),
    "peft over a wrapped model": (lambda n: f"base_model.model.model.module.{n}", "lora_A.weight", "lora_B.weight"),
    "fsdp": (lambda n: f"_fsdp_wrapped_module.base_model.model.{n}", "lora_A.default.weight", "lora_B.default.weight"),
    "compiled": (lambda n: f"base_model.model._orig_mod.{n}", "lora_A.weight", "lora_B.weight"),
    "diffusers": (lambda n: f"transformer.{diffusers_name(n)}", "lora_A.weight", "lora_B.weight"),
    "diffusers, an adapter": (lambda n: f"transformer.{diffusers_name(n)}", "lora_A.my.weight", "lora_B.my.weight"),
    "peft over diffusers": (lambda n: f"base_model.model.{diffusers_name(n)}", "lora_A.weight", "lora_B.weight"),
    "diffusers, bare": (diffusers_name, "lora_A.weight", "lora_B.weight"),
    "diffusers before peft": (lambda n: f"transformer.{diffusers_name(n)}", "lora.down.weight", "lora.up.weight"),
    "comfyui": (lambda n: f"diffusion_model.{n}", "lora_A.weight", "lora_B.weight"),
    "comfyui, down and up": (lambda n: f"diffusion_model.{n}", "lora_down.weight", "lora_up.weight"),
    "comfyui, full prefix": (lambda n: f"model.diffusion_model.{n}", "lora_down.weight", "lora_up.weight"),
    "bare": (lambda n: n, "lora_down.weight", "lora_up.weight"),
    "kohya": (kohya, "lora_down.weight", "lora_up.weight"),
    "kohya over diffusers": (lambda n: kohya(diffusers_name(n)), "lora_down.weight", "lora_up.weight"),
    "kohya, compiled": (
        lambda n: kohya(n).replace("blocks_1_", "blocks_1__orig_mod_"),
        "lora_down.weight",
        "lora_up.weight",
    ),
    "onetrainer": (lambda n: kohya(n).replace("unet", "transformer"), "lora_down.weight", "lora_up.weight"),
    "loralib": (lambda n: n, "lora_A", "lora_B"),
}


def written(made: Pairs, writer: str, alphas: Mapping[str, float] | None = None) -> dict[str, Tensor]:
    name, down, up = WRITERS[writer]
    out = {}
    for layer, (a, b) in made.items():
        out |= {f"{name(layer)}.{down}": a, f"{name(layer)}.{up}": b}
        if alphas is not None:
            out[f"{name(layer)}.alpha"] = torch.tensor(alphas[layer])
    return out


@pytest.mark.parametrize("writer", WRITERS)
def test_every_naming_merges_alike(writer: str, base: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "lora.safetensors", pairs(every_layer())
    save_file(written(made, writer), path)
    assert_merged(base, path, made, 1.0)
    assert_merged(base, path, made, 2.0, rank=RANK, alpha=2 * RANK)
    assert fit_lora(LoraSpec(path), CONFIG).summary() == (
        f"LoRA {path}: {len(made)} of {len(made)} modules matched, rank 3, scale 1 (no alpha in the file)"
    )


@pytest.mark.parametrize("writer", ["kohya", "comfyui, down and up", "kohya over diffusers", "diffusers"])
def test_alpha_of_each_layer_is_the_files(writer: str, base: Path, tmp_path: Path) -> None:
    path, made = tmp_path / "lora.safetensors", pairs()
    alphas = {layer: 1.0 + i % 3 for i, layer in enumerate(made)}
    save_file(written(made, writer, alphas), path)
    assert_merged(base, path, made, {layer: alpha / RANK for layer, alpha in alphas.items()})
    lora = fit_lora(LoraSpec(path), CONFIG)
    assert lora.own_alpha
    assert "20 of 27 modules matched, rank 3, scale 0.333333 to 1 (alpha from the file)" in lora.summary()
    assert lora.scales() == {layer: alpha / RANK for layer, alpha in sorted(alphas.items())}


@pytest.mark.parametrize("entry", ["generator_lora", "state_dict", "model", None])
@pytest.mark.parametrize("writer", ["peft", "kohya", "comfyui"])
def test_torch_files_and_entries(writer: str, entry: str | None, base: Path, tmp_path: Path) -> None:
    tensors, made = written(pairs(), writer), pairs()
    torch.save({entry: tensors, "step": 1} if entry else tensors, tmp_path / "lora.pt")
    assert_merged(base, tmp_path / "lora.pt", made, 1.0)


def test_ranks_that_differ(base: Path, tmp_path: Path) -> None:
    made = pairs()
    for i, layer in enumerate(list(made)[:4]):
        made |= pairs({layer: layer_shapes(CONFIG)[layer]}, rank=i + 1)
    save_file(written(made, "kohya", dict.fromkeys(made, 2.0)), tmp_path / "l.safetensors")
    assert_merged(base, tmp_path / "l.safetensors", made, {n: 2.0 / a.shape[0] for n, (a, _) in made.items()})
    assert "rank 1 to 4" in fit_lora(LoraSpec(tmp_path / "l.safetensors"), CONFIG).summary()
    with pytest.raises(ValueError, match="has rank 1 and 2 and 3 and 4, not lora_rank=3; leave lora_rank away"):
        merged(base, tmp_path / "l.safetensors", rank=3)


def test_kernels_of_kohyas_and_pefts_convolutions(base: Path, tmp_path: Path) -> None:
    made = pairs({"patch_embedding": (12, 8), "blocks.0.ffn.0": (16, 12)})
    tensors = written(made, "kohya")
    down, up = (f"lora_unet_patch_embedding.lora_{p}.weight" for p in ("down", "up"))
    tensors[down], tensors[up] = tensors[down].view(3, 2, 1, 2, 2), tensors[up].view(12, 3, 1, 1, 1)
    down = "lora_unet_blocks_0_ffn_0.lora_down.weight"
    tensors[down] = tensors[down].view(3, 12, 1, 1)
    save_file(tensors, tmp_path / "l.safetensors")
    assert_merged(base, tmp_path / "l.safetensors", made, 1.0)


def test_a_part_of_the_layers_is_told(base: Path, tmp_path: Path) -> None:
    made = {n: p for n, p in pairs().items() if n.endswith((".q", ".v"))}
    save_file(written(made, "diffusers"), tmp_path / "l.safetensors")
    assert_merged(base, tmp_path / "l.safetensors", made, 1.0)
    assert "8 of 27 modules matched" in fit_lora(LoraSpec(tmp_path / "l.safetensors"), CONFIG).summary()


def test_differences_are_added_as_they_are(base: Path, tmp_path: Path) -> None:
    g = torch.Generator().manual_seed(2)
    diffs = {
        "patch_embedding.diff": ("patch_embedding.weight", (12, 2, 1, 2, 2)),
        "blocks.0.self_attn.norm_q.diff": ("blocks.0.self_attn.norm_q.weight", (12,)),
        "blocks.1.norm3.diff_b": ("blocks.1.norm3.bias", (12,)),
        "blocks.0.ffn.0.diff_b": ("blocks.0.ffn.0.bias", (16,)),
        "blocks.1.diff_m": ("blocks.1.modulation", (1, 6, 12)),
        "head.diff_m": ("head.modulation", (1, 2, 12)),
        "head.head.diff": ("head.head.weight", (8, 12)),
    }
    values = {name: torch.randn(shape, generator=g) for name, (_, shape) in diffs.items()}
    made = pairs()
    alphas = dict.fromkeys(made, 6.0)
    tensors = {**written(made, "comfyui", alphas), **{f"diffusion_model.{n}": t for n, t in values.items()}}
    save_file(tensors, tmp_path / "l.safetensors")
    plain, got = load_wan(base, CONFIG, torch.float32).state_dict(), merged(base, tmp_path / "l.safetensors")
    for name, (target, _) in diffs.items():
        torch.testing.assert_close(got[target], plain[target] + values[name])
    a, b = made["blocks.0.ffn.0"]
    torch.testing.assert_close(got["blocks.0.ffn.0.weight"], plain["blocks.0.ffn.0.weight"] + 2 * b @ a)
    assert "7 tensors with a difference added" in fit_lora(LoraSpec(tmp_path / "l.safetensors"), CONFIG).summary()
    save_file({**tensors, "diffusion_model.head.head.diff": torch.ones(8, 13)}, tmp_path / "l.safetensors")
    with pytest.raises(ValueError, match=r"1 misshapen \(head.head.diff \(8, 13\) instead of \(8, 12\)\)"):
        merged(base, tmp_path / "l.safetensors")


# ---- alpha beside the tensors -------------------------------------------------------------------------------------


def adapter_config(folder: Path, **fields: Any) -> Path:
    folder.mkdir(exist_ok=True)
    save_file(written(pairs(), "peft"), folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": RANK, "lora_alpha": 12, "use_rslora": False, "use_dora": False, **fields}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    return folder


def test_pefts_folder_has_alpha_in_its_configuration(base: Path, tmp_path: Path) -> None:
    folder = adapter_config(tmp_path / "peft")
    for path in (folder, folder / "adapter_model.safetensors"):
        assert_merged(base, path, pairs(), 4.0)
    assert_merged(base, adapter_config(folder, use_rslora=True), pairs(), 12 / RANK**0.5)
    patterns = {"blocks.1.ffn.0": 3, "cross_attn.q": 6}
    scales = dict.fromkeys(pairs(), 12.0)
    scales |= {"blocks.1.ffn.0": 3.0, "blocks.0.cross_attn.q": 6.0, "blocks.1.cross_attn.q": 6.0}
    scales = {n: alpha / RANK for n, alpha in scales.items()}
    assert_merged(base, adapter_config(folder, alpha_pattern=patterns), pairs(), scales)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"peft_type": "LOHA"}, "is LOHA by its configuration, which is not read"),
        ({"use_dora": True}, "is DoRA by its configuration"),
        ({"init_lora_weights": "pissa_niter_4"}, "changes the base too"),
        ({"lora_alpha": "12"}, "that is no number"),
        ({"lora_alpha": None, "alpha_pattern": {".*ffn.*": 2}}, "regular expressions"),
        ({"alpha_pattern": [1]}, "no number"),
    ],
)
def test_what_else_a_configuration_may_say(fields: Any, words: str, base: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=words):
        merged(base, adapter_config(tmp_path / "peft", **fields))
    (tmp_path / "peft" / "adapter_config.json").write_text("[1")
    with pytest.raises(ValueError, match=r"adapter_config.json .*damaged"):
        merged(base, tmp_path / "peft")


def test_diffusers_folder_and_notes(base: Path, tmp_path: Path) -> None:
    notes = {
        "transformer.r": RANK,
        "transformer.lora_alpha": 6,
        "transformer.alpha_pattern": {"blocks.0.attn1.to_q": 3},
    }
    path = tmp_path / "pytorch_lora_weights.safetensors"
    save_file(written(pairs(), "diffusers"), path, metadata={"lora_adapter_metadata": json.dumps(notes)})
    assert_merged(base, tmp_path, pairs(), {n: 1.0 if n == "blocks.0.self_attn.q" else 2.0 for n in pairs()})
    save_file(written(pairs(), "diffusers"), path, metadata={"lora_adapter_metadata": "{"})
    with pytest.raises(ValueError, match=r"the notes of LoRA .* are damaged"):
        merged(base, tmp_path)


# ---- refusals -----------------------------------------------------------------------------------------------------


def refused(base: Path, tensors: dict[str, Tensor], tmp_path: Path, **options: Any) -> str:
    save_file({n: t.contiguous() for n, t in tensors.items()}, tmp_path / "l.safetensors")
    with pytest.raises(ValueError) as caught:
        merged(base, tmp_path / "l.safetensors", **options)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 700
    return str(caught.value)


ONE = "diffusion_model.blocks.0.ffn.0"


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({f"{ONE}.dora_scale": torch.ones(1)}, "is DoRA"),
        ({f"{ONE}.lora_magnitude_vector": torch.ones(1)}, "is DoRA"),
        ({f"{ONE}.hada_w1_a": torch.ones(1)}, "is a LyCORIS adapter"),
        ({f"{ONE}.lokr_w1": torch.ones(1)}, "is a LyCORIS adapter"),
        ({f"{ONE}.lora_mid.weight": torch.ones(1)}, "is a LyCORIS adapter"),
        ({f"{ONE}.lora_B.bias": torch.ones(1)}, "a LoRA with further parts"),
        ({f"{ONE}.lora_E": torch.ones(1)}, "AdaLoRA"),
        ({"lora_te_layer.lora_down.weight": torch.ones(1, 2)}, r"20 modules matched, 1 unexpected \(lora_te_layer"),
        ({"diffusion_model.blocks.9.ffn.0.lora_A.weight": torch.ones(1, 2)}, r"1 unexpected \(diffusion_model.blocks.9"),
        ({"diffusion_model.img_emb.proj.1.diff_b": torch.ones(1)}, "1 unexpected"),
        ({"other": torch.ones(1)}, r"1 unexpected \(other\)"),
        ({"diffusion_model.head.head.alpha": torch.ones(1)}, r"1 unexpected \(head.head.alpha\)"),
        ({"diffusion_model.blocks.0.norm3.lora_A.weight": torch.ones(1, 12)}, "1 unexpected"),
        ({"diffusion_model.head.head.lora_A.weight": torch.ones(3, 12)}, r"1 missing \(head.head.lora_B.weight\)"),
        ({"transformer.proj_out.lora_B.weight": torch.ones(8, 3)}, r"1 missing \(head.head.lora_A.weight\)"),
        ({"lora_unet_blocks_0_ffn_0.lora_down.weight": torch.ones(3, 12)}, "holds blocks.0.ffn.0 twice"),
        ({"transformer.blocks.0.ffn.net.0.proj.lora_A.weight": torch.ones(3, 12)}, "holds blocks.0.ffn.0 twice"),
        ({f"{ONE}.alpha": torch.tensor(float("nan"))}, "the alpha of blocks.0.ffn.0 must be one number"),
        ({f"{ONE}.alpha": torch.ones(2)}, "must be one number"),
        ({f"{ONE}.lora_A.weight": torch.ones(3, 13)}, r"1 misshapen \(blocks.0.ffn.0.lora_A \(3, 13\) instead of \(3, 12\)"),
        ({f"{ONE}.lora_B.weight": torch.ones(16, 4)}, r"lora_B \(16, 4\) instead of \(16, 3\)"),
        ({f"{ONE}.lora_A.weight": torch.ones(0, 12), f"{ONE}.lora_B.weight": torch.ones(16, 0)}, "instead of rank 1 or more"),
        ({f"{ONE}.lora_A.weight": torch.ones(3)}, r"lora_A \(3,\) instead of"),
        ({f"{ONE}.lora_A.weight": torch.ones(3, 12, dtype=torch.int8)}, r"is quantised \(int8\)"),
        ({f"{ONE}.lora_A.weight": torch.full((3, 12), float("inf"))}, "holds NaN or Inf"),
        ({f"lora_unet_{'x' * 60_000}.lora_down.weight": torch.ones(1, 2)}, "1 unexpected"),
    ],
)  # fmt: skip
def test_what_does_not_fit(extra: dict[str, Tensor], words: str, base: Path, tmp_path: Path) -> None:
    message = refused(base, {**written(pairs(), "comfyui"), **extra}, tmp_path)
    assert re.search(words, message), message
    assert "holds no LoRA" not in message


def test_two_adapters_in_one_file(base: Path, tmp_path: Path) -> None:
    half = dict(list(pairs().items())[:9])
    tensors = {
        **written(half, "peft"),
        **written({n: p for n, p in pairs().items() if n not in half}, "peft, another adapter"),
    }
    assert "holds the adapters default, style_2; save the one that is meant" in refused(base, tensors, tmp_path)
    tensors = {**written(pairs(), "peft"), **written(pairs(), "peft, another adapter")}
    assert "twice, under different names or adapters" in refused(base, tensors, tmp_path)


def test_only_what_holds_none_is_said_to_hold_none(base: Path, tmp_path: Path) -> None:
    assert "holds no LoRA: none of its 1 tensors" in refused(base, {"a.weight": torch.ones(1)}, tmp_path)
    assert "holds no LoRA" in refused(base, random_wan(CONFIG).state_dict(), tmp_path)
    others = {
        f"lora_unet_down_blocks_{i}_to_q.lora_{p}.weight": torch.ones(1, 1) for i in range(9) for p in ("down", "up")
    }
    message = refused(base, others, tmp_path)
    assert "is not for this model: 0 modules matched, 18 unexpected (lora_unet_down_blocks_0_to_q.lora_down" in message


def test_longlives_own_container_is_whole(base: Path, tmp_path: Path) -> None:
    made = pairs()
    del made["blocks.1.ffn.2"]
    torch.save({"generator_lora": written(made, "longlive")}, tmp_path / "l.pt")
    with pytest.raises(ValueError, match=r"19 modules matched, 1 missing \(blocks.1.ffn.2.lora_A.weight\)"):
        merged(base, tmp_path / "l.pt")
    torch.save({"generator_lora": written(pairs(every_layer()), "longlive")}, tmp_path / "l.pt")
    with pytest.raises(ValueError, match="14 unexpected"):
        merged(base, tmp_path / "l.pt")


@pytest.mark.parametrize(
    ("options", "words"), [({"rank": 0}, "lora_rank=0"), ({"alpha": float("nan")}, "lora_alpha=nan")]
)
def test_numbers_that_make_no_sense(options: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LoraSpec(Path("x"), **options)
