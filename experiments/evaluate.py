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
from experiments.cli import command, is_list, positive, say, shown
from experiments.tables.runs import find_runs


def evaluate_task(config: DictConfig) -> int:
    """Exit status 1 when a video could not be scored: the others are, and the reasons are printed."""
    window = positive(config.window_seconds, "window_seconds")
    metrics = choose(config.metrics)
    patterns = [] if config.runs is None else config.runs if is_list(config.runs) else [config.runs]
    problems = evaluate(find_runs([str(p) for p in patterns]), metrics, window, Console())
    for problem in problems:
        say(problem)
    return int(bool(problems))


def choose(names: str | Sequence[str]) -> list[Metric]:
    """Metrics by name. Raises ValueError that lists the known ones."""
    if names == "all":
        return list(WEIGHT_FREE)
    wanted = [names] if isinstance(names, str) else list(names or [])
    known = {metric.name: metric for metric in WEIGHT_FREE}
    unknown = [shown(name) for name in wanted if name not in known]
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
