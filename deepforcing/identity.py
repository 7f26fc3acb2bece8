"""What of a specification goes into a run's identity: everything that changes pixels, and nothing else.

Published identities must stay: a field that is new, or that hardly anybody sets, enters only where it is not at its
default. A default that changes is then a change of the engine (generator.ENGINE).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any


def plain(value: Any) -> Any:
    """A dataclass as JSON values, with its class, so that two classes with equal fields differ.

    Raises ValueError for anything else: an object's repr would make another run of every process.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        return {"class": f"{type(value).__module__}.{type(value).__qualname__}", **fields}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (str, int, float, bool)) or value is None:
        return value
    kind = f"{type(value).__module__}.{type(value).__qualname__}"
    raise ValueError(f"{kind} cannot be part of a run's identity: make it a frozen dataclass of plain values")


def unusual(value: Any, without: Iterable[str] = ()) -> dict[str, Any]:
    """The fields of a dataclass that are not at their defaults, as JSON values. without: those that change no pixel, or
    are told elsewhere."""
    found = {}
    for field in dataclasses.fields(value):
        own = getattr(value, field.name)
        make = field.default_factory
        default = field.default if make is dataclasses.MISSING else make()
        if field.name not in without and own != default:
            found[field.name] = plain(own)
    return found
