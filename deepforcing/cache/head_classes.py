"""Classes of a model's heads, found once (experiments/head_classes.py) and kept in a JSON file."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepforcing.wan.config import WanConfig

SHIPPED = Path(__file__).parents[1] / "tiny" / "head_classes.json"
LARGEST = 1 << 20  # bytes of a file; 30 layers of 12 heads take some 3 kB


@dataclass(frozen=True)
class HeadClasses:
    """static: the static heads of every layer, ascending; all others are dynamic. heads: of a layer."""

    static: tuple[tuple[int, ...], ...]
    heads: int

    @property
    def dynamic(self) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(h for h in range(self.heads) if h not in static) for static in self.static)

    def check(self, config: WanConfig) -> None:
        """Raises ValueError for another model's."""
        if (len(self.static), self.heads) != (config.num_layers, config.num_heads):
            raise ValueError(
                f"the head classes are of a model with {len(self.static)} layers of {self.heads} heads, this one has "
                f"{config.num_layers} of {config.num_heads}: find its own with python -m experiments.head_classes "
                "model=... out=FILE and give them as cache.retention.heads=FILE"
            )


def read_classes(name: str) -> HeadClasses:
    """From a file, or those of the embedded world ("tiny").

    The file holds a list, or an object with a list called "groups", of {"layer": number, "static": heads, "dynamic": heads}:
    every layer once, every head of a layer once. Raises ValueError in one line that names the file.
    """
    path = SHIPPED if name == "tiny" else Path(name)
    if not path.is_file():
        raise ValueError(
            f"heads={name} is no file of head classes; find them with python -m experiments.head_classes out=FILE"
        )
    if path.stat().st_size > LARGEST:
        raise ValueError(f"{path} is larger than a file of head classes can be, {LARGEST} bytes")
    try:
        found: Any = json.loads(path.read_bytes())
        groups = found["groups"] if isinstance(found, dict) else found
        layers = {group["layer"]: (group["static"], group["dynamic"]) for group in groups}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise ValueError(
            f'{path} holds no head classes: a list of {{"layer": 0, "static": [0, 2], "dynamic": [1]}}'
        ) from None
    if len(layers) != len(groups) or set(layers) != set(range(len(layers))) or not layers:
        raise ValueError(f"{path}: the layers must be 0, 1, 2 ... and each be there once")
    width = sum(len(heads) for heads in layers[0] if isinstance(heads, list))
    for layer, classes in sorted(layers.items()):
        heads = [h for part in classes if isinstance(part, list) for h in part]
        if any(type(h) is not int for h in heads) or sorted(heads) != list(range(width)) or not width:
            raise ValueError(f"{path}: layer {layer} must name each of its {width} heads once, as static or as dynamic")
    return HeadClasses(tuple(tuple(sorted(layers[layer][0])) for layer in range(len(layers))), width)
