"""Tables of scores that were edited, cut off or made to mislead: every reader goes through or refuses in one line."""

from __future__ import annotations

import itertools
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Command
from record_edits import edited
from record_readers import outcome, readers

from eval import score_files, store
from eval.store import add_rows
from experiments.results.runs import read_runs
from experiments.results.scores import read_scores
from experiments.table import find_sources, read_comparison
from experiments.tables.vbench import as_markdown


@pytest.fixture
def run(scored: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(scored, tmp_path / "runs" / scored.name))


def edited_tables(good: pa.Table, path: Path) -> Iterator[str]:
    """Writes what may have become of a table of scores to `path`, and says what was done."""
    content = path.read_bytes()
    for length in (0, 4, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:length])
        yield f"cut at {length}"
    path.write_bytes(content[: len(content) // 2] + bytes(64) + content[len(content) // 2 + 64 :])
    yield "damaged in the middle"
    for kind in (b"2", b"", b"x"):
        pq.write_table(good.replace_schema_metadata({b"deepforcing_scores": kind}), path)
        yield f"schema {kind!r}"
    pq.write_table(good.slice(0, 0), path)
    yield "without rows"
    pq.write_table(pa.concat_tables([good, good]), path)
    yield "every row twice"
    for index, name in enumerate(good.column_names):
        pq.write_table(good.drop_columns([name]), path)
        yield f"{name} dropped"
        for value in (
            None,
            "x",
            "",
            "\x1b[2J",
            0,
            0.0,
            -1.0,
            -1,
            1e300,
            2**62,
            float("nan"),
            float("inf"),
            True,
            [1.0],
            b"x",
            "x" * 2000,
        ):
            column = pa.array([value] * len(good), from_pandas=False)
            pq.write_table(good.set_column(index, name, column), path)
            yield f"{name} = {str(value)[:20]!r} of {column.type}"


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_scores_of_a_run(run: Path, tmp_path: Path, every: int) -> None:
    """Refused, or as if nothing had been scored; never other numbers."""
    (file,) = (run / "scores").glob("*.parquet")
    good, values = pq.read_table(file), pd.read_parquet(file)["value"].tolist()
    chosen, found = readers(run, tmp_path), []
    for number, what in enumerate(edited_tables(good, file)):
        if number % every:
            continue
        for name in (
            ("table", "evaluate") if number % (4 * every) else ("table", "track", "report", "evaluate", "filmstrip")
        ):
            said = outcome(chosen[name], file)
            if "windows" in said or "not scored" in said or "no scores" in said:
                said = ""  # of all that there is nothing else to be said
            if said.startswith("!"):
                found.append(f"{what}: {name}: {said}")
        if not outcome(lambda: read_scores(read_runs([run]), 2.0).table, file):
            kept = read_scores(read_runs([run]), 2.0).table
            if len(kept) and kept["value"].tolist() != values and not what.startswith("value"):
                found.append(f"{what}: other numbers")
    assert not found, "\n".join(found[:20])


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 12])
def test_scores_that_wait_beside_a_table(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    """Lines of JSON, as a large table has them beside it. Only what is cut off at the end counts for nothing."""
    (table,) = (run / "scores").glob("*.parquet")
    rows = score_files.read_scores(table, store.COLUMNS + store.KEYS)
    monkeypatch.setattr(store, "SMALL", -1)
    monkeypatch.setattr(store, "LINE_BYTES", 10**9)
    add_rows(table, rows)
    lines = table.with_suffix(".jsonl")
    record, found = json.loads(lines.read_text()), []
    monkeypatch.undo()
    assert len(read_scores(read_runs([run]), 2.0).table) == len(rows)
    for what, text in itertools.islice(edited(record), 0, None, every):
        lines.write_text(text + "\n", errors="surrogatepass")
        said = outcome(lambda: read_scores(read_runs([run]), 2.0), lines)
        found += [f"{what}: {said}"] if said.startswith("!") else []
        if not said and not what.startswith(("columns.value", "columns.frames", "columns.run", "columns.sample")):
            kept = read_scores(read_runs([run]), 2.0).table["value"].tolist()
            found += [f"{what}: other numbers"] if kept and kept != rows["value"].tolist() else []
    bomb = {
        **record,
        "rows": 1000,
        "columns": {name: each[0] if isinstance(each, list) else each for name, each in record["columns"].items()},
    }
    lines.write_text(f"{json.dumps(bomb)}\n" * 3)
    assert score_files.MOST_WAITING <= 10**6
    monkeypatch.setattr(score_files, "MOST_WAITING", 2000)
    assert "has more than 2000 rows" in outcome(lambda: read_scores(read_runs([run]), 2.0), lines)
    assert not found, "\n".join(found[:20])


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 9])
def test_scored_folders(run: Path, tmp_path: Path, command: Command, every: int) -> None:
    out = tmp_path / "out"
    status, _, err = command(
        "evaluate", f"videos={run / 'samples'}", f"out={out}", "metrics=saturation", "window_seconds=2"
    )
    assert (status, err) == (0, "")
    found = []

    def table() -> None:
        as_markdown(read_comparison(find_sources([], [str(out)]), "all", None, window_seconds=2.0))

    assert outcome(table, out) == ""
    file = out / "scores.parquet"
    good, content = pq.read_table(file), file.read_bytes()
    for what in itertools.islice(edited_tables(good, file), 0, None, every):
        said = outcome(table, file)
        found += [f"{what}: {said}"] if said.startswith("!") and "names no file" not in said else []
    file.write_bytes(content)
    file = out / "summary.json"
    for what, text in itertools.islice(edited(json.loads(file.read_text())), 0, None, every):
        file.write_text(text)
        said = outcome(table, file)
        found += [f"{what}: {said}"] if said.startswith("!") else []
    assert not found, "\n".join(found[:20])


