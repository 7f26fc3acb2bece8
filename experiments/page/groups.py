"""Under which heading a metric's panel stands."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eval.metrics import ACROSS, DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.metrics.vbench.quality import QUALITY, REWARD
from experiments.page import sentences

MOST_OPEN = 12  # panels that are unfolded at first

KINDS = {
    "world": "Against the world's truth",
    "pixels": "Colour and sharpness",
    "time": "Motion, joints and repetition",
    "vbench": "VBench's dimensions over time",
    "features": "Motion, drift and repetition by RAFT and CLIP",
    "": "Other metrics",
}


def kind_of(metric: str) -> str:
    """Of KINDS: the room of eval/metrics/ that measures it, but that networks which are not VBench's dimensions are one."""
    if metric == QUALITY.name or any(metric == v.name for of in DIMENSIONS for v in of.values):
        return "vbench"
    if any(metric == v.name for of in OVER_TIME for v in of.values):
        return "features"
    rooms = [
        type(of).__module__.split(".")[2] for of in (*WEIGHT_FREE, *ACROSS) if metric in [v.name for v in of.values]
    ]
    return rooms[0] if rooms and rooms[0] in KINDS else ""


def groups(panels: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The panels under headings; no heading where there is one group alone. Of many, all groups but the first are
    folded."""
    over_windows = sentences.OVER_WINDOWS
    if QUALITY.name in {panel["metric"] for panel in panels}:
        over_windows += f" {REWARD}"
    inside: dict[str, list[dict[str, Any]]] = {}
    for panel in panels:
        inside.setdefault(kind_of(panel["metric"]), []).append(panel)
    order = sorted(inside, key=[*KINDS].index)
    found = [
        {"title": KINDS[kind], "note": over_windows if kind == "vbench" else "", "panels": inside[kind],
         "open": len(panels) <= MOST_OPEN or kind == order[0]}
        for kind in order
    ]  # fmt: skip
    return found if len(found) > 1 else [{**group, "title": "", "open": True} for group in found]
