"""Latents on disk: what was written comes back bit for bit, in a file that safetensors itself reads."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from deepforcing.latents import LatentsWriter, latents_shape, read_latents
from deepforcing.video import sha256_file

SHAPE = (6, 4, 3, 5)


def write(path: Path, latents: torch.Tensor, chunk: int = 3) -> LatentsWriter:
    with LatentsWriter(path, tuple(latents.shape), latents.dtype) as file:  # type: ignore[arg-type]
        for part in torch.split(latents, chunk):
            file.write(part)
    return file


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunk", [1, 3, 6])
def test_what_was_written_comes_back(dtype: torch.dtype, chunk: int, tmp_path: Path) -> None:
    latents = torch.randn(SHAPE, generator=torch.Generator().manual_seed(0)).to(dtype)
    path = tmp_path / "a.safetensors"
    file = write(path, latents, chunk)
    assert torch.equal(read_latents(path), latents)
    assert torch.equal(load_file(path)["latents"], latents)
    assert latents_shape(path) == SHAPE
    name = str(dtype).removeprefix("torch.")
    size, digest = path.stat().st_size, sha256_file(path)
    assert file.record() == {"bytes": size, "sha256": digest, "dtype": name, "shape": list(SHAPE)}
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_chunks_that_are_no_part_of_a_larger_storage(tmp_path: Path) -> None:
    """A view of one video of a batch, and not in the order of its storage."""
    batch = torch.randn(2, 4, 3, 5, 6).permute(0, 4, 1, 2, 3)
    write(tmp_path / "a.safetensors", batch[1])
    assert torch.equal(read_latents(tmp_path / "a.safetensors"), batch[1])


def interrupted(path: Path, half: torch.Tensor) -> None:
    with LatentsWriter(path, SHAPE, half.dtype) as file:
        file.write(half)
        raise ZeroDivisionError


def test_what_did_not_end_leaves_nothing(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    half, other = torch.zeros(3, *SHAPE[1:]), torch.zeros(3, 1, 1, 1)
    with pytest.raises(ZeroDivisionError):
        interrupted(path, half)
    with pytest.raises(ValueError, match="3 latent frames of 6"), LatentsWriter(path, SHAPE, half.dtype) as file:
        file.write(half)
    with (
        pytest.raises(ValueError, match=r"are torch\.float32 .*, expected"),
        LatentsWriter(path, SHAPE, half.dtype) as f,
    ):
        f.write(other)
    with pytest.raises(ValueError, match="float32 or bfloat16"):
        LatentsWriter(path, SHAPE, torch.float16)
    assert not list(tmp_path.iterdir())


def test_files_that_are_no_latents(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    path.write_text("no tensors")
    with pytest.raises(ValueError, match="cannot be read as latents"):
        read_latents(path)
    cut = tmp_path / "cut.safetensors"
    write(cut, torch.zeros(SHAPE))
    cut.write_bytes(cut.read_bytes()[:-4])
    with pytest.raises(ValueError, match="cannot be read as latents"):
        read_latents(cut)
    for tensors, says in (
        ({"weights": torch.zeros(SHAPE)}, "one tensor, 'latents'"),
        ({"latents": torch.zeros(SHAPE), "more": torch.zeros(1)}, "one tensor, 'latents'"),
        ({"latents": torch.zeros(3, 4)}, r"holds F32 \[3, 4\]"),
        ({"latents": torch.zeros(SHAPE, dtype=torch.int32)}, "holds I32"),
        ({"latents": torch.full(SHAPE, float("nan"))}, "holds NaN or Inf"),
    ):
        save_file(tensors, path)
        with pytest.raises(ValueError, match=says):
            read_latents(path)
    write(path, torch.zeros(SHAPE))
    with pytest.raises(ValueError, match="damaged or was replaced"):
        read_latents(path, "0" * 64)
