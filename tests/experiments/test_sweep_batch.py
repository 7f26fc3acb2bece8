"""The batch of a sweep's points on a GPU: the fastest of the table made on that card, where nothing else was said."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import composed
from omegaconf import DictConfig

from experiments.sweeps import batch
from experiments.sweeps.batch import fastest_first, with_batch

CARD = "NVIDIA H100"


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with that card, and a table on which 4 videos are fastest and 8 did not fit."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device=None: CARD)
    rates = {"1": 30.0, "2": 33.0, "4": 36.5}
    found: dict[str, Any] = {k: {"fps": v, "seconds_a_chunk": 1.0} for k, v in rates.items()} | {"8": "out of memory"}
    path = tmp_path / "gpu_table.json"
    path.write_text(json.dumps({"batches": found, "card": {"device": CARD}, "size": "full"}))
    return path


def point(*words: str) -> DictConfig:
    return composed("rollout", "device=cuda", *words)


def test_the_fastest_on_this_card_that_can_run(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert fastest_first(table, CARD) == [4, 2, 1]
    assert fastest_first(table, "NVIDIA A100") == fastest_first(table.with_name("none.json"), CARD) == []

    def fits_two(config: DictConfig) -> None:
        if config.batch > 2:
            raise ValueError("too large")

    monkeypatch.setattr(batch, "check_request", lambda config: None)
    assert with_batch(point(), (), table).batch == 4
    monkeypatch.setattr(batch, "check_request", fits_two)
    assert with_batch(point(), (), table).batch == 2
    assert with_batch(point("batch=8"), ("batch=8",), table).batch == 8
    assert with_batch(point("device=cpu"), (), table).batch == 1


def test_a_table_of_a_small_model_or_none_at_all(table: Path) -> None:
    whole = json.loads(table.read_text())
    table.write_text(json.dumps({**whole, "size": "toy"}))
    assert fastest_first(table, CARD) == []
    table.write_text(json.dumps([1]))
    with pytest.raises(ValueError, match="is no table of speeds: remove it"):
        fastest_first(table, CARD)
