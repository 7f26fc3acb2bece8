"""Latents on disk, beside the mp4: written chunk by chunk in constant memory, read back bit for bit.

A safetensors file with one tensor, "latents" [latent frames, channels, rows, columns], in the dtype that the rollout ran in.
The format's header comes first and its numbers follow from the video's length, so the file is a stream: header, then chunks.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from deepforcing.geometry import Geometry
from deepforcing.video import sha256_file, sync_directory

DTYPES = {torch.float32: ("float32", "F32"), torch.bfloat16: ("bfloat16", "BF16")}
NAME = "latents"
SUFFIX = ".safetensors"


def latents_bytes(g: Geometry, latent_frames: int, dtype: torch.dtype) -> int:
    """Bytes of one video's latents; the file has a short header more."""
    return latent_frames * g.latent_channels * g.latent_height * g.latent_width * dtype.itemsize


class LatentsWriter:
    """Stream latents into a file, chunk by chunk; it appears under its name only when it is whole.

        with LatentsWriter(path, (240, 16, 60, 104), torch.bfloat16) as file:
            for chunk in chunks:
                file.write(chunk.latents)
        record["latents"] = file.record()

    shape: of the whole video, [latent frames, C, Y, X]. Inside the block it is `<stem>.partial.safetensors`, which is
    overwritten if a killed run left one; after an exception it is removed. Raises ValueError for other dtypes, for chunks of
    another shape, and for more or fewer frames than announced; OSError, naming the file, when the disk is full.
    """

    def __init__(self, path: Path, shape: tuple[int, int, int, int], dtype: torch.dtype) -> None:
        if dtype not in DTYPES:
            raise ValueError(f"latents are kept as float32 or bfloat16, not as {dtype}")
        self.path, self.shape, self.dtype = path, shape, dtype
        self.frames = 0
        self._partial = path.with_name(f"{path.stem}.partial{path.suffix}")
        self._digest = hashlib.sha256()
        self._bytes = 0

    def __enter__(self) -> LatentsWriter:
        n, c, y, x = self.shape
        size = n * c * y * x * self.dtype.itemsize
        tensor = {"dtype": DTYPES[self.dtype][1], "shape": list(self.shape), "data_offsets": [0, size]}
        header = json.dumps({NAME: tensor}, separators=(",", ":")).encode()
        header += b" " * (-len(header) % 8)  # the format's alignment
        self._file = open(self._partial, "wb")
        self._put(len(header).to_bytes(8, "little") + header)
        return self

    def write(self, latents: Tensor) -> None:
        """Append a chunk [F, C, Y, X]."""
        if latents.dtype != self.dtype or tuple(latents.shape[1:]) != self.shape[1:]:
            raise ValueError(
                f"latents are {latents.dtype} {tuple(latents.shape)}, expected {self.dtype} (F, *{self.shape[1:]})"
            )
        self.frames += len(latents)
        self._put(latents.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if kind is None:
                if self.frames != self.shape[0]:
                    raise ValueError(f"{self.path}: {self.frames} latent frames of {self.shape[0]} were written")
                self._file.flush()
                os.fsync(self._file.fileno())
                self._file.close()
                os.replace(self._partial, self.path)
                sync_directory(self.path.parent)
        except OSError as fault:
            raise self._fault(fault) from fault
        finally:
            with contextlib.suppress(OSError):
                self._file.close()
            with contextlib.suppress(OSError):
                self._partial.unlink(missing_ok=True)

    def record(self) -> dict[str, Any]:
        """What a sample's record says of the finished file (records.LatentsRecord)."""
        return {
            "bytes": self._bytes,
            "sha256": self._digest.hexdigest(),
            "dtype": DTYPES[self.dtype][0],
            "shape": list(self.shape),
        }

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data)
        except OSError as error:
            raise self._fault(error) from error
        self._digest.update(data)
        self._bytes += len(data)

    def _fault(self, error: OSError) -> OSError:
        return OSError(error.errno, f"cannot write the latents: {error.strerror}", str(self.path))


def latents_shape(path: Path) -> tuple[int, ...]:
    """Of the file's header. Raises ValueError for what is no such file."""
    try:
        with safe_open(path, "pt") as file:
            if list(file.keys()) != [NAME]:
                raise ValueError(f"{path} is no file of latents: it must hold one tensor, {NAME!r}")
            held = file.get_slice(NAME)
            shape, dtype = tuple(held.get_shape()), held.get_dtype()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{path} cannot be read as latents: {' '.join(str(error).split())[:200]}") from None
    if len(shape) != 4 or 0 in shape or dtype not in [name for _, name in DTYPES.values()]:
        raise ValueError(
            f"{path} holds {dtype} {list(shape)}, and latents are F32 or BF16 [latent frames, channels, rows, columns]"
        )
    return shape


def read_latents(path: Path, sha256: str | None = None) -> Tensor:
    """[n, C, Y, X] on the CPU, as they were written. sha256: of the file, if it is known.

    Raises ValueError for what is no such file, is not the one with this sha256, or holds NaN or Inf.
    """
    latents_shape(path)
    if sha256 is not None and sha256_file(path) != sha256:
        raise ValueError(f"{path} is damaged or was replaced: its sha256 is not the one in its record")
    with safe_open(path, "pt") as file:
        latents: Tensor = file.get_tensor(NAME)
    if not bool(latents.isfinite().all()):
        raise ValueError(f"{path} holds NaN or Inf")
    return latents
