"""The scores on disk: linear however many videos there are, whole whatever is killed, everybody's rows kept."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import eval.store
from eval.protocol import Protocol
from eval.score_files import rows_in
from eval.store import COLUMNS, KEYS, add_rows, read_rows, scored, scores_path, settle

ONE = Protocol(window_seconds=2.0)


def rows_of(
    sample: str, windows: int = 3, value: float = 0.5, weights: str = "", protocol: str = "windows"
) -> pd.DataFrame:
    start = np.arange(windows) * 2.0
    length = 2.0 if protocol == "windows" else 0.0
    told = {"run": "run", "sample": sample, "metric": "m", "version": 1, "protocol": protocol, "t_start": start}
    told |= {"t_end": start + 2, "value": value, "video_sha256": f"{sample:0>64}", "weights_sha256": weights}
    told |= {"prompt_sha256": "", "window_seconds": length, "frames": 32}
    return pd.DataFrame(told)[COLUMNS + KEYS]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return scores_path(tmp_path, "m", 1)


@pytest.fixture
def lines(path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where rows wait; a table is never small, and holds one video."""
    monkeypatch.setattr(eval.store, "SMALL", 0)
    add_rows(path, rows_of("first"))
    monkeypatch.setattr(eval.store, "LINE_BYTES", 10**6)
    return path.with_suffix(".jsonl")


@pytest.mark.parametrize(("windows", "protocol"), [(30, "windows"), (1, "vbench")])
def test_what_is_written_grows_with_the_videos_and_not_with_their_square(
    path: Path, monkeypatch: pytest.MonkeyPatch, windows: int, protocol: str
) -> None:
    monkeypatch.setattr(eval.store, "SMALL", 20)
    monkeypatch.setattr(os, "fsync", lambda _: None)
    written: list[int] = []
    replace = os.replace

    def counted(source: Path, target: Path) -> None:
        written.append(rows_in(Path(source)))
        replace(source, target)

    monkeypatch.setattr(os, "replace", counted)
    for number in range(200):
        add_rows(path, rows_of(f"v{number}", windows, number / 200, protocol=protocol))
    settle(path)
    assert sum(written) < 15 * 200 * windows  # 100 * 200 * windows, were it written again every time
    rows = read_rows(path)
    assert len(rows) == 200 * windows
    assert rows.groupby("sample")["value"].first()["v199"] == 199 / 200
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", "m@1.parquet"]


def test_rows_that_wait_are_read_and_take_the_place_of_earlier_ones(path: Path, lines: Path) -> None:
    add_rows(path, rows_of("second", value=float("nan")))
    add_rows(path, rows_of("first", windows=2, value=0.25, weights="w"))
    add_rows(path, rows_of("first", windows=1, protocol="vbench"))
    assert lines.exists()
    before = read_rows(path)
    expected = {("first", "windows"): 2, ("second", "windows"): 3, ("first", "vbench"): 1}
    assert before.groupby(["sample", "protocol"]).size().to_dict() == expected
    assert before[before["sample"] == "second"]["value"].isna().all()
    assert scored(path, ONE, "w") == {("first", f"{'first':0>64}", "")}
    settle(path)
    assert not lines.exists()
    after = read_rows(path)
    sort = ["sample", "protocol", "t_start"]
    pd.testing.assert_frame_equal(
        before.sort_values(sort, ignore_index=True), after.sort_values(sort, ignore_index=True), check_dtype=False
    )


