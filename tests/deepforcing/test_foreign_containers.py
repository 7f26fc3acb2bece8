"""Checkpoints as other tools write them, and files that are none: what is read, and the one line said of the rest."""

from __future__ import annotations

import json
import os
import pickle
import re
import struct
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import open_checkpoint
from deepforcing.wan.taehv import load_taehv
from deepforcing.wan.text import load_umt5
from deepforcing.wan.vae import load_vae
from deepforcing.wan.weights import load_wan, random_wan

CONFIG = WanConfig(
    dim=12, ffn_dim=16, freq_dim=8, in_dim=2, out_dim=2, num_heads=2, num_layers=2, text_dim=6, text_len=3
)
State = dict[str, Tensor]


@pytest.fixture(scope="module")
def state() -> State:
    return random_wan(CONFIG, seed=4).state_dict()


def prefixed(state: State, prefix: str, plus: float = 0.0) -> State:
    return {prefix + name: tensor + plus for name, tensor in state.items()}


def assert_loads(path: Path, want: State, **options: Any) -> None:
    got = load_wan(path, CONFIG, torch.float32, **options).state_dict()
    assert all(torch.equal(got[name], want[name]) for name in want)


def refusal(path: Path, open_: Callable[[Path], object] = open_checkpoint) -> str:
    start = time.perf_counter()
    with pytest.raises(ValueError) as caught:
        open_(path)
    assert time.perf_counter() - start < 5
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    assert len(message) - len(str(path)) < 600
    return message


# ---- what is read -------------------------------------------------------------------------------------------------

PREFIXES = [
    "model.diffusion_model.", "diffusion_model.", "module.", "model.", "generator.model.", "module.model.", "model.module.",
    "_orig_mod.", "_orig_mod.module.", "model._orig_mod._fsdp_wrapped_module.", "module._forward_module.", "generator.",
    "transformer.", "pipe.dit.", "net.", "student.",
]  # fmt: skip
ENTRIES: list[tuple[str, ...]] = [
    (), ("state_dict",), ("model",), ("module",), ("generator",), ("generator", "state_dict"), ("state_dict", "model"),
    ("generator_ema",), ("generator", "model"), ("model_state_dict",), ("state_dict", "generator_ema"), ("model_ema",),
    ("ema", "state_dict"),
]  # fmt: skip


@pytest.mark.parametrize("safe", [True, False])
@pytest.mark.parametrize("prefix", PREFIXES)
def test_prefixes(prefix: str, safe: bool, state: State, tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if safe else "w.pt")
    (save_file if safe else torch.save)(prefixed(state, prefix), path)  # type: ignore[operator]
    assert_loads(path, state)


@pytest.mark.parametrize("prefix", ["", "model.diffusion_model.", "module."])
@pytest.mark.parametrize("entries", ENTRIES)
def test_entries(entries: tuple[str, ...], prefix: str, state: State, tmp_path: Path) -> None:
    content: dict[str, Any] = OrderedDict(prefixed(state, prefix))
    for entry in reversed(entries):
        content = {
            "step": 3,
            entry: content,
            "optimizer": {"state": {0: {"step": torch.zeros(1)}}},
            "config": {"a": [1]},
        }
    torch.save(content, tmp_path / "w.pt")
    assert_loads(tmp_path / "w.pt", state)


def test_wrappers_inside_names(state: State, tmp_path: Path) -> None:
    for part in ("module.", "_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module.module."):
        torch.save({n.replace("blocks.1.", f"blocks.1.{part}"): t for n, t in state.items()}, tmp_path / "w.pt")
        assert_loads(tmp_path / "w.pt", state)


@pytest.mark.parametrize("averaged", [True, False])
def test_entries_that_became_prefixes(averaged: bool, state: State, tmp_path: Path) -> None:
    flat = {
        **prefixed(state, "generator.model.", 1),
        **prefixed(state, "generator_ema.model."),
        **prefixed(state, "critic.", 2),
    }
    save_file(flat, tmp_path / "w.safetensors")
    want = state if averaged else {n: t + 1 for n, t in state.items()}
    assert_loads(tmp_path / "w.safetensors", want, use_ema=averaged)


