"""Compare many settings: a grid, points by name, or policies at matched budgets. `python -m experiments.sweep --help`"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import program, say
from experiments.command.conf import help_text

if TYPE_CHECKING:
    from omegaconf import DictConfig

WORDS = ("plan", "run")


def plan_task(config: DictConfig) -> int:
    """Every point, what of it is there, what is left. Exit status 0, also where points are left out, which is said."""
    from experiments.command.terminal import console
    from experiments.request import pick_device
    from experiments.sweeps.cluster import elsewhere, model_words
    from experiments.sweeps.plan import in_all, lines, what_is_left
    from experiments.sweeps.points import find_points
    from experiments.sweeps.work import columns_of

    columns_of(config)
    here = not elsewhere(config)
    points = find_points(config, model_words(), here)
    left = what_is_left(points, str(config.shard), config.seconds_per_chunk)
    over = console()
    for line in lines(left):
        over.print(line)
    for name, why in points.left_out.items():
        over.print(f"left out: {name}: {why}")
    over.print(in_all(left, pick_device(str(config.device), here)))
    return 0


def run_task(config: DictConfig) -> int:
    """Exit status 1 if a point failed: the others are made and reported."""
    from eval.allocator import keep_freed_memory
    from experiments.command.compose import chosen
    from experiments.command.outputs import check_output
    from experiments.command.terminal import console
    from experiments.reproduction.work import REAL
    from experiments.request import pick_device
    from experiments.sweeps.cluster import elsewhere, model_words, run_elsewhere
    from experiments.sweeps.plan import in_all, what_is_left
    from experiments.sweeps.points import find_points
    from experiments.sweeps.report import report
    from experiments.sweeps.work import columns_of, make_real, planned, run_point

    choices, typed = chosen()
    out = Path(str(config.out or f"reports/sweep_{choices['sweep']}.md"))
    if out.suffix != ".md":
        raise ValueError(f"out={out} must end in .md; the .csv and the figures go beside it")
    columns = columns_of(config)
    here = not elsewhere(config)
    points = find_points(config, model_words(), here)
    device = pick_device(str(config.device), here)
    check_output(out)
    over = console()
    for name, why in points.left_out.items():
        over.print(f"left out: {name}: {why}", style="yellow")
    over.print(in_all(what_is_left(points, str(config.shard), config.seconds_per_chunk), device))
    keep_freed_memory()
    plan, problems = planned(config, points, columns), []
    failed = {} if here else run_elsewhere(points, config, typed, over)
    for point in points.made if here else ():
        results = run_point(point, plan, config, device, over)
        failed |= results.failed
        problems += results.problems
    real = make_real(plan, config, device if here else pick_device("auto"), over)
    text = report(points, failed, columns, config, real.runs.get(REAL.name), out)
    print(f"\n{text}\nreport: {out.absolute()}")
    for problem in problems:
        say(problem)
    if failed:
        lines = (f"  {', '.join(names)}: {why}" for why, names in by_reason(failed).items())
        say(
            "\n".join(
                [f"{len(failed)} of {len(points.made)} points failed; the same command tries them again:", *lines]
            )
        )
    return int(bool(failed or problems))


def by_reason(failed: Mapping[str, str]) -> dict[str, list[str]]:
    """{why: points}: what stops all of them is said once."""
    found: dict[str, list[str]] = {}
    for name, why in failed.items():
        found.setdefault(why, []).append(name)
    return found


def work(arguments: list[str]) -> int | None:
    from experiments.command.compose import run  # Hydra

    if not arguments or arguments[0] not in WORDS:
        given = f", not {arguments[0]}" if arguments else ""
        raise ValueError(
            f"say plan or run first{given}: python -m experiments.sweep plan budgets=[6,9,21] policies=[sink,deep_sink]"
        )
    return run(plan_task if arguments[0] == "plan" else run_task, "sweep", arguments[1:])


main = program(work, lambda: help_text("sweep"))

if __name__ == "__main__":
    main()
