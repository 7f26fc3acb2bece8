"""Fixtures of sizes that nobody recorded before, made here by `released.record`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from released import record

from experiments.replay import main


def records(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


MADE = {
    "window12_sink4_cap9": {
        "window": 12,
        "sink": 4,
        "cap": 9,
        "recent": 4,
        "reuse": 7,
        "pc": True,
        "batch": 1,
        "frames": 36,
    },
    "window15_sink5_cap13_R5_batch2": {
        "window": 15,
        "sink": 5,
        "cap": 13,
        "recent": 5,
        "reuse": 7,
        "pc": True,
        "batch": 2,
        "frames": 42,
    },
    "window16_sink3_cap14_R7": {
        "window": 16,
        "sink": 3,
        "cap": 14,
        "recent": 7,
        "reuse": 7,
        "pc": True,
        "batch": 1,
        "frames": 42,
    },
    "window12_sink2_cap8_R3_reuse2": {
        "window": 12,
        "sink": 2,
        "cap": 8,
        "recent": 3,
        "reuse": 2,
        "pc": True,
        "batch": 2,
        "frames": 39,
    },
    "window12_sink0": {
        "window": 12,
        "sink": 0,
        "cap": 8,
        "recent": 4,
        "reuse": 7,
        "pc": True,
        "batch": 1,
        "frames": 30,
    },
    "window14_every_chunk": {
        "window": 14,
        "sink": 4,
        "cap": 13,
        "recent": 4,
        "reuse": 7,
        "pc": True,
        "batch": 1,
        "frames": 33,
    },
    "window12_no_top": {
        "window": 12,
        "sink": 4,
        "cap": 8,
        "recent": 4,
        "reuse": 7,
        "pc": True,
        "batch": 1,
        "frames": 30,
    },
    "sink_and_recent_above_the_budget": {
        "window": 13,
        "sink": 6,
        "cap": 8,
        "recent": 4,
        "reuse": 7,
        "pc": True,
        "batch": 2,
        "frames": 36,
    },
    "official_sink_only_sink18_no_past_tail": {
        "window": 21,
        "sink": 18,
        "cap": 21,
        "recent": 4,
        "reuse": 7,
        "pc": False,
        "batch": 1,
        "frames": 33,
    },
    "sink_only_window15_sink7": {
        "window": 15,
        "sink": 7,
        "cap": 16,
        "recent": 4,
        "reuse": 7,
        "pc": False,
        "batch": 2,
        "frames": 36,
    },
    "sink_only_window10_cap21": {
        "window": 10,
        "sink": 4,
        "cap": 21,
        "recent": 4,
        "reuse": 7,
        "pc": False,
        "batch": 1,
        "frames": 30,
    },
    "R_below_the_chunk": {
        "window": 12,
        "sink": 3,
        "cap": 9,
        "recent": 2,
        "reuse": 7,
        "pc": True,
        "batch": 2,
        "frames": 33,
    },
    "framewise_sink": {
        "window": 7,
        "sink": 2,
        "cap": 18,
        "recent": 4,
        "reuse": 7,
        "pc": False,
        "batch": 1,
        "frames": 14,
        "chunk": 1,
    },
    "framewise_pc": {
        "window": 9,
        "sink": 2,
        "cap": 7,
        "recent": 3,
        "reuse": 7,
        "pc": True,
        "batch": 2,
        "frames": 18,
        "chunk": 1,
    },
}
SIZES = [
    {"dim": 40, "heads": 2, "layers": 2, "latent": (4, 6)},  # head 20: pairs 4, 3, 3
    {"dim": 48, "heads": 3, "layers": 3, "latent": (2, 8)},  # head 16: pairs 4, 2, 2
]


@pytest.mark.parametrize("name", MADE)
def test_unseen_fixture_replays(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sizes = SIZES[list(MADE).index(name) % len(SIZES)]
    gap = record(tmp_path / name, **MADE[name], **sizes)  # type: ignore[arg-type]
    assert gap > 1e-4  # otherwise a selection could tip over in float32, and the test would say nothing
    status = main([f"golden={tmp_path / name}"])
    lines = records(capsys)
    assert status == 0, [r for r in lines if not r["ok"]][:4]
    if MADE[name]["pc"]:
        assert any("topc_selected" in str(r.get("tensor")) for r in lines)


def test_unseen_fixture_with_another_window_is_a_miss(tmp_path: Path) -> None:
    directory = tmp_path / "f"
    record(directory, **MADE["sink_only_window15_sink7"], **SIZES[0])  # type: ignore[arg-type]
    config = json.loads((directory / "config.json").read_text())
    config["options"]["local"] = 14
    (directory / "config.json").write_text(json.dumps(config))
    assert main([f"golden={directory}"]) == 1


def test_two_step_schedule_of_unseen_fixture(tmp_path: Path) -> None:
    record(
        tmp_path / "f",
        **MADE["window12_sink4_cap9"],  # type: ignore[arg-type]
        **SIZES[1],  # type: ignore[arg-type]
        steps=(1000, 400),
        timesteps=(1000.0, 769.230774),
        sigmas=(1.0, 0.769230774),
    )
    assert main([f"golden={tmp_path / 'f'}"]) == 0
