"""Text: cleaning, padding and mask as published, both namings of the encoder, embeddings cached by content."""

from __future__ import annotations

import dataclasses
import gc
import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from wan_files import TEXT_DIM, umt5, write_tokenizer, write_umt5

import deepforcing.wan.text as text_module
from deepforcing.wan.text import Embeddings, TextEncoder, TextEncoderSpec, clean, load_umt5

TEXT = "a red dog runs over the grass"


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("text")
    write_tokenizer(directory / "google" / "umt5-xxl")
    write_umt5(directory / "model.safetensors")
    write_umt5(directory / "models_t5_umt5-xxl-enc-bf16.pth")
    return directory


def spec_of(files: Path, name: str = "model.safetensors") -> TextEncoderSpec:
    return TextEncoderSpec(files / name, files / "google" / "umt5-xxl", 12)


@pytest.mark.parametrize(
    ("raw", "want"),
    [
        ("  a  red\tdog\n", "a red dog"),
        ("cats &amp; dogs", "cats & dogs"),
        ("cats &amp;amp; dogs", "cats & dogs"),
        ("Garayâ€™s beach", "Garay's beach"),
        ("a\u00a0dog", "a dog"),
    ],
)
def test_cleaning(raw: str, want: str) -> None:
    assert clean(raw) == want


def test_both_namings_give_identical_embeddings(files: Path) -> None:
    a = TextEncoder(spec_of(files)).encode(TEXT)
    b = TextEncoder(spec_of(files, "models_t5_umt5-xxl-enc-bf16.pth")).encode(TEXT)
    assert torch.equal(a, b)
    assert a.shape == (8, TEXT_DIM)  # seven words and the end mark


def test_rows_are_those_of_the_model_run_by_hand(files: Path) -> None:
    ids = [3 + text_module_words().index(w) for w in TEXT.split()] + [1]
    with torch.no_grad():
        want = umt5()(input_ids=torch.tensor([ids])).last_hidden_state[0]
    got = TextEncoder(spec_of(files)).encode(TEXT)
    assert torch.allclose(got, want, atol=1e-5)  # padded under the mask is as not padded


def text_module_words() -> list[str]:
    from wan_files import WORDS

    return WORDS


def test_padding_is_zero_past_the_real_length(files: Path) -> None:
    rows = Embeddings(spec_of(files), None).padded([TEXT, "a cat"])
    assert rows.shape == (2, 12, TEXT_DIM)
    assert rows[0, :8].abs().sum(-1).gt(0).all()
    assert not rows[0, 8:].any()
    assert not rows[1, 3:].any()


def test_long_prompts_are_cut_and_still_end(files: Path) -> None:
    rows = TextEncoder(spec_of(files)).encode("dog " * 50)
    assert rows.shape[0] == 12


def test_the_files_own_dtype(tmp_path: Path) -> None:
    write_umt5(tmp_path / "t5.pth", dtype=torch.bfloat16)
    assert {p.dtype for p in load_umt5(tmp_path / "t5.pth").parameters()} == {torch.bfloat16}


def test_embeddings_are_made_once_and_the_encoder_is_freed(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[weakref.ref[object]] = []

    class Counted(TextEncoder):
        def __init__(self, *a: object, **k: object) -> None:
            super().__init__(*a, **k)  # type: ignore[arg-type]
            made.append(weakref.ref(self.model))

    monkeypatch.setattr(text_module, "TextEncoder", Counted)
    first = Embeddings(spec_of(files), tmp_path)
    assert first.prepare([TEXT, "a cat", TEXT]) == 2
    want = first.padded([TEXT])
    gc.collect()
    assert [r() for r in made] == [None]  # loaded once, and gone
    again = Embeddings(spec_of(files), tmp_path)
    assert again.prepare([TEXT]) == 0
    assert torch.equal(again.padded([TEXT]), want)
    assert len(made) == 1


def test_the_cache_follows_content(files: Path, tmp_path: Path) -> None:
    Embeddings(spec_of(files), tmp_path).prepare([TEXT])
    assert Embeddings(spec_of(files), tmp_path).prepare([f"  {TEXT} "]) == 0  # the same after cleaning
    assert Embeddings(spec_of(files), tmp_path).prepare(["a cat"]) == 1
    other = spec_of(files, "models_t5_umt5-xxl-enc-bf16.pth")  # other bytes: another encoder
    assert other.identity() != spec_of(files).identity()
    assert Embeddings(other, tmp_path).prepare([TEXT]) == 1


def test_a_tokenizers_sides_change_nothing(files: Path, tmp_path: Path) -> None:
    """They are in its configuration, which no identity holds: padding left of the text would give other rows."""
    spec = spec_of(files)
    shutil.copytree(spec.tokenizer, tmp_path / "tokenizer")
    settings = tmp_path / "tokenizer" / "tokenizer_config.json"
    given = {**json.loads(settings.read_text()), "padding_side": "left", "truncation_side": "left"}
    settings.write_text(json.dumps(given))
    other = dataclasses.replace(spec, tokenizer=tmp_path / "tokenizer")
    assert other.identity() == spec.identity()
    for text in (TEXT, "a red dog " * 50):
        assert torch.equal(TextEncoder(other).encode(text), TextEncoder(spec).encode(text))


def test_a_damaged_cache_file_is_made_again(files: Path, tmp_path: Path) -> None:
    Embeddings(spec_of(files), tmp_path).prepare([TEXT])
    [path] = tmp_path.rglob("*.safetensors")
    path.write_bytes(path.read_bytes()[:40])
    assert Embeddings(spec_of(files), tmp_path).prepare([TEXT]) == 1
    assert not list(tmp_path.rglob("*.partial"))


def test_wrong_files_are_one_line(files: Path, tmp_path: Path) -> None:
    save_file({"decoder.upsamples.0.shortcut.bias": torch.zeros(1)}, tmp_path / "vae.safetensors")
    state = umt5().state_dict()
    state.pop("encoder.block.1.layer.1.layer_norm.weight")
    torch.save(dict(state), tmp_path / "t5.pth")
    for path, words in (
        (tmp_path / "vae.safetensors", "has no encoder.block.0.*it looks like a Wan VAE"),
        (tmp_path / "t5.pth", "1 missing .encoder.block.1.layer.1.layer_norm.weight.*it looks like a UMT5"),
        (tmp_path / "none.pth", "does not exist"),
    ):
        with pytest.raises(ValueError, match=words) as caught:
            load_umt5(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=r"must be a directory with tokenizer.json or spiece.model"):
        TextEncoderSpec(files / "model.safetensors", tmp_path).check()
    (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(ValueError, match="cannot be read") as caught:
        TextEncoder(TextEncoderSpec(files / "model.safetensors", tmp_path))
    assert "\n" not in str(caught.value)
