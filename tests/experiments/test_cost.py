"""What a policy costs: known numbers in, known numbers out; times stand beside Self Forcing's of the same machine alone."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
from commands import Command

from deepforcing.identity import plain
from experiments.results.cost import costs, self_forcing
from experiments.results.runs import Run
from experiments.tables.cost import cost_table
from experiments.tables.layout import means
from experiments.tables.render import markdown
from experiments.tables.table import COST, Column

GEOMETRY = {"height": 480, "width": 832, "spatial_stride": 8, "patch": 2, "temporal_stride": 4}
FRAME = 1560  # tokens: (480 / 8 / 2) * (832 / 8 / 2)
MACHINE = {
    "machine": "0123456789ab",
    "device": "a card",
    "threads": 2,
    "git_commit": "c0ffee",
    "packages": {"torch": "2"},
}


def run(
    name: str,
    seconds: float,
    frames: float = 21,
    machine: dict[str, Any] | None = None,
    prompts: int = 2,
    **identity: Any,
) -> Run:
    """Its chunks read `frames` each, but for a first one of 3; each takes `seconds`, but for the first half's."""
    chunks = [{"denoise_s": 100.0, "tokens": 3 * FRAME}, *[{"denoise_s": 100.0, "tokens": frames * FRAME}] * 2]
    chunks += [{"denoise_s": seconds * 0.75, "commit_s": seconds * 0.25, "tokens": frames * FRAME}] * 3
    record = {"name": name, "geometry": GEOMETRY, "identity": {**self_forcing(), "model": {"name": "m"}, **identity}}
    samples = tuple(
        {
            "sample": f"{i}-s0",
            "prompt_id": str(i),
            "seed": 0,
            "frames": 93,
            "fps": 16,
            "chunk_frames": 3,
            "chunks": chunks,
        }
        | {"cache_bytes": 5_000_000, "environment": MACHINE if machine is None else machine}
        for i in range(prompts)
    )
    return Run(Path(f"{name}-00000000"), name, record, samples)


def sink(name: str, seconds: float, **more: Any) -> Run:
    return run(name, seconds, retention={**self_forcing()["retention"], "sink_frames": 10}, **more)


def of(runs: list[Run], metric: str) -> dict[str, list[float]]:
    table = costs(runs).table
    return {name: list(part["value"]) for name, part in table[table["metric"] == metric].groupby("run")}


def test_what_is_read_is_a_mean_over_chunks_in_frames_and_tokens() -> None:
    found = [run("a", 1.0)]
    mean = (3 + 5 * 21) / 6
    assert of(found, "kv_frames") == {"a-00000000": [pytest.approx(mean)] * 2}
    assert of(found, "kv_tokens") == {"a-00000000": [pytest.approx(mean * FRAME)] * 2}
    assert of(found, "kv_stored") == {"a-00000000": [5.0, 5.0]}


def test_a_time_is_a_multiple_of_self_forcings_whatever_runs_are_called() -> None:
    found = [sink("self_forcing", 3.0), run("something else", 2.0)]
    assert of(found, "chunk_time") == {"self_forcing-00000000": [1.5, 1.5], "something else-00000000": [1.0, 1.0]}
    assert not costs(found).no_time


@pytest.mark.parametrize(
    "other",
    [
        {"machine": "f" * 12},
        {"threads": 8},
        {"git_commit": "beef"},
        {"device": "another card"},
        {"packages": {"torch": "3"}},
    ],
)
def test_no_time_is_set_beside_one_of_another_machine(other: dict[str, Any]) -> None:
    found = [run("base", 2.0, machine=MACHINE | other), sink("deep", 3.0)]
    assert all(map(math.isnan, of(found, "chunk_time")["deep-00000000"]))
    assert of(found, "chunk_time")["base-00000000"] == [1.0, 1.0]
    assert "No chunk time of deep: no Self Forcing made by" in " ".join(cost_table(found).notes)


@pytest.mark.parametrize(
    "other", [{"dtype": "bfloat16"}, {"model": {"name": "larger"}}, {"model": {"name": "m", "decoder": "taehv"}}]
)
def test_no_time_is_set_beside_one_of_other_work(other: dict[str, Any]) -> None:
    assert all(map(math.isnan, of([run("base", 2.0), sink("deep", 3.0, **other)], "chunk_time")["deep-00000000"]))


def test_self_forcing_with_another_window_or_store_is_not_self_forcing() -> None:
    from deepforcing.cache.retention import SinkWindow

    for changed in ({"retention": plain(SinkWindow(9))}, {"commit_frames": 6}, {"store": {}}, {"chunk_frames": 1}):
        assert all(map(math.isnan, of([run("self_forcing", 2.0, **changed)], "chunk_time")["self_forcing-00000000"])), (
            changed
        )


def test_records_that_tell_nothing_leave_blanks_with_the_reason() -> None:
    old = run("old", 2.0, machine={"device": "a card"})
    for sample in old.samples:
        del sample["cache_bytes"]
    table = cost_table([old])
    shown = markdown(means(table)).splitlines()[-1]
    assert shown == f"| old | 2 | {18:.1f} | {18 * FRAME} | – | – |"
    assert "No chunk time of old: the records do not say on which machine." in table.notes
    assert not cost_table([Run(Path("folder"), "folder", {}, ())]).columns


def test_every_table_of_runs_says_what_they_cost(command: Command, tmp_path: Path) -> None:
    words = [
        "model=tiny",
        "seconds=3",
        "prompts=[a red disc starts at the left and circles clockwise on a slate background]",
    ]
    for cache in ("self_forcing", "deep_sink"):
        assert command("rollout", *words, f"cache={cache}", f"runs_root={tmp_path}/runs").status == 0
    assert command("evaluate", f"runs={tmp_path}/runs/*", "metrics=saturation").status == 0
    record = json.loads(next((tmp_path / "runs").glob("self_forcing-*/samples/*.json")).read_text())
    assert record["cache_bytes"] > 0
    for kind in ("markdown", "latex", "csv"):
        out = command("table", f"runs={tmp_path}/runs/*", "metrics=saturation", f"format={kind}").out
        titles = [c.metric for c in COST] if kind == "csv" else [Column(c.metric, "cost").title for c in COST]
        assert all(title in out for title in titles), kind
    status, out, _ = command("report", f"runs={tmp_path}/runs/*", f"out={tmp_path}/page.html", "ends=1")
    assert status == 0
    page = (tmp_path / "page.html").read_text()
    assert "KV" in out
    for text in (page, (tmp_path / "page.md").read_text()):
        assert all(Column(c.metric, "cost").title in text for c in COST)
    assert "kv_tokens" in (tmp_path / "page.csv").read_text().splitlines()[0]
