"""Reading a fixture's files: whatever is wrong with one is said with its name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor


class Fields(dict[str, Any]):
    """An object of a json file; a field that it lacks is a ValueError that names file and field."""

    def __init__(self, path: Path, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.path = path

    def __missing__(self, key: str) -> Any:
        raise ValueError(f"{self.path} lacks the field {key}")


def read_fields(path: Path) -> Fields:
    """Raises ValueError for a file that is no JSON object."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"), object_hook=lambda values: Fields(path, values))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(found, Fields):
        raise ValueError(f"{path} holds a {type(found).__name__} and not an object of fields")
    return found


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Raises ValueError for a file that is missing or no safetensors."""
    if not path.is_file():
        raise ValueError(f"{path} is not there")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
