"""What may have become of a record: every key dropped or of another kind, at every depth, and the file cut off."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from typing import Any

VALUES: tuple[Any, ...] = (
    None, "", "x", "\x1b[2J", "../../etc/passwd", "x" * 100_000, True, 0, -1, 0.5, 1e300, 2**63, 10**30, float("nan"),
    float("inf"), [], ["x"], {}, {"x": 1}, "\ud800",
)  # fmt: skip


def places(value: Any, inside: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Of every key and the first item of every list, at every depth."""
    if isinstance(value, dict):
        for key, item in value.items():
            yield (*inside, key)
            yield from places(item, (*inside, key))
    elif isinstance(value, list) and value:
        yield (*inside, 0)
        yield from places(value[0], (*inside, 0))


def edited(record: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """(what was done, the file's text)."""
    text = json.dumps(record)
    for length in (0, 1, len(text) // 3, len(text) // 2, len(text) - 1):
        yield f"cut at {length}", text[:length]
    for whole in ("[]", "null", "3", '"x"', "{}", f"[{text}]", f"{text}{text}", text.replace("{", '{"schema": 1, ', 1)):
        yield f"is {whole[:40]}", whole
    for place in places(record):
        for value in (..., *VALUES):
            changed = copy.deepcopy(record)
            target: Any = changed
            for key in place[:-1]:
                target = target[key]
            if value is ...:
                del target[place[-1]]
            else:
                target[place[-1]] = value
            name = ".".join(map(str, place))
            yield f"{name} dropped" if value is ... else f"{name} = {str(value)[:40]!r}", json.dumps(changed)
