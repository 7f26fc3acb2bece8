"""Checkpoints of the metrics' networks, read without running anything that is in them, by deepforcing.torch_files alone.

The published AMT-S holds objects of other classes besides its tensors: they are passed over. torch.load and torch.jit.load
are never called, here or by DreamSim's package (`data_only`): they decide by names of their own what a file is, and run it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import Tensor

from deepforcing.torch_files import read_torch_file
from eval.networks.files import refuse_text


def read_state(path: Path, inside: str | None = None) -> dict[str, Tensor]:
    """The tensors by name of a checkpoint, or of its entry `inside`; mapped where the format allows.

    Raises ValueError in one line if the file is not a checkpoint or has no tensors there.
    """
    refuse_text(path)
    try:
        content = read_torch_file(path, foreign=True)
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is truncated or not the checkpoint that is expected here ({error})") from None
    if inside is not None and isinstance(content, Mapping):
        content = content.get(inside)
    if not isinstance(content, Mapping):
        raise ValueError(f"{path} is not the checkpoint that is expected here (no state dict{_under(inside)})")
    state = {str(name): value for name, value in content.items() if isinstance(value, Tensor)}
    if not state:
        raise ValueError(f"{path} holds no tensors{_under(inside)}")
    return state


def _under(inside: str | None) -> str:
    return f" under {inside!r}" if inside else ""


@contextmanager
def data_only() -> Iterator[None]:
    """While somebody else's code loads its checkpoints: torch.load reads them as `read_state` does, torch.jit.load refuses.

    Both raise ValueError in one line.
    """

    def load(file: Any, *_: Any, **__: Any) -> Any:  # on the CPU, from where modules take their tensors
        path = Path(file if isinstance(file, str | Path) else file.name)
        refuse_text(path)
        try:
            return read_torch_file(path, foreign=True)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path} is not a checkpoint that can be read here ({error})") from None

    def refuse(file: Any, *_: Any, **__: Any) -> NoReturn:
        raise ValueError(f"{file} is to be loaded as a TorchScript program, which is never run")

    with mock.patch.object(torch, "load", load), mock.patch.object(torch.jit, "load", refuse):
        yield
