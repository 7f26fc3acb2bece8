"""Score run directories. `python -m experiments.evaluate --help`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eval.metric import Metric
from eval.metrics import WEIGHT_FREE
from eval.score import score_run
from experiments.cli import command, say
from experiments.tables.runs import find_runs


def evaluate_task(config: DictConfig) -> int:
    """Exit status 1 when a video could not be scored: the others are, and the reasons are printed."""
    window = float(config.window_seconds)
    if not 0 < window < float("inf"):
        raise ValueError(f"window_seconds={config.window_seconds} must be a positive number")
    runs = config.runs
    if runs is None:
        raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
    patterns = [str(runs)] if isinstance(runs, str) else [str(r) for r in runs]
    problems = evaluate(find_runs(patterns), choose(config.metrics), window, Console())
    for problem in problems:
        say(problem)
    return int(bool(problems))


def choose(names: str | Sequence[str]) -> list[Metric]:
    """Metrics by name. Raises ValueError that lists the known ones."""
    if names == "all":
        return list(WEIGHT_FREE)
    wanted = [names] if isinstance(names, str) else list(names)
    known = {metric.name: metric for metric in WEIGHT_FREE}
    unknown = [name for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"metrics={','.join(unknown) or '[]'}: choose among {', '.join(known)}, or all")
    return [known[name] for name in wanted]


def evaluate(runs: Sequence[Path], metrics: Sequence[Metric], window_seconds: float, console: Console) -> list[str]:
    """Score every run; returns the problems, one line each."""
    problems = []
    with Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("videos left"),
        TimeRemainingColumn(), console=console,
    ) as bar:  # fmt: skip
        for run in runs:
            task = bar.add_task(run.name, total=None)
            scored = score_run(
                run, metrics, window_seconds, lambda done, total, _, t=task: bar.update(t, completed=done, total=total)
            )
            bar.update(task, total=scored.decoded, completed=scored.decoded)
            problems += scored.problems
            console.print(f"{run.name}: {scored.table['sample'].nunique()} videos scored, {scored.decoded} of them now")
    return problems


main = command("evaluate")(evaluate_task)

if __name__ == "__main__":
    main()
