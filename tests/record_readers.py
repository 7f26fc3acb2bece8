"""What each command does with a run directory, and what came of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

from report_runs import draw

from deepforcing.runs import RunDir
from eval.metrics import WEIGHT_FREE
from eval.protocol import Protocol
from eval.score import score
from eval.videos import open_run
from experiments.figures.figure import drawn, save
from experiments.figures.filmstrip import Filmstrip
from experiments.logged import payload
from experiments.reproduce import speeds
from experiments.results.runs import read_runs
from experiments.results.scores import read_scores
from experiments.table import find_sources, read_comparison
from experiments.tables.vbench import as_latex, as_markdown
from experiments.tracking import choose_videos

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
