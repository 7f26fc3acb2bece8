"""Records that were edited, cut off or made to mislead: every command goes through or refuses in one line with the file."""

from __future__ import annotations

import contextlib
import itertools
import json
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from commands import Command
from record_edits import edited
from report_runs import draw

from deepforcing.runs import RunDir
from eval import score_files, store
from eval.metrics import WEIGHT_FREE
from eval.protocol import Protocol
from eval.score import score
from eval.store import add_rows
from eval.videos import open_run
from experiments.figures.figure import drawn, save
from experiments.figures.filmstrip import Filmstrip
from experiments.reproduce import speeds
from experiments.results.runs import read_runs
from experiments.results.scores import read_scores
from experiments.table import find_sources, read_comparison
from experiments.tables.vbench import as_latex, as_markdown
from experiments.tracking import choose_videos, payload
from experiments.weights import Request, show

SATURATION = [metric for metric in WEIGHT_FREE if metric.name == "saturation"]
Readers = dict[str, Callable[[], object]]


def readers(run: Path, out: Path) -> Readers:
    """What each command does with a run directory, without its command line."""

    def evaluate() -> None:
        group = open_run(run)
        found = score(group, SATURATION, Protocol("windows", 2.0))
        if group.problems:
            raise ValueError("; ".join(found.problems))

    def track() -> None:
        (one,) = read_runs([run])
        payload(one, read_scores([one], 2.0).table.query(f"run == {one.name!r}"))
        choose_videos(one, 2)

    def table() -> None:
        found = read_comparison(find_sources([str(run)], []), "all", None, window_seconds=2.0)
        as_markdown(found), as_latex(found)

    film = Filmstrip(0, 2, "saturation")
    return {
        "rollout": lambda: RunDir.open(run).completed(),
        "evaluate": evaluate,
        "report": lambda: draw(out / "page.html", run, window_seconds=2.0),
        "table": table,
        "track": track,
        "reproduce": lambda: speeds(run, {sample["sample"] for sample in read_runs([run])[0].samples}),
        "filmstrip": lambda: save(drawn(film, film.read([run])), out / "film.png"),
    }


