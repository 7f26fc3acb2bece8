"""The end of a search, from its journal and the runs: the front, what was pruned, which settings matter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from deepforcing.runs import atomic_write_text
from experiments.searching.study import Search
from experiments.tables.estimate import number
from experiments.tables.text import markdown_code, markdown_text
from experiments.tables.words import plural


def report(of: Search, study: optuna.Study, out: Path) -> str:
    """Write <out> and the figures beside it; the Markdown."""
    trials = study.get_trials(deepcopy=False)
    states = {state: [t for t in trials if t.state == state] for state in TrialState}
    finished, pruned = states[TrialState.COMPLETE], states[TrialState.PRUNED]
    c, running = of.config, len(states[TrialState.RUNNING])
    elsewhere = f", {plural(running, 'trial')} still in the hands of other processes" if running else ""
    parts = [
        f"# Search {markdown_text(str(c.name))}",
        f"{plural(len(finished), 'trial')} finished, {len(pruned)} pruned, {len(states[TrialState.FAIL])} settings that cannot "
        f"run or read more than {c.budget} latent frames{elsewhere}; "
        f"{plural(len(of.samples), 'video')} of {c.seconds:g} s each. "
        "Means over these videos: too few to call small differences real. A setting that the search chose is to be compared "
        "anew, on other prompts, with experiments.sweep.",
        "## Front\n\nLess drift and more motion are not had together by any other finished trial. The figure rings also what "
        "is as good as any that reads no more frames.",
        table(study.best_trials, str(c.drift), str(c.motion)) if finished else "No trial has finished.",
        *figures(finished, c, out),
    ]
    if pruned:
        lines = [f"- trial {t.number}, at {t.user_attrs.get('pruned_at', 0):g} s: {label(t)}" for t in pruned]
        parts += ["## Pruned", "\n".join(lines)]
    text = "\n\n".join(parts) + "\n"
    atomic_write_text(out, text)
    return text


def table(trials: list[FrozenTrial], drift: str, motion: str) -> str:
    head = ["trial", "settings", f"{drift} ↓", f"{motion} ↑", "frames read", "run"]
    rows = [
        [
            str(t.number), label(t), number(t.values[0], 4), number(t.values[1], 4), str(t.user_attrs["frames_read"]),
            markdown_code(Path(t.user_attrs["runs"][-1]).name),
        ]
        for t in sorted(trials, key=lambda t: float(t.values[0]))
    ]  # fmt: skip
    return "\n".join(f"| {' | '.join(cells)} |" for cells in [head, ["---"] * len(head), *rows])


def label(trial: FrozenTrial) -> str:
    return markdown_text(str(trial.user_attrs.get("label", "")))


def figures(finished: list[FrozenTrial], config: Any, out: Path) -> list[str]:
    """The front and the importances; what one lacks is said."""
    from experiments.figures.figure import drawn, save  # matplotlib
    from experiments.figures.importances import Importances
    from experiments.figures.pareto import Pareto

    runs = list(dict.fromkeys(Path(t.user_attrs["runs"][-1]) for t in finished))
    ways: dict[str, Any] = {
        "front": Pareto(
            str(config.drift), str(config.motion), ends=float(config.ends), window_seconds=float(config.window_seconds)
        ),
        "importances": Importances(str(config.name)),
    }
    said = []
    for name, figure in ways.items():
        file = out.with_name(f"{out.stem}_{name}.png")
        try:
            if not runs:
                raise ValueError("no trial has finished")
            save(drawn(figure, figure.read(runs)), file)
            said.append(f"![{name}]({file.name})")
        except ValueError as error:
            said.append(f"No figure of the {name}: {markdown_text(str(error))}.")
    return said
