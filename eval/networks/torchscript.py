"""Tensors out of a TorchScript archive, without TorchScript: nothing in the file is compiled or run.

OpenAI publishes CLIP as such archives. One is a zip: <top>/data.pkl pickles the module tree, <top>/data/<key> holds the
bytes of each storage, and code/ holds programs, which are left alone here. The pickle is read by an unpickler for which
every name but those of the storage types means the same inert object, so that there is nothing that it could call.
(Layout: PyTorch's torch/csrc/jit/serialization/docs/serialization.md.)
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eval.networks.files import refuse_text

_STORAGES = {
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


class _Object:
    """Whatever the pickle calls for: it takes any arguments and any state, and does nothing."""

    def __init__(self, *_: Any) -> None:
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Stored(NamedTuple):
    """Where a tensor lies. key: of its storage in the archive; the rest as in Tensor.as_strided."""

    dtype: torch.dtype
    key: str
    offset: int
    size: tuple[int, ...]
    stride: tuple[int, ...]


def _stored(storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> _Stored:
    dtype, key = storage
    return _Stored(dtype, str(key), int(offset), tuple(map(int, size)), tuple(map(int, stride)))


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _STORAGES:
            return _STORAGES[name]
        return _stored if (module, name) == ("torch._utils", "_rebuild_tensor_v2") else _Object

    def persistent_load(self, reference: Any) -> tuple[Any, Any]:
        _, dtype, key, *_ = reference  # "storage", type, key, device, number of elements
        return dtype, key


def _tensors(module: Any, prefix: str) -> Iterator[tuple[str, _Stored]]:
    if isinstance(module, _Object) and isinstance(module.state, dict):
        for name, value in module.state.items():
            if isinstance(value, _Stored):
                yield f"{prefix}{name}", value
            else:
                yield from _tensors(value, f"{prefix}{name}.")


def read_torchscript(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names, on the CPU and as they are stored.

    Raises ValueError in one line if the file is no TorchScript archive, is damaged, or holds no such tensor.
    """
    refuse_text(path)
    try:
        with zipfile.ZipFile(path) as archive:
            top = next(name for name in archive.namelist() if name.endswith("/data.pkl")).removesuffix("data.pkl")
            with archive.open(f"{top}data.pkl") as pickled:
                root = _Unpickler(pickled).load()
            found = {}
            for name, at in _tensors(root, ""):
                if name.startswith(prefix):
                    content = torch.frombuffer(bytearray(archive.read(f"{top}data/{at.key}")), dtype=at.dtype)
                    found[name.removeprefix(prefix)] = content.as_strided(at.size, at.stride, at.offset)
    except MemoryError:
        raise
    except Exception:  # a damaged archive may fail in any way
        raise ValueError(
            f"the weights {path} are no TorchScript archive, as OpenAI publishes CLIP, or are damaged; download them again"
        ) from None
    if not found:
        raise ValueError(f"the weights {path} hold no tensor called {prefix}...; they are another network's")
    return found
