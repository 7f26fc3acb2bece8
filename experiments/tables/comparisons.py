"""From run directories and scored folders to one comparison, and from it to a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from deepforcing.runs import atomic_path, atomic_write_text
from eval.stats.drift import NUMBERS, OF_THE_END
from eval.store import other_weights
from experiments.command.words import is_list, shown
from experiments.results.runs import Run, find_runs
from experiments.results.scores import read_scores
from experiments.results.sources import read_sources
from experiments.tables.table import Table
from experiments.tables.text import csv_text
from experiments.tables.vbench import as_latex, as_markdown, choose_metrics, choose_protocol, flat, of_runs

ENDINGS = {".md": "markdown", ".tex": "latex", ".csv": "csv", ".parquet": "parquet"}


def choose_format(wanted: object, out: Path | None) -> str:
    """The format asked for, or that of the file's ending, Markdown for the terminal. Raises ValueError."""
    kind = ENDINGS.get(out.suffix if out else ".md") if wanted is None else str(wanted)
    if kind not in ENDINGS.values():
        what = f"format={wanted}" if wanted is not None else f"out={out} without a format"
        raise ValueError(f"{what}: use {', '.join(ENDINGS.values())}, or a file that ends in {', '.join(ENDINGS)}")
    if kind == "parquet" and out is None:
        raise ValueError("format=parquet is no text: say out=FILE.parquet")
    return str(kind)


def choose_number(wanted: object) -> str:
    if wanted not in NUMBERS:
        raise ValueError(f"number={shown(wanted)}: choose among {', '.join(NUMBERS)}")
    return str(wanted)


def words(value: Any) -> list[str]:
    if value is None:
        return []
    return [str(item) for item in value] if is_list(value) else [str(value)]


def find_sources(patterns: list[str], folders: list[str]) -> list[Run]:
    """Run directories, then exported and scored folders. Raises ValueError if there are none, or two of one name."""
    return read_sources([*(find_runs(patterns) if patterns or not folders else []), *map(Path, folders)])


def find_baseline(runs: list[Run], wanted: str | None) -> str | None:
    """Directory name of the run with this label, name or directory name. Raises ValueError, naming the choices."""
    if wanted is None:
        return None
    for of in ([run.name for run in runs], [run.label for run in runs], [run.record.get("name") for run in runs]):
        found = [run.name for run, name in zip(runs, of, strict=True) if name == wanted]
        if len(found) == 1:
            return found[0]
    raise ValueError(f"baseline={wanted} is not one of the runs: {', '.join(run.label for run in runs)}")


def read_comparison(
    runs: list[Run],
    metrics: str | list[str],
    baseline: str | None,
    protocol: str | None = None,
    common: bool = True,
    window_seconds: float | None = None,
    number: str = "mean",
    ends: float = 5.0,
) -> Table:
    """From the runs' scores to the comparison; see conf/table.yaml for the arguments. Raises ValueError in one line."""
    base = find_baseline(runs, baseline)
    scores = read_scores(runs, window_seconds)
    protocol = choose_protocol(scores, protocol)
    table = scores.table[scores.table["protocol"] == protocol]
    if protocol == "windows" and scores.other:
        raise ValueError(scores.other[0])
    names = choose_metrics(metrics, sorted(set(table["metric"])), protocol)
    if other := other_weights(table[table["metric"].isin(names)]):
        raise ValueError(f"{other[0]}, or leave it out of metrics=[...]")
    if number != "mean" and protocol in ("vbench", "vbench_last"):
        raise ValueError(
            f"number={number} needs several scores of a video; {protocol} has one: protocol=windows has more"
        )
    found = of_runs(table, runs, names, base, common, number, ends)
    longest = float(table.groupby(["run", "sample"])["t_end"].max().max())
    if number in ("first", *OF_THE_END) and longest < 2 * ends:
        raise ValueError(
            f"videos of {longest:.3g} s have no first and last {ends:g} s beside each other: say ends={longest / 2:.2g}"
        )
    return found


def written(comparison: Table, kind: str, out: Path | None) -> str:
    """The table in a format, in the file if there is one (whole or not at all); its text, empty for parquet."""
    if kind == "parquet":
        assert out is not None
        with atomic_path(out) as partial:
            flat(comparison).to_parquet(partial, index=False)
        return ""
    if kind == "csv":
        text = csv_text(flat(comparison))
    else:
        text = as_markdown(comparison) if kind == "markdown" else as_latex(comparison)
    if out is not None:
        atomic_write_text(out, text)
    return text
