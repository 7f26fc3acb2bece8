"""Every table and figure of the paper that the runs on disk allow, with a page of them. `python -m experiments.paper --help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command, say

if TYPE_CHECKING:
    from omegaconf import DictConfig


def paper_task(config: DictConfig) -> int:
    """Exit status 1 if what was to be made failed; what is merely missing is listed, with the command for it."""
    from deepforcing.runs import atomic_write_text, check_writable
    from experiments.command.compose import chosen
    from experiments.command.terminal import console
    from experiments.reproduction.index import page
    from experiments.reproduction.parts import draw, find_parts, in_all, make, told
    from experiments.reproduction.plan import model_words
    from experiments.reproduction.speed import speed_of
    from experiments.request import pick_device

    out = Path(str(config.out))
    if out.suffix or out.is_file():
        raise ValueError(f"out={out} must be a folder, as in out=reports/paper")
    words = model_words()
    speed = speed_of(config, words)
    parts = find_parts(config, words)
    device = pick_device(str(config.device))
    check_writable(out, key="out")
    over = console()
    for part in parts:
        over.print(told(part, speed), markup=False)
    over.print(in_all(parts, speed, device), markup=False)
    for lack in dict.fromkeys(lack for part in parts for lack in part.planned.lacks):
        over.print(f"not here: {lack}", markup=False)
    typed = [*words, *(word for word in chosen()[1] if word.partition("=")[0] in ("dtype", "device", "runs_root"))]
    pages, problems = [], []
    for part in parts:
        if config.make:
            problems += make(part, over)
        drawn = draw(part, device, out, typed, over)
        pages.append(drawn)
        problems += drawn.problems
    index = out / ("index.html" if config.only == "all" else f"{'_'.join(part.name for part in parts)}.html")
    atomic_write_text(index, page(pages))  # a page of some parts never takes the place of that of all
    missing = [each for each in pages if each.missing]
    for each in missing:
        over.print(f"missing of {each.part.title}: {'; '.join(each.missing)}", markup=False)
    print(f"{len(pages) - len(missing)} of {len(pages)} parts are whole: {index.absolute()}")
    for problem in dict.fromkeys(problems):
        say(problem)
    return int(bool(problems))


main = command("paper")(paper_task)

if __name__ == "__main__":
    main()
