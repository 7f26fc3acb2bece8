"""What may stand in an identity: plain JSON, nothing that is written in two ways."""

from __future__ import annotations

import math


def check_json(value: object, where: str) -> None:
    """Raises ValueError that says where the first value stands that has no place in an identity."""
    if isinstance(value, dict):
        for key, item in value.items():
            if type(key) is not str:
                raise ValueError(f"{where} has the key {key!r}, which is not a string")
            check_json(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for index, item in enumerate(value):
            check_json(item, f"{where}[{index}]")
    elif type(value) is float:
        if not math.isfinite(value):
            raise ValueError(f"{where} is {value}, which has no place in an identity")
    elif value is not None and type(value) not in (bool, int, str):
        # Subclasses too: NumPy floats and enums have reprs of their own.
        kind = type(value).__name__
        raise ValueError(f"{where} is of type {kind}, expected plain JSON: str, int, float, bool, None, list or dict")