def test_a_line_that_was_cut_off_counts_for_nothing_and_the_next_one_takes_its_place(path: Path, lines: Path) -> None:
    add_rows(path, rows_of("second"))
    whole = lines.read_bytes()
    for cut in (1, len(whole) // 2, len(whole) - 1):
        lines.write_bytes(whole + whole[:cut])
        assert set(read_rows(path)["sample"]) == {"first", "second"}
        add_rows(path, rows_of("third"))
        assert set(read_rows(path)["sample"]) == {"first", "second", "third"}
        lines.write_bytes(whole[:cut])
        assert set(read_rows(path)["sample"]) == {"first"}


def test_a_kill_between_the_table_and_its_lines_doubles_nothing(path: Path, lines: Path) -> None:
    add_rows(path, rows_of("second"))
    kept = lines.read_bytes()
    settle(path)
    lines.write_bytes(kept)
    assert len(read_rows(path)) == 6
    settle(path)
    assert len(read_rows(path)) == 6
    assert not lines.exists()


def test_tables_of_earlier_versions_are_read_and_added_to(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path.parent.mkdir()
    old = rows_of("first").drop(columns=["protocol", "weights_sha256", "prompt_sha256", "frames"])
    old.to_parquet(path, index=False)
    for small in (500, 0):
        monkeypatch.setattr(eval.store, "SMALL", small)
        add_rows(path, rows_of(f"after {small}"))
        assert len(read_rows(path)) == 6 if small else 9
    assert scored(path, ONE, "") >= {("first", f"{'first':0>64}", "")}


def test_a_full_disk_names_the_table_and_loses_nothing(
    path: Path, lines: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_rows(path, rows_of("second"))
    kept = lines.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    for call in (lambda: add_rows(path, rows_of("third")), lambda: settle(path)):
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", full)
            with pytest.raises(OSError, match="No space left") as error:
                call()
        assert error.value.filename == str(path)
        assert lines.read_bytes() == kept
        assert set(read_rows(path)["sample"]) == {"first", "second"}
    assert sorted(file.name for file in path.parent.iterdir()) == [".lock", "m@1.jsonl", "m@1.parquet"]


@pytest.mark.parametrize(
    "line",
    [
        "{}",
        "[]",
        "nothing",
        '{"schema": 2, "rows": 1, "columns": {}}',
        '{"schema": 1, "rows": 1, "columns": {}}',
        "[" * 100_000,
        {"value": "0.5"},
        {"value": True},
        {"value": [[1]] * 3},
        {"value": [1, 2]},
        {"value": 1e300},
        {"value": float("inf")},
        {"version": 2},
        {"version": 10**400},
        {"version": 1.5},
        {"sample": None},
        {"sample": "\x1b[31m"},
        {"sample": ["a", 3, "c"]},
        {"t_start": 9.0},
        {"t_end": None},
        {"more": 1},
    ],
)
def test_lines_that_are_no_scores_are_refused_by_name(path: Path, lines: Path, line: object) -> None:
    add_rows(path, rows_of("second"))
    if isinstance(line, dict):
        told = json.loads(lines.read_text())
        told["columns"] |= line
        line = json.dumps(told)
    lines.write_text(f"{line}\n")
    with pytest.raises(ValueError, match="m@1") as error:
        read_rows(path)
    assert "delete it and evaluate again" in str(error.value)
    assert len(str(error.value)) < 500


def test_damage_to_any_byte_is_one_line_or_no_harm(path: Path, lines: Path) -> None:
    add_rows(path, rows_of("second"))
    add_rows(path, rows_of("third"))
    whole = lines.read_bytes()
    chance = random.Random(0)
    told: list[str] = []
    for _ in range(150):
        data = bytearray(whole)
        data[chance.randrange(len(data))] = chance.randrange(256)
        lines.write_bytes(data)
        try:
            found = read_rows(path)
        except ValueError as error:
            told.append(str(error))
        else:
            assert "first" in set(found["sample"])
    assert 50 < len(told) < 150
    assert all(str(path.parent) in line and "\n" not in line for line in told)


def test_a_file_of_lines_that_leads_elsewhere_is_not_written_to(path: Path, lines: Path, tmp_path: Path) -> None:
    other = tmp_path.parent / f"{tmp_path.name}-other"
    other.write_text("somebody's\n")
    lines.symlink_to(other)
    for call in (lambda: add_rows(path, rows_of("second")), lambda: read_rows(path)):
        with pytest.raises(ValueError, match="leads out of"):
            call()
    assert other.read_text() == "somebody's\n"


def test_threads_and_readers_at_once(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every row that was added is there for every reader from then on, whatever goes into the table meanwhile."""
    monkeypatch.setattr(eval.store, "SMALL", 0)
    add_rows(path, rows_of("first"))
    monkeypatch.setattr(eval.store, "LINE_BYTES", 100)
    done: list[str] = []
    wrong: list[str] = []

    def write(writer: int) -> None:
        for number in range(12):
            add_rows(path, rows_of(f"{writer}-{number}"))
            done.append(f"{writer}-{number}")

    def read() -> None:
        while len(done) < 36:
            known = set(done)
            found = read_rows(path)["sample"]
            if not known <= set(found) or not (found.value_counts() == 3).all():
                wrong.append(str(known - set(found)))

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(3)] + [threading.Thread(target=read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert len(read_rows(path)) == 3 * 37


WRITER = """
import sys
sys.path[:0] = [sys.argv[1], sys.argv[2]]
import eval.store
from test_store import rows_of
eval.store.SMALL = 0
path = eval.store.scores_path(__import__("pathlib").Path(sys.argv[3]), "m", 1)
for number in range(10**6):
    eval.store.add_rows(path, rows_of(f"{sys.argv[4]}-{number}"))
    print(number, flush=True)
"""


def killed_writers(tmp_path: Path, rounds: int) -> Iterator[tuple[str, int]]:
    """Two processes that write at once are killed at any moment; what each of them had said to be written."""
    root, here = Path(eval.store.__file__).parents[1], Path(__file__).parent
    for turn in range(rounds):
        names = [f"{turn}{which}" for which in "ab"]
        running = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(root), str(here), str(tmp_path), name],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in names
        ]
        for process in running:
            assert process.stdout is not None
            process.stdout.readline()
        time.sleep(0.1 + 0.05 * turn)
        for name, process in zip(names, running, strict=True):
            process.send_signal(signal.SIGKILL)
            said = [*map(int, process.communicate()[0].split())]
            yield name, max(said, default=0)


@pytest.mark.slow
def test_two_killed_processes_lose_the_row_in_hand_at_most(tmp_path: Path, path: Path) -> None:
    for name, last in killed_writers(tmp_path, 4):
        found = read_rows(path)
        of_writer = found[found["sample"].str.startswith(f"{name}-")].groupby("sample").size()
        assert (of_writer == 3).all()
        assert last + 1 <= len(of_writer) <= last + 2
