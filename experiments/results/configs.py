"""What differs between runs: specs flattened to dotted keys, and YAML lines that know whether their key differs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

ABSENT = object()
LONGEST = 160  # letters of a value in the table "what differs"


@dataclass(frozen=True)
class YamlLine:
    """One line of a config: `depth` levels deep, `text` as YAML, `differs` if another run has another value there."""

    depth: int
    text: str
    differs: bool


def flatten(spec: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings -> {"a.b.c": leaf}; lists are leaves."""
    flat: dict[str, Any] = {}
    for key, value in spec.items():
        if isinstance(value, Mapping) and value:
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differing(specs: Sequence[Mapping[str, Any]]) -> list[str]:
    """Dotted keys whose values are not the same in all specs, in order of first appearance."""
    flat = [flatten(spec) for spec in specs]
    keys = list(dict.fromkeys(key for one in flat for key in one))
    return [key for key in keys if any(one.get(key, ABSENT) != flat[0].get(key, ABSENT) for one in flat)]


def scalar(value: Any) -> str:
    """A leaf in YAML's words on one line; a dash for a key that the run does not have."""
    if value is ABSENT:
        return "–"
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("...\n").strip()


def difference_rows(specs: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> list[tuple[str, list[str]]]:
    """The table "what differs": (dotted key, one text per spec), long lists cut."""
    flat = [flatten(spec) for spec in specs]
    texts = [(key, [scalar(one.get(key, ABSENT)) for one in flat]) for key in keys]
    return [(key, [t if len(t) <= LONGEST else f"{t[: LONGEST - 1]}…" for t in values]) for key, values in texts]


def yaml_lines(spec: Mapping[str, Any], marked: Sequence[str], depth: int = 0, prefix: str = "") -> Iterator[YamlLine]:
    """A spec as YAML, line by line; lines whose dotted key is in `marked` differ."""
    for key, value in spec.items():
        dotted = f"{prefix}{key}"
        if isinstance(value, Mapping) and value:
            yield YamlLine(depth, f"{key}:", dotted in marked)
            yield from yaml_lines(value, marked, depth + 1, f"{dotted}.")
        else:
            yield YamlLine(depth, f"{key}: {scalar(value)}", dotted in marked)
