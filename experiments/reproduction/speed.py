"""Seconds a chunk for a plan, as `experiments.bench` measured them: its own JSON, or a GPU's table."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from experiments.reproduction.plan import PAPER_MODEL

FULL = PAPER_MODEL  # the model of a GPU's table at its full size
TABLE = Path("reports/gpu_table/gpu_table.json")  # where `make gpu-table` leaves it
CHUNK = 12  # pixel frames of that table's chunks
ROW = ("vae", "plain")  # of that table: end to end with Wan's VAE, as a rollout runs unless told otherwise
LARGEST = 1 << 24  # bytes


@dataclass(frozen=True)
class BenchSpeed:
    """seconds: of one chunk, end to end, the slowest of what the file holds. source: what was measured, where, and the file."""

    seconds: float
    source: str


def speed_of(config: DictConfig, words: Sequence[str]) -> BenchSpeed | None:
    """What was typed, else what a file says; None: only finished videos can tell. words: of the model, its name first.

    Raises ValueError for a file of no use.
    """
    if config.seconds_per_chunk is not None:
        return BenchSpeed(float(config.seconds_per_chunk), "seconds_per_chunk=")
    model = words[0].removeprefix("model=")
    if config.speed is not None:
        return read_speed(Path(str(config.speed)), model)
    try:
        return read_speed(TABLE, model) if TABLE.is_file() else None
    except ValueError:  # a table of toy size, say: nobody asked for it
        return None


def read_speed(path: Path, model: str) -> BenchSpeed:
    """model: as conf/model/ calls it. Raises ValueError, naming the file, for what does not say how long that model takes."""
    wrong = f"speed={path}"
    try:
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except OSError as error:
        raise ValueError(f"{wrong} cannot be read: {error.strerror}") from None
    try:
        text = data.decode()
        told = [json.loads(text)] if text.startswith("{\n") else [json.loads(line) for line in text.splitlines()]
        found = [each for one in told for each in speeds(one)]
    except (ValueError, RecursionError, AttributeError, TypeError, KeyError):  # no JSON, or of another kind
        found = []
    if not found or len(data) > LARGEST:
        raise ValueError(
            f"{wrong} holds no speed: give what python -m experiments.bench printed (> bench.json), or gpu_table.json"
        )
    mine = [(seconds, what) for of, seconds, what in found if of == model]
    if not mine:
        raise ValueError(f"{wrong} is of model {', '.join(sorted({of for of, _, _ in found}))}, and this is {model}")
    seconds, what = max(mine)
    return BenchSpeed(seconds, f"{what}, by {path}")


def speeds(told: dict[str, Any]) -> list[tuple[str, float, str]]:
    """(model, seconds a chunk, what and where) of one object."""
    if "rows" in told:
        device = (told.get("card") or {}).get("device")
        rows = [row for row in told["rows"] if (row.get("row"), row.get("mode")) == ROW and row.get("median")]
        model = FULL if told.get("size") == "full" else f"size {told.get('size')}"
        return [(model, CHUNK / row["median"], f"{row['what']}, on {device}") for row in rows]
    seconds = (told.get("seconds_per_chunk") or {}).get("end_to_end")
    if not isinstance(seconds, float) or not seconds > 0:
        return []
    return [(str(told.get("model")), seconds, f"{told.get('cache')}, end to end, on {told.get('device')}")]
