"""Tensors out of a TorchScript archive, without TorchScript: nothing in the file is compiled or run.

OpenAI publishes CLIP as such archives: a pickled tree of modules, their tensors' bytes, and programs, which are left alone
here. deepforcing.torch_files reads the tree with an inert object in the place of every module.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from torch import Tensor

from deepforcing.pickles import Foreign
from deepforcing.torch_files import read_torch_file
from eval.networks.files import refuse_text

MOST_MODULES = 100_000  # a tree can hold a module many times over


def _tensors(root: Any) -> Iterator[tuple[str, Tensor]]:
    """By their dotted names, in the order of the file."""
    left, seen = [("", root)], 0
    while left:
        prefix, module = left.pop()
        seen += 1
        if seen > MOST_MODULES:
            raise ValueError("its tree of modules has no end")
        if isinstance(module, Tensor):
            yield prefix.removesuffix("."), module
        elif isinstance(module, Foreign) and isinstance(module.state, dict):
            left += [(f"{prefix}{name}."[-1000:], inner) for name, inner in reversed(module.state.items())]


def read_torchscript(path: Path, prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names, on the CPU and as they are stored.

    Raises ValueError in one line if the file is no TorchScript archive, is damaged, or holds no such tensor.
    """
    refuse_text(path)
    try:
        tensors = dict(_tensors(read_torch_file(path, foreign=True, script=True)))
    except (ValueError, OSError) as error:
        raise ValueError(
            f"the weights {path} are no TorchScript archive, as OpenAI publishes CLIP, or are damaged ({error}); download "
            "them again"
        ) from None
    found = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
    if not found:
        raise ValueError(f"the weights {path} hold no tensor called {prefix}...; they are another network's")
    return found
