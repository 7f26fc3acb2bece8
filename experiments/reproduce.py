"""An experiment of the paper, whole: its rows rolled out, scored, and printed beside the published numbers. `--help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command, say
from experiments.command.moved import moved

if TYPE_CHECKING:
    from omegaconf import DictConfig


def reproduce_task(config: DictConfig) -> int:
    """Exit status 1 if a row failed or a video could not be scored: the rest is reported. With `plan` nothing is made."""
    from eval.allocator import keep_freed_memory  # torch and pandas: --help does without
    from experiments.command.compose import chosen
    from experiments.command.outputs import check_output
    from experiments.command.terminal import console
    from experiments.reproduction.parts import Part, in_all, told
    from experiments.reproduction.plan import model_words, plan
    from experiments.reproduction.report import report
    from experiments.reproduction.speed import speed_of
    from experiments.reproduction.work import Results, make_videos, score_videos
    from experiments.request import pick_device
    from experiments.tables.words import runs_argument

    over = console()
    name = chosen()[0]["experiment"]
    out = Path(str(config.out or f"reports/{name}.md"))
    if out.suffix != ".md":
        raise ValueError(f"out={out} must end in .md; the .csv and the figure go beside it")
    ends = float(config.ends)
    words = model_words()
    speed = speed_of(config, words)
    planned = plan(config, name, words, look=bool(config.plan))
    device = pick_device(str(config.device))
    check_output(out)
    whole = Part(name, str(config.experiment.title), config, planned)
    over.print(told(whole, speed), in_all([whole], speed, device), sep="\n", markup=False)
    for lack in planned.lacks:
        over.print(f"not here: {lack}", markup=False)
    if config.plan:
        return 0
    results = Results()
    keep_freed_memory()
    make_videos(planned, results, over)
    score_videos(planned, results, device, str(config.shard), over)
    text = report(config, planned, results, ends, out)
    print(f"\n{text}")
    print(f"report: {out.absolute()}")
    if results.runs:
        paths = runs_argument([str(path) for path in results.runs.values()])
        print(f"to Weights & Biases: python -m experiments.track {paths} group={name}")
    for problem in results.problems:
        say(problem)
    return int(bool(results.failed or results.problems))


main = command("reproduce")(reproduce_task)

__getattr__ = moved(
    __name__,
    {
        "experiments.reproduction.plan": "Planned choose_prompts choose_rows has_published_weights model_words plan",
        "experiments.reproduction.work": "REAL Results make_videos score_videos speeds",
        "experiments.reproduction.report": "report",
    },
)

if __name__ == "__main__":
    main()
