"""Score run directories, or any folder of videos. `python -m experiments.evaluate --help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command, say
from experiments.command.moved import moved

if TYPE_CHECKING:
    from omegaconf import DictConfig


def evaluate_task(config: DictConfig) -> int:
    """Exit status 1 when a video could not be scored: the others are, and the reasons are printed."""
    from deepforcing.prompts import shard  # torch and pandas: --help does without
    from eval.allocator import keep_freed_memory
    from eval.networks import backend
    from eval.protocol import Protocol
    from eval.videos import open_folder, open_run
    from experiments.command.terminal import console
    from experiments.command.words import is_list
    from experiments.request import pick_device
    from experiments.results.folder import SCORES, SUMMARY, VIDEOS, prepare, write_out
    from experiments.results.runs import find_runs
    from experiments.scoring import add_fused, choose, compare_clips, evaluate

    protocol = Protocol(str(config.protocol), config.window_seconds)
    metrics = choose(config.metrics, protocol)
    device = pick_device(str(config.device))
    backend.use(str(config.backend), device)
    keep_freed_memory()
    part = str(config.shard or "0/1")
    shard([], part)  # says what is wrong with it before long work
    between = [] if config.clip_to_clip is None else compare_clips(config, protocol, metrics)
    if (config.runs is None) == (config.videos is None):
        raise ValueError("give runs=DIR, or videos=DIR with out=DIR, and not both")
    if config.videos is None:
        for key in ("prompts", "out"):
            if config[key] is not None:
                raise ValueError(
                    f"{key} goes with videos=DIR; a run knows its prompts and keeps its scores in runs/.../scores"
                )
        patterns = config.runs if is_list(config.runs) else [config.runs]
        groups = [open_run(path) for path in find_runs([str(p) for p in patterns])]
    else:
        if config.out is None:
            raise ValueError(f"videos=DIR needs out=DIR, where {VIDEOS}, {SCORES} and {SUMMARY} go")
        groups = [open_folder(config.videos, config.prompts, config.out)]
        prepare(groups[0])
    metrics = [*metrics, *between]
    results = evaluate(groups, metrics, protocol, device, part, console())
    if between:
        for group, result in zip(groups, results, strict=True):
            add_fused(group, result, between, Path(str(config.clip_to_clip)))
    if config.out is not None:
        write_out(groups[0].home, groups[0], results[0], metrics, protocol)
    problems = [problem for result in results for problem in result.problems]
    for problem in problems:
        say(problem)
    return int(bool(problems))


main = command("evaluate")(evaluate_task)

__getattr__ = moved(
    __name__,
    {
        "experiments.results.folder": "SCORES SUMMARY VIDEOS header prepare seconds weights_sha256 write_out write_videos",
        "experiments.scoring": "add_fused choose compare_clips evaluate",
    },
)

if __name__ == "__main__":
    main()
