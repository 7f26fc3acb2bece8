"""Names that moved stay where they were, for notebooks and scripts: found when somebody asks for them, so that a command
that needs none of them stays quick to start."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any


def moved(of: str, places: dict[str, str]) -> Callable[[str], Any]:
    """A module's __getattr__. of: its name. places: {module: "the names that went there"}."""
    where = {name: module for module, names in places.items() for name in names.split()}

    def found(name: str) -> Any:
        if name not in where:
            raise AttributeError(f"module {of!r} has no attribute {name!r}")
        return getattr(import_module(where[name]), name)

    return found
