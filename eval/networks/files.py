"""Reading the weights of a metric's network: nothing that a file holds is run, and what does not fit is told in a line."""

from __future__ import annotations

import pickle
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from deepforcing.torchvision_cpu import make_importable


@contextmanager
def packages() -> Iterator[None]:
    """Around imports of the packages that the metrics' networks come from: ValueError in one line if one is missing."""
    make_importable()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what these packages themselves import by old names
            yield
    except ImportError as error:
        raise ValueError(
            f"this metric needs the package {error.name or error}, which cannot be imported ({error}); "
            "README.md says how to install the metrics' packages"
        ) from None


def read_state(path: Path) -> dict[str, Tensor]:
    """A plain state dict from a .pth file, on the CPU. Raises ValueError if it is anything else."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of unusual pickle protocols; what cannot be read is told below
            state = torch.load(path, map_location="cpu", weights_only=True)
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle may fail in any way
        unsafe = isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower()
        reason = (
            "it holds pickled code or objects, which are never loaded" if unsafe else "it is truncated or no checkpoint"
        )
        raise ValueError(f"the weights {path} cannot be read: {reason}; download them again") from None
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ValueError(f"the weights {path} are no plain state dict (names and tensors, nothing around them)")
    return {str(name): value for name, value in state.items()}


def fill(network: nn.Module, state: Mapping[str, Tensor], path: Path) -> None:
    """Load every tensor of a network, none missing, none left over. Raises ValueError that names the first misfit."""
    wanted = network.state_dict()
    for name in [*wanted, *state]:
        if name not in state:
            raise ValueError(f"the weights {path} lack {name}: they are another network's, or were renamed")
        if name not in wanted:
            raise ValueError(f"the weights {path} hold {name}, which this network has no place for")
        if wanted[name].shape != state[name].shape:
            raise ValueError(
                f"the weights {path}: {name} is {list(state[name].shape)}; this network's is {list(wanted[name].shape)}"
            )
    network.load_state_dict(dict(state))
