"""Checkpoints: names are unwrapped, nothing but the right tensors loads, and no code in a file ever runs."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import deepforcing.wan.weights as weights
from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import read_tensors
from deepforcing.wan.weights import load_wan, random_wan, sha256

CONFIG = WanConfig(
    dim=12, ffn_dim=16, freq_dim=8, in_dim=2, out_dim=2, num_heads=2, num_layers=2, text_dim=6, text_len=3
)


@pytest.fixture(scope="module")
def state() -> dict[str, Tensor]:
    return random_wan(CONFIG, seed=4).state_dict()


def prefixed(state: dict[str, Tensor], prefix: str, plus: float = 0.0) -> dict[str, Tensor]:
    return {prefix + name: tensor + plus for name, tensor in state.items()}


def assert_loads(path: Path, want: dict[str, Tensor]) -> None:
    got = load_wan(path, CONFIG, torch.float32).state_dict()
    assert got.keys() == want.keys()
    assert all(torch.equal(got[name], want[name]) for name in want)


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "model.",
        "model._fsdp_wrapped_module.",
        "_orig_mod.model.",
        "model._fsdp_wrapped_module._checkpoint_wrapped_module.",
    ],
)
@pytest.mark.parametrize("legacy", [False, True])
def test_prefixes_are_dropped(prefix: str, legacy: bool, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    torch.save(prefixed(state, prefix), path, _use_new_zipfile_serialization=not legacy)
    assert_loads(path, state)


def test_wrappers_are_dropped_inside_names_too(state: dict[str, Tensor], tmp_path: Path) -> None:
    wrapped = {
        "model." + n.replace("blocks.1.", "blocks.1._fsdp_wrapped_module._checkpoint_wrapped_module."): t
        for n, t in state.items()
    }
    save_file({n: t.contiguous() for n, t in wrapped.items()}, tmp_path / "w.safetensors")
    assert_loads(tmp_path / "w.safetensors", state)


@pytest.mark.parametrize(
    "container",
    [
        lambda s, other: {"generator": s, "critic": other},
        lambda s, other: {"generator": other, "critic": other, "generator_ema": s},
        lambda s, other: {"model": s, "step": 3},
        lambda s, other: {"generator": {"model": s}},
    ],
)
def test_containers_are_opened(container, state: dict[str, Tensor], tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    torch.save(container(prefixed(state, "model."), prefixed(state, "model.", plus=1)), tmp_path / "w.pt")
    assert_loads(tmp_path / "w.pt", state)


def test_target_dtype(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors")
    model = load_wan(tmp_path / "w.safetensors", CONFIG)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    name = "blocks.1.ffn.0.weight"
    assert torch.equal(model.state_dict()[name], state[name].bfloat16())


class Malicious:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (str(self.marker),)


@pytest.mark.parametrize("kind", ["zip", "legacy", "bare pickle", "pickle named safetensors"])
def test_code_in_a_checkpoint_never_runs(kind: str, tmp_path: Path) -> None:
    marker = tmp_path / "ran"
    path = tmp_path / ("w.safetensors" if "safetensors" in kind else "w.pt")
    content = {"generator": {"a": torch.zeros(2), "b": Malicious(marker)}}
    if "pickle" in kind:
        path.write_bytes(pickle.dumps(Malicious(marker)))
        pickle.loads(path.read_bytes())  # the file is what it says: an unguarded load runs the code
        assert marker.exists()
        marker.rmdir()
    else:
        torch.save(content, path, _use_new_zipfile_serialization=kind == "zip")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        read_tensors(path)
    assert not marker.exists()
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    if "safetensors" not in kind:
        assert "never loaded" in str(caught.value)


@pytest.mark.parametrize("kind", ["zip", "legacy", "safetensors"])
def test_truncated_at_any_place_is_one_line(kind: str, state: dict[str, Tensor], tmp_path: Path) -> None:
    path = tmp_path / ("w.safetensors" if kind == "safetensors" else "w.pt")
    if kind == "safetensors":
        save_file(state, path)
    else:
        torch.save(state, path, _use_new_zipfile_serialization=kind == "zip")
    data = path.read_bytes()
    for length in [*range(0, len(data), len(data) // 40), *range(0, 300, 7), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ValueError, match="cannot be read") as caught:
            read_tensors(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("legacy", [False, True])
def test_garbled_is_one_line(seed: int, legacy: bool, tmp_path: Path) -> None:
    """Bytes changed in the pickled part: it may still load, but what does not is one clear error, whatever broke."""
    path = tmp_path / "w.pt"
    torch.save(
        {"generator": {f"a{i}": torch.randn(3) for i in range(4)}}, path, _use_new_zipfile_serialization=not legacy
    )
    data = bytearray(path.read_bytes())
    generator = torch.Generator().manual_seed(seed)
    for at in torch.randint(0, min(700, len(data)), (5,), generator=generator).tolist():  # its length varies
        data[at] = int(torch.randint(0, 256, (1,), generator=generator))
    path.write_bytes(data)
    message = None
    try:
        read_tensors(path)
    except ValueError as error:
        message = str(error)
    if message is not None:
        assert "\n" not in message
        assert str(path) in message


@pytest.mark.parametrize("content", [[torch.zeros(2)], torch.zeros(2), None])
def test_no_state_dict_inside(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(ValueError, match="no state dict inside"):
        read_tensors(tmp_path / "w.pt")


def test_absent_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="does not exist"):
        read_tensors(tmp_path / "w.pt")


def test_what_does_not_fit_is_named(state: dict[str, Tensor], tmp_path: Path) -> None:
    wrong = dict(state)
    del wrong["blocks.0.modulation"]
    wrong["blocks.9.modulation"] = torch.zeros(1)
    wrong["head.head.weight"] = torch.zeros(3, 5)
    save_file(wrong, tmp_path / "w.safetensors")
    with pytest.raises(ValueError) as caught:
        load_wan(tmp_path / "w.safetensors", CONFIG)
    message = str(caught.value)
    assert "\n" not in message
    assert "1 missing (blocks.0.modulation)" in message
    assert "1 unexpected (blocks.9.modulation)" in message
    assert "head.head.weight (3, 5) instead of (8, 12)" in message


def test_another_models_checkpoint_is_refused(state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(state, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match="does not fit this model"):
        load_wan(tmp_path / "w.safetensors", WanConfig(dim=16, num_heads=2, num_layers=2))


def test_sha256_follows_the_content(tmp_path: Path) -> None:
    path = tmp_path / "w"
    path.write_bytes(b"abc")
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    path.write_bytes(b"abcd")
    assert sha256(path) != "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_sha256_of_large_files_is_kept_beside_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(weights, "LARGE", 2)
    path = tmp_path / "w.pt"
    path.write_bytes(b"abc")
    digest = sha256(path)
    note = tmp_path / ".w.pt.sha256.json"
    known = json.loads(note.read_text())
    assert known["sha256"] == digest
    note.write_text(json.dumps({**known, "sha256": "0" * 64}))
    assert sha256(path) == "0" * 64  # taken from the note: nothing was hashed
    path.write_bytes(b"abcd")
    assert sha256(path) not in (digest, "0" * 64)
    note.write_text("{")
    assert sha256(path) == json.loads(note.read_text())["sha256"]


def test_random_weights_are_reproducible_and_full() -> None:
    a, b, c = (random_wan(CONFIG, seed=s).state_dict() for s in (1, 1, 2))
    assert all(torch.equal(a[n], b[n]) and a[n].isfinite().all() for n in a)
    assert not torch.equal(a["head.head.weight"], c["head.head.weight"])