def test_files_of_scores_that_say_two_things(run: Path) -> None:
    (file,) = (run / "scores").glob("*.parquet")
    for name, words in (
        ("other@1.parquet", "scores of saturation are in two files"),
        ("saturation@2.parquet", "scores of another version than its name says"),
        ("saturation@²." + "parquet", "is not named <metric>@<version>.parquet"),
        ("saturation@99999999999999999999.parquet", "is not named <metric>@<version>.parquet"),
    ):
        twin = file.with_name(name)
        twin.write_bytes(file.read_bytes())
        said = outcome(lambda: read_scores(read_runs([run]), 2.0), run)
        assert words in said
        assert not said.startswith("!")
        twin.unlink()


def test_a_table_that_unpacks_without_end_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kilobytes of one value: rows are counted before anything is unpacked, and what is unpacked is weighed as it comes."""
    assert score_files.MOST_ROWS <= 10**7
    assert score_files.MOST_BYTES <= 2**30
    monkeypatch.setattr(score_files, "MOST_ROWS", 500_000)
    monkeypatch.setattr(score_files, "MOST_BYTES", 20_000_000)
    path = tmp_path / "saturation@1.parquet"
    pq.write_table(
        pa.table({name: pa.array(["x"] * 600_000) for name in ("sample", "metric")}), path, compression="zstd"
    )
    assert path.stat().st_size < 10_000
    with pytest.raises(ValueError, match="it has 600000 rows, more than any scores"):
        score_files.read_scores(path, ["sample", "metric"])
    part = pa.table({"sample": pa.array(["x" * 1_000_000])})
    with pq.ParquetWriter(path, part.schema, compression="zstd", use_dictionary=False) as writer:
        for _ in range(40):
            writer.write_table(part)
    assert path.stat().st_size < 100_000
    with pytest.raises(ValueError, match="it unpacks to more than any scores"):
        score_files.read_scores(path, ["sample"])
