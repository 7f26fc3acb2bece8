"""Making a metric's network: the package that it comes from, and tensors into it; what does not fit is told in a line."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

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
            "make setup installs what requirements.lock lists"
        ) from None


def refuse_text(path: Path) -> None:
    """ValueError if the file is what a download leaves that went wrong, a web page or a pointer of git-lfs, or unreadable."""
    try:
        with open(path, "rb") as file:
            start = file.read(256).lstrip().lower()
    except OSError as error:
        raise ValueError(f"the weights {path} cannot be read: {error.strerror}") from None
    if start.startswith((b"<!doctype", b"<html", b"<?xml")):
        raise ValueError(f"the weights {path} are a web page or a server's error message; download them again")
    if start.startswith(b"version https://git-lfs"):
        raise ValueError(
            f"the weights {path} are a pointer of git-lfs; `git lfs pull` in their repository fetches them"
        )


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