def outcome(read: Callable[[], object], file: Path) -> str:
    """ "" if it went through; the refusal; a fault of ours as "!..."."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", RuntimeWarning)
            read()
    except ValueError as error:
        text = str(error)
        if type(error) is not ValueError and not type(error).__name__.startswith("Damaged"):
            return f"! {type(error).__name__}: {text}"
        if "\n" in text or len(text) > 700:
            return f"! {len(text)} letters, {text.count(chr(10))} breaks: {text[:200]}"
        return text if file.name in text or file.stem in text else f"! names no file: {text}"
    except Exception as error:
        return f"! {type(error).__name__}: {str(error)[:200]}"
    return ""


@pytest.fixture
def run(make: Command, command: Command, tmp_path: Path) -> Path:
    """A run as `rollout` and `evaluate` write it: one video, scored."""
    assert make("seconds=3").status == 0
    (run,) = (tmp_path / "runs").iterdir()
    status, _, err = command("evaluate", f"runs={run}", "metrics=saturation", "window_seconds=2")
    assert (status, err) == (0, "")
    return run


def test_all_readers_read_what_was_written(run: Path, tmp_path: Path) -> None:
    for name, read in readers(run, tmp_path).items():
        assert outcome(read, run) == "", name


def faults(run: Path, file: Path, texts: Iterator[tuple[str, str]], out: Path, every: int) -> list[str]:
    """Each edit through the readers of records, every n-th of those that are accepted through all commands."""
    good, found, accepted = file.read_bytes(), [], 0
    chosen = readers(run, out)
    for what, text in texts:
        file.write_text(text)
        quick = outcome(chosen["reproduce"], file)
        found += [f"{what}: {quick}"] if quick.startswith("!") else []
        accepted += quick == ""
        for name in ("rollout", "evaluate") if quick else chosen if accepted % every == 0 else ():
            said = outcome(chosen[name], file)
            cut_off = "is not readable JSON" in quick or "is not a JSON object" in quick
            healed = name == "rollout" and file.parent != run and cut_off  # such a sample counts as not finished
            if said.startswith("!") or (quick and not said and not healed):
                found.append(f"{what}: {name}: {said or 'accepted'}")
    file.write_bytes(good)
    return found


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 12])
def test_records_of_a_run(run: Path, tmp_path: Path, every: int) -> None:
    (sample,) = (run / "samples").glob("*.json")
    for file in (run / "run.json", sample):
        texts = itertools.islice(edited(json.loads(file.read_text())), 0, None, every)
        found = faults(run, file, texts, tmp_path, 6 * every)
        assert not found, "\n".join(found[:20])


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


def test_what_acts_on_a_terminal_is_written_out_in_errors(run: Path, command: Command) -> None:
    (run / "samples" / "a\x1b[2J.json").write_text("{")
    status, _, err = command("report", f"runs={run}")
    assert (status, err.count("\n")) == (2, 1)
    assert "a\\x1b[2J.json is not readable JSON" in err


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


def test_nothing_is_written_through_links_of_a_run(run: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("keep me")
    (scores,) = (run / "scores").glob("*.parquet")
    rows = pd.read_parquet(scores)
    for link in (run / "scores" / ".lock", run / "scores" / f".{scores.name}.part", run / "samples" / ".a.lock"):
        link.unlink(missing_ok=True)
        link.symlink_to(precious)
        with contextlib.suppress(ValueError, OSError):
            add_rows(scores, rows)
        with contextlib.suppress(ValueError, OSError), RunDir(run).claim("a"):
            pass
        assert precious.read_text() == "keep me"
        link.unlink(missing_ok=True)
    scores.rename(tmp_path / scores.name)
    scores.symlink_to(tmp_path / scores.name)
    with pytest.raises(ValueError, match="leads out of its run directory"):
        read_scores(read_runs([run]), 2.0)
    assert not (tmp_path / ".lock").exists()


@pytest.mark.parametrize("every", [pytest.param(1, marks=pytest.mark.slow), 5])
def test_manifests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every: int) -> None:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path))
    entry = {
        "repo": "gdhe17/Self-Forcing",
        "path": "checkpoints/x.pt",
        "sha256": "ab" * 32,
        "bytes": 5,
        "revision": "abc",
    }
    kinds: list[tuple[Path, dict[str, Any], Callable[[], object]]] = [
        (
            tmp_path / "manifest.json",
            {"schema": 1, "Self-Forcing/x.pt": entry},
            lambda: show(Request(["causvid"], root=tmp_path)),
        ),
        (tmp_path / "metrics.json", {"schema": 1, "raft": "ab" * 32}, lambda: show(Request(["metrics"]))),
    ]
    found = []
    for file, record, read in kinds:
        file.write_text(json.dumps(record))
        assert outcome(read, file) == ""
        for what, text in itertools.islice(edited(record), 0, None, every):
            file.write_text(text)
            said = outcome(read, file)
            found += [f"{what}: {said}"] if said.startswith("!") else []
            refused = "remove it to record everything anew" in said
            found += [f"{what}: accepted"] if what.startswith(("cut", "schema = ", "is [")) and not refused else []
        file.unlink()
    assert not found, "\n".join(found[:20])


def test_edits_through_the_command_line(run: Path, tmp_path: Path, command: Command) -> None:
    (sample,) = (run / "samples").glob("*.json")
    edits: dict[Path, dict[str, Any]] = {run / "run.json": {"schema": 2}, sample: {"video": "../../x.mp4"}}
    for file, change in edits.items():
        good = file.read_text()
        file.write_text(json.dumps({**json.loads(good), **change}))
        for name, more in (
            ("evaluate", ()), ("report", (f"out={tmp_path / 'x.html'}",)), ("track", (f"dir={tmp_path / 'wandb'}",)),
            ("figure", ("figure=filmstrip", f"out={tmp_path / 'x.png'}")),
        ):  # fmt: skip
            status, _, err = command(name, f"runs={run}", *more)
            assert status in (1, 2), (name, change)
            assert err.count("\n") == 1
            assert str(file) in err
        file.write_text(good)
    assert not (tmp_path / "x.html").exists()
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match=r"manifest\.json is not a JSON object; remove it to record everything anew"):
        show(Request(["causvid"], root=tmp_path))