def test_one_file_for_a_whole_pipeline(state: State, tmp_path: Path) -> None:
    others = {"vae.decoder.conv1.weight": torch.ones(2), "text_encoders.t5.shared.weight": torch.ones(2)}
    save_file({**prefixed(state, "model.diffusion_model."), **others}, tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", state)
    save_file({**prefixed(state, "model.diffusion_model."), "extra.weight": torch.ones(2)}, tmp_path / "w.safetensors")
    assert "1 unexpected (extra.weight)" in refusal(tmp_path / "w.safetensors", lambda p: load_wan(p, CONFIG))


@pytest.mark.parametrize("ending", ["PT", "Pth", "CKPT", "bin", "SAFETENSORS", "SafeTensors"])
def test_endings_of_any_case(ending: str, state: State, tmp_path: Path) -> None:
    path = tmp_path / f"W.{ending}"
    (save_file if "safe" in ending.lower() else torch.save)(state, path)  # type: ignore[operator]
    assert_loads(path, state)


def test_plain_fp8_is_weights_like_others(state: State, tmp_path: Path) -> None:
    """Only where scales stand beside them are the numbers not the weights."""
    fp8 = {n: t.to(torch.float8_e4m3fn) if t.ndim > 1 else t for n, t in state.items()}
    save_file(fp8, tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", {n: t.float() for n, t in fp8.items()})


def test_the_index_of_torch_shards(state: State, tmp_path: Path) -> None:
    names = sorted(state)
    places = {}
    for i, part in enumerate((names[::2], names[1::2])):
        torch.save({n: state[n] for n in part}, tmp_path / f"pytorch_model-{i}.bin")
        places |= dict.fromkeys(part, f"pytorch_model-{i}.bin")
    (tmp_path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": places}))
    assert_loads(tmp_path, state)


# ---- what is not --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "an empty file (0 bytes)"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "a git-lfs pointer"),
        (b"<!DOCTYPE html>\n<html><body>Sign in</body></html>", "a web page"),
        (b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
        (b'{"error": "not found"}', "JSON, not a checkpoint"),
        (b"Entry not found", "text, not a checkpoint"),
        (bytes(100_000), "zeros at its beginning"),
    ],
)
@pytest.mark.parametrize("ending", ["pt", "safetensors", "PTH", "bin"])
def test_no_checkpoint_at_all(content: bytes, words: str, ending: str, tmp_path: Path) -> None:
    path = tmp_path / f"w.{ending}"
    path.write_bytes(content)
    for open_ in (open_checkpoint, lambda p: load_wan(p, CONFIG), load_vae, load_umt5, load_taehv):
        message = refusal(path, open_)
        assert f"checkpoint {path} cannot be read: it is {words}" in message
        assert "pickled" not in message


def test_a_file_under_the_other_kinds_ending(state: State, tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.pt")
    assert "it is a safetensors file, not a torch file; rename it to w.safetensors" in refusal(tmp_path / "w.pt")
    torch.save(state, tmp_path / "v.safetensors")
    assert "it is a torch file, not safetensors; rename it to v.pt" in refusal(tmp_path / "v.safetensors")


def test_pickled_code_is_still_called_that(tmp_path: Path) -> None:
    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, (str(tmp_path / "ran"),)

    torch.save({"a": Code()}, tmp_path / "w.pt")
    assert "it holds pickled code or objects, which are never loaded" in refusal(tmp_path / "w.pt")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: {**fp8(s), "scaled_fp8": torch.zeros(2)}, r"scaled fp8 weights \(it has scaled_fp8\)"),
        (lambda s: {**fp8(s), "blocks.0.ffn.0.scale_weight": torch.ones(1)}, "scaled fp8 .*scale_weight"),
        (lambda s: {**fp8(s), "blocks.0.ffn.0.weight_scale": torch.ones(1)}, "scaled fp8 .*weight_scale"),
        (lambda s: int8(s), "quantised weights .*weight is int8"),
        (lambda s: {**s, "blocks.0.ffn.0.weight": torch.zeros(16, 12, dtype=torch.uint8)}, "quantised .* is uint8"),
        (lambda s: {**int8(s), "blocks.0.ffn.0.weight_scale": torch.ones(1)}, "int8 quantised weights .*weight_scale"),
        (lambda s: {**s, "blocks.0.ffn.0.qweight": torch.zeros(4, dtype=torch.int32)}, "quantised .*qweight"),
        (lambda s: {**s, "blocks.0.ffn.0.weight.absmax": torch.zeros(4)}, "quantised .*absmax"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("prefix", ["", "model.diffusion_model."])
def test_quantised_weights_name_what_to_use(
    change: Callable[[State], State], words: str, prefix: str, state: State, tmp_path: Path
) -> None:
    save_file({prefix + n: t.contiguous() for n, t in change(state).items()}, tmp_path / "w.safetensors")
    message = refusal(tmp_path / "w.safetensors", lambda p: load_wan(p, CONFIG))
    assert re.search(words, message), message
    assert "use the bfloat16, float16 or float32 file of the same release" in message


def fp8(state: State, kind: torch.dtype = torch.float8_e4m3fn) -> State:
    return {n: t.to(kind) if t.ndim > 1 else t for n, t in state.items()}


def int8(state: State) -> State:
    return fp8(state, torch.int8)


def test_a_tensor_of_whole_numbers_is_no_bias(state: State, tmp_path: Path) -> None:
    save_file({**state, "blocks.0.ffn.0.bias": torch.zeros(16, dtype=torch.int32)}, tmp_path / "w.safetensors")
    message = refusal(tmp_path / "w.safetensors", lambda p: load_wan(p, CONFIG))
    assert "1 of another type (blocks.0.ffn.0.bias torch.int32)" in message


def test_several_models_and_unknown_entries(state: State, tmp_path: Path) -> None:
    torch.save({"model": state, "state_dict": state}, tmp_path / "w.pt")
    assert "holds several models (model, state_dict); save the one that is meant" in refusal(tmp_path / "w.pt")
    torch.save({"my_network": state}, tmp_path / "w.pt")
    assert "nothing known (0 tensors; it holds my_network)" in refusal(tmp_path / "w.pt", lambda p: load_wan(p, CONFIG))


def test_a_lora_that_was_not_merged(state: State, tmp_path: Path) -> None:
    mixed = {n.replace("ffn.0.weight", "ffn.0.base_layer.weight"): t for n, t in state.items()}
    torch.save({**mixed, "blocks.0.ffn.0.lora_A.default.weight": torch.ones(1, 12)}, tmp_path / "w.pt")
    assert "a model with a LoRA that is not merged" in refusal(tmp_path / "w.pt", lambda p: load_wan(p, CONFIG))


def test_directories(tmp_path: Path) -> None:
    (tmp_path / "mine.PT").write_bytes(b"")
    assert "name a file of it: it holds mine.PT" in refusal(tmp_path)
    (tmp_path / "__0_0.distcp").write_bytes(b"")
    assert "a distributed checkpoint (.distcp); make one file of it with python -m torch.distributed" in refusal(
        tmp_path
    )


# ---- bombs --------------------------------------------------------------------------------------------------------


def itself() -> dict[str, Any]:
    loop: dict[str, Any] = {"step": 1}
    for entry in ("model", "generator", "state_dict", "ema", "module"):
        loop[entry] = loop
    return loop


def chain() -> dict[str, Any]:
    content: dict[str, Any] = {"a": torch.zeros(1)}
    for _ in range(300):
        content = {"model": content}
    return content


@pytest.mark.parametrize(
    "content",
    [
        itself(), chain(), {"x" * 51_396: torch.zeros(1)}, {"a\nb\x1b[31m": torch.zeros(1)}, {"m" * 60_000: {"b": 1}},
        {f"blocks.{i}.x": torch.zeros(1) for i in range(3000)}, {("a", ("b", "c")): 1}, [[]], "text",
    ],
    ids=lambda c: type(c).__name__,
)  # fmt: skip
def test_odd_content_is_one_short_line(content: Any, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    message = refusal(tmp_path / "w.pt", lambda p: load_wan(p, CONFIG))
    assert "\x1b" not in message


def test_long_names_in_safetensors_and_indices(tmp_path: Path) -> None:
    save_file({"x" * 51_396: torch.zeros(1)}, tmp_path / "w.safetensors")
    refusal(tmp_path / "w.safetensors", lambda p: load_wan(p, CONFIG))
    index = tmp_path / "w.safetensors.index.json"
    for value in ({"a" * 60_000: "b" * 60_000}, {"a": "../" * 9000}, {"a": 1}, [], "x", {"a": "w.safetensors"}):
        index.write_text(json.dumps({"weight_map": value}))
        refusal(index, lambda p: load_wan(p, CONFIG))
    for text in ("[]", "{}", "", "[" * 100_000, '{"weight_map": '):
        index.write_text(text)
        refusal(index)
    header = b'{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,' + b"9" * 60_000 + b"]}}"
    (tmp_path / "h.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(4))
    refusal(tmp_path / "h.safetensors")


def test_a_compressed_bomb(tmp_path: Path) -> None:
    """120 MB of zeros in 120 kB where the pickle should be."""
    path = tmp_path / "w.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("w/data.pkl", "w") as file:
            for _ in range(120):
                file.write(bytes(1_000_000))
        archive.writestr("w/version", "3")
    assert path.stat().st_size < 200_000
    start = time.perf_counter()
    assert "compressed zip archive" in refusal(path)
    assert time.perf_counter() - start < 0.5


def test_pickles_of_other_programs(tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_bytes(pickle.dumps({"a": [1, 2]}))
    assert "it is a pickle, but not one of torch.save" in refusal(tmp_path / "w.pt")
    with zipfile.ZipFile(tmp_path / "z.pt", "w") as archive:
        archive.writestr("model.safetensors", b"")
    assert "a zip archive, but not one of torch.save; it holds model.safetensors: unpack it" in refusal(
        tmp_path / "z.pt"
    )
