"""One colour per run, the same in every figure and table: colour-blind safe, on light and on dark paper."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib

# Okabe & Ito (2008) without their black, light hues deepened on white paper so that thin lines stay visible.
LIGHT = ("#c8500a", "#0068a8", "#008a65", "#b5578f", "#c28a00", "#3b97cf", "#6b6b00", "#7a4fb5")
DARK = ("#f0803c", "#4aa8e8", "#2fc59a", "#e08fc0", "#f0b93a", "#8fd0f5", "#c9c84a", "#b695ea")
GREY = ("#6f6f6a", "#a5a59e")
DASHES = ("none", "6 3", "2 2.5", "8 2 2 2")


@dataclass(frozen=True)
class Ink:
    """How a run is drawn: its colour on light and on dark paper, and an SVG dash pattern."""

    light: str
    dark: str
    dash: str


def inks(labels: Sequence[str], real: Sequence[bool]) -> list[Ink]:
    """One ink per run, in order. Real video is a dashed grey; labels that differ in one number get an ordered ramp."""
    drawn = [label for label, is_real in zip(labels, real, strict=True) if not is_real]
    order = _ramp_order(drawn)
    ramp = matplotlib.colormaps["viridis"]
    chosen: list[Ink] = []
    index = 0
    for is_real in real:
        if is_real:
            chosen.append(Ink(*GREY, dash="4 3"))
            continue
        if order is not None:
            place = order[index] / max(1, len(drawn) - 1)
            light, dark = (matplotlib.colors.to_hex(ramp(low + (high - low) * place)) for low, high in _RAMP)
            chosen.append(Ink(light, dark, dash="none"))
        else:
            hue = index % len(LIGHT)
            chosen.append(Ink(LIGHT[hue], DARK[hue], DASHES[index // len(LIGHT) % len(DASHES)]))
        index += 1
    return chosen


_RAMP = ((0.0, 0.80), (0.28, 1.0))  # the part of viridis that can be seen on light and on dark paper


def _ramp_order(labels: Sequence[str]) -> list[int] | None:
    """Ranks of labels that are the same text but for one number; None for any other set of labels, or fewer than 3."""
    if len(labels) < 3:
        return None
    parts = [re.split(r"(?<![A-Za-z0-9])(-?\d+(?:\.\d+)?)(?![A-Za-z0-9])", label) for label in labels]
    if any(len(part) != 3 for part in parts) or len({(part[0], part[2]) for part in parts}) != 1:
        return None
    values = [float(part[1]) for part in parts]
    return [sorted(values).index(value) for value in values]
