"""What the label of a lossy run ends with, as in "deep_sink (tiny decoder, teacache)": what was left out in making it.

From the run's identity alone, so no table, figure or page can lack it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from experiments.command.conf import groups

TINY = "tiny decoder"
STORES = ("rtn", "kivi", "quarot", "prq")


def marks(identity: Mapping[str, Any]) -> list[str]:
    """A word for each lossy choice: a tiny decoder, a quantised cache with its bits, a clean pass that reads less, an option of
    `lossy=` by its file's name."""
    found = []
    if (identity.get("model") or {}).get("decoder") == "taehv":
        found.append(TINY)
    store = (identity.get("store") or {}).get("quantiser") or {}
    if store:
        found.append(f"{last(store, -1).lower()} {store.get('bits')}")
    if identity.get("commit_frames") is not None:
        found.append(f"commit {identity['commit_frames']}")
    if identity.get("lossy"):
        found.append(last(identity["lossy"], -2))
    return found


def last(part: Mapping[str, Any], which: int) -> str:
    """A piece of a part's class: its name (-1) or its file's (-2)."""
    return ("?." + str(part.get("class", "?"))).split(".")[which]


def mark(identity: Mapping[str, Any]) -> str:
    """The label's end; empty for what is exact."""
    words = marks(identity)
    return f" ({', '.join(words)})" if words else ""


def split(label: str) -> tuple[str, list[str]]:
    """A label's name, and the words of the mark that it ends with."""
    options = "|".join(map(re.escape, (TINY, *groups()["lossy"])))
    word = rf"(?:{options}|(?:{'|'.join(STORES)}) \d+|commit \d+)"
    found = re.fullmatch(rf"(.*) \(({word}(?:, {word})*)\)", label, re.S)
    return (found[1], found[2].split(", ")) if found else (label, [])
