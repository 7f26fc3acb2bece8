"""How many videos of a sweep share a pass where nobody said: what `make gpu-table` found fastest on this card."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from omegaconf import DictConfig

from experiments.reproduction.speed import TABLE
from experiments.request import check_request


def fastest_first(table: Path, card: str) -> list[int]:
    """Batches by their frame rate on that card, the best first; none where it was not measured, or another card was.

    Raises ValueError for a file that is no such table."""
    if not table.is_file():
        return []
    try:
        found = json.loads(table.read_text(encoding="utf-8"))
        rates = {int(batch): of["fps"] for batch, of in found["batches"].items() if isinstance(of, dict)}
        same = found["card"]["device"] == card and found["size"] == "full"
        return sorted(rates, key=lambda batch: -float(rates[batch])) if same else []
    except (ValueError, TypeError, KeyError, AttributeError):
        raise ValueError(f"{table} is no table of speeds: remove it, or make it again by make gpu-table") from None


def with_batch(point: DictConfig, words: tuple[str, ...], table: Path = TABLE) -> DictConfig:
    """A point's rollout with the fastest batch that it can have on its GPU; as it is on a CPU, or where its words say one."""
    device = str(point.device)
    if any(word.startswith("batch=") for word in words) or device == "cpu" or not torch.cuda.is_available():
        return point
    card = torch.cuda.get_device_name(None if device == "auto" else torch.device(device))
    for batch in fastest_first(table, card):
        point.batch = batch
        try:
            check_request(point)
        except ValueError:  # its noise, or the memory that is free, is for fewer
            point.batch = 1
        else:
            break
    return point
