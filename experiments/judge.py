"""Have a vision-language model judge videos. `python -m experiments.judge --help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command, say

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.raters.vlm import Judge

LONGEST_PROMPT = 20_000  # characters


def judge_task(config: DictConfig) -> int:
    """Exit status 1 where a video has no score: the others have theirs."""
    import httpx

    from deepforcing.runs import check_writable
    from experiments.command.terminal import bar, console
    from experiments.raters.judging import SCALE, digest, grid, groups, judge_run, missing
    from experiments.raters.vlm import OffError  # pandas, OpenCV: --help does without
    from experiments.results.runs import find_runs, read_runs
    from experiments.tables.comparisons import words
    from experiments.tables.render import markdown

    judge = asked(config)
    if config.runs is None:
        raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
    runs = read_runs(find_runs(words(config.runs)))
    videos = groups(runs)
    todo = sum(len(missing(group, judge)) for group in videos)
    for group in videos:
        check_writable(group.home / "scores", key="runs")
    host = httpx.URL(judge.endpoint).host
    console().print(f"{todo} videos to judge: {judge.frames} frames of each go to {host}, model {judge.model}")
    problems: list[str] = []
    with httpx.Client() as client, bar(console(), "videos") as shown:
        task = shown.add_task("judging", total=todo)
        for group in videos:
            try:
                problems += judge_run(group, judge, client, lambda: shown.advance(task)).problems
            except OffError as error:
                problems.append(f"{error}; what is judged stays")
                break
    for problem in problems:
        say(problem)
    paper = {(str(row.generator), str(row.cache)): float(row.score) for row in config.paper}
    print(markdown(grid(runs, digest(judge), paper)))
    print(f"\n{SCALE}")
    return int(bool(problems))


def asked(config: DictConfig) -> Judge:
    """Raises ValueError for a judge that cannot be."""
    from experiments.raters.vlm import PROMPT, Judge

    if config.endpoint is None or config.vlm is None:
        raise ValueError(
            "the judge is off: say endpoint=http://127.0.0.1:8000/v1 (any OpenAI-compatible one) and vlm=NAME; frames of "
            "your videos are sent there"
        )
    prompt = PROMPT
    if config.prompt is not None:
        path = Path(str(config.prompt))
        is_file = len(str(path)) < 200 and path.is_file()
        prompt = path.read_text(encoding="utf-8")[: LONGEST_PROMPT + 1] if is_file else str(config.prompt)
        if not 0 < len(prompt.strip()) <= LONGEST_PROMPT:
            raise ValueError(f"prompt must have 1 to {LONGEST_PROMPT} characters")
    return Judge(
        str(config.endpoint), str(config.vlm), prompt, config.frames, config.size, config.tries, float(config.timeout),
        str(config.key_variable),
    )  # fmt: skip


main = command("judge")(judge_task)

if __name__ == "__main__":
    main()
