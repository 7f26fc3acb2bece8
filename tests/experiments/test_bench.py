"""The bench prints what it promises, for models with and without a decoder, and memory does not grow with the video."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from commands import Command, Outcome

SMALL = [
    "model=bench",
    *(f"model.config.{k}={v}" for k, v in {"dim": 32, "ffn_dim": 48, "freq_dim": 16, "num_heads": 2}.items()),
    *(f"model.config.{k}={v}" for k, v in {"num_layers": 2, "text_dim": 8, "text_len": 4}.items()),
    *(f"model.geometry.{k}=32" for k in ("height", "width")),
]
PARTS = ("denoise", "commit", "decode", "write", "end_to_end")


def records(outcome: Outcome) -> list[dict[str, Any]]:
    assert (outcome.status, outcome.err) == (0, "")
    return [json.loads(line) for line in outcome.out.splitlines()]


def check(record: dict[str, Any], decodes: bool) -> None:
    seconds, fps = record["seconds_per_chunk"], record["fps"]
    assert set(seconds) == set(fps) == set(PARTS)
    for part in PARTS:
        if part in ("decode", "write") and not decodes:
            assert seconds[part] is fps[part] is None
        else:
            assert seconds[part] > 0
            assert fps[part] == pytest.approx(12 / seconds[part], rel=0.02)  # a chunk is 12 pixel frames
    parts = sum(seconds[p] or 0 for p in PARTS[:4])
    assert 0.1 < parts / seconds["end_to_end"] < 1.5  # medians of each do not add up; others use the machine too
    assert record["peak_memory_bytes"] > 1e6
    assert record["device"] == "cpu"
    assert record["dtype"] == "float32"
    assert record["threads"] >= 1


def test_bench_of_random_weights(command: Command) -> None:
    window = ["cache.retention.window_frames=6", "cache=deep_sink", "cache.retention.sink_frames=2"]
    (record,) = records(command("bench", *SMALL, *window, "chunks=3", "repeats=2"))
    check(record, decodes=False)
    assert (record["model"], record["cache"]) == ("bench", "deep_sink")
    assert record["tokens_attended"] == [6 * 4]  # the window is full: 6 frames of 2 x 2 tokens
    assert record["chunks_timed"] == 6


def test_bench_from_the_start_sees_the_window_grow(command: Command) -> None:
    (record,) = records(command("bench", *SMALL, "cache.retention.window_frames=9", "from_start=15"))
    assert record["tokens_attended"] == [3 * 4, 6 * 4, 9 * 4]
    assert (record["chunks_timed"], record["latent_frames"]) == (5, 15)


def test_bench_of_the_tiny_model_decodes_and_writes(command: Command, checkpoint: Path) -> None:
    size = ["cache.retention.window_frames=6", "chunks=2"]
    (record,) = records(command("bench", "model=tiny", f"model.checkpoint={checkpoint}", *size))
    check(record, decodes=True)


def test_bench_by_length(command: Command) -> None:
    found = records(command("bench", *SMALL, "lengths=[2,6]", "cache.retention.window_frames=6"))
    assert [record["video_seconds"] for record in found] == [2.06, 5.81]
    for record in found:
        check(record, decodes=False)
        assert record["memory_bytes"] > 1e6
        assert record["wall_seconds"] > 0
    (single,) = records(command("bench", *SMALL, "lengths=2", "cache.retention.window_frames=6"))
    assert single["video_seconds"] == 2.06


def test_length_flag_is_a_key(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("experiments.bench.DEFAULT_LENGTHS", "lengths=[2]")
    assert len(records(command("bench", "--lengths", *SMALL))) == 1


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["self_forcing", "deep_forcing"])
def test_memory_and_cost_do_not_grow_with_the_length(cache: str, command: Command, checkpoint: Path) -> None:
    tiny = ["model=tiny", f"model.checkpoint={checkpoint}", f"cache={cache}", "chunks=16"]
    warm, short, long = records(command("bench", *tiny, "lengths=[6,6,60]"))
    assert long["memory_bytes"] < 1.05 * short["memory_bytes"]
    assert max(long["tokens_attended"]) <= max(short["tokens_attended"])
    assert warm["video_seconds"] == short["video_seconds"]
