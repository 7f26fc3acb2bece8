"""Checkpoints (.pth) that hold more than tensors, read without running anything that is in them.

torch.load(weights_only=True) refuses a file with one unknown class in it, and the published AMT-S has some. Here tensors,
OrderedDicts and the built-in containers are made; every other class or function that a pickle names becomes `Foreign`,
which does nothing whatever is done to it.
"""

from __future__ import annotations

import pickle
import types
import warnings
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from eval.networks.files import refuse_text

KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): torch._utils._rebuild_parameter,
}


class Foreign(dict[Any, Any]):
    """Stands for an object of an unknown class: keeps entries that are set, for a dict of another name is still one."""

    def __new__(cls, *args: object, **kwargs: object) -> Foreign:
        return super().__new__(cls)

    def __init__(self, *args: object, **kwargs: object) -> None:
        super().__init__()

    def __call__(self, *args: object, **kwargs: object) -> Foreign:
        return Foreign()

    def __setstate__(self, state: object) -> None: ...

    def append(self, item: object) -> None: ...

    def extend(self, items: object) -> None: ...

    __hash__ = object.__hash__  # type: ignore[assignment]  # as a key or in a set it is only itself


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        return KNOWN.get((module, name), Foreign)


_PICKLE = types.SimpleNamespace(__name__="inert", Unpickler=_Unpickler)


def read_state(path: Path, inside: str | None = None) -> dict[str, Tensor]:
    """The tensors by name of a checkpoint, or of its entry `inside`; memory-mapped where the format allows.

    Raises ValueError in one line if the file is not a checkpoint or has no tensors there.
    """
    refuse_text(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols; what cannot be read is told below
            content = _content(path)
        for key in () if inside is None else (inside,):
            content = content[key]
        state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle may fail in any way
        reason = (str(error) or type(error).__name__).splitlines()[0][:120]
        raise ValueError(f"{path} is truncated or not the checkpoint that is expected here ({reason})") from None
    if not state:
        raise ValueError(f"{path} holds no tensors{f' under {inside!r}' if inside else ''}")
    return state


def _content(path: Path) -> Mapping[Any, Any]:
    if not zipfile.is_zipfile(path):  # torch's format until 1.5
        return dict(torch.load(path, map_location="cpu", weights_only=True))
    with zipfile.ZipFile(path) as archive:
        if any(name.endswith("/constants.pkl") for name in archive.namelist()):
            raise ValueError("it is a TorchScript program")
    return dict(torch.load(path, map_location="cpu", weights_only=False, pickle_module=_PICKLE, mmap=True))
