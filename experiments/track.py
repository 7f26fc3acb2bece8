"""Show runs in Weights & Biases. `python -m experiments.track --help`"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import command, say
from experiments.command.conf import groups
from experiments.command.terminal import console
from experiments.command.words import is_list, shown

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from experiments.results.runs import Run
    from experiments.tracking import Tracked, Tracker


def track_task(config: DictConfig) -> int:
    """Exit status 1 when a run could not be tracked or uploaded; the reason is printed, the runs are as they were."""
    from eval.store import other_weights  # pandas: --help does without
    from experiments.results.runs import find_runs, read_runs
    from experiments.results.scores import read_scores
    from experiments.tracking import Tracked, track

    tracker = from_config(config)
    patterns = [] if config.runs is None else config.runs if is_list(config.runs) else [config.runs]
    done = Tracked()
    found = [read_runs(paths) for paths in apart(find_runs([str(p) for p in patterns]))]
    check_names(tracker.videos, [run for runs in found for run in runs])
    check_figures(tracker.figures, groups()["figure"])
    for runs in found:
        scores = read_scores(runs, config.window_seconds)
        for line in (*scores.other, *other_weights(scores.table)):
            say(line)
        done.add(track(runs, scores.table, tracker))
        if done.problems:
            break
    tell(done)
    return int(bool(done.problems))


def apart(paths: Sequence[Path]) -> list[list[Path]]:
    """The run directories in lists that hold no name twice: runs of one configuration have one name, and scores go by it."""
    lists: list[list[Path]] = []
    for path in paths:
        free = next((found for found in lists if path.name not in {other.name for other in found}), None)
        if free is None:
            lists.append([path])
        else:
            free.append(path)
    return lists


def check_names(wanted: int | tuple[str, ...], runs: Sequence[Run]) -> None:
    """Raises ValueError for the name of a sample that none of the runs has."""
    known = {str(sample["sample"]) for run in runs for sample in run.samples}
    unknown = [] if isinstance(wanted, int) else sorted(set(wanted) - known)
    if unknown:
        some = f"; they have {', '.join(sorted(known)[:3])} ..." if known else ""
        raise ValueError(f"videos={unknown[0]} is no sample of these runs{some}")


def check_figures(wanted: Sequence[str], known: Sequence[str]) -> None:
    """Raises ValueError for what is neither a figure of conf/figure/ nor a .png that is there."""
    for name in wanted:
        if not (name in known or (name.endswith(".png") and Path(name).is_file())):
            raise ValueError(f"figures={name} is no .png file that is there, and none of {', '.join(known)}")


def tell(done: Tracked) -> None:
    """The problems, one line each, and how to upload what is on disk."""
    from experiments.tracking import sync_command

    for problem in (*done.notes, *done.problems):
        say(problem)
    if done.written:
        uploaded = len(set(done.written) - set(done.unsynced))
        console().print(f"{len(done.written)} runs tracked, {uploaded} of them uploaded")
    if done.unsynced:
        print(f"to upload: {sync_command(done.unsynced)}")


def from_config(config: DictConfig) -> Tracker:
    """The keys of conf/track.yaml, checked. Raises ValueError in one line."""
    from experiments.tracking import Tracker

    if config.mode not in ("offline", "online"):
        raise ValueError(f"mode={shown(config.mode)}: use offline (write files, upload later) or online (upload now)")
    if not config.project:
        raise ValueError("project is empty; give the W&B project's name, as in project=deepforcing")
    videos: Any = config.videos
    if is_list(videos):
        videos = tuple(str(name) for name in videos)
    elif type(videos) is not int or videos < 0:
        raise ValueError(f"videos={shown(videos)} must be a whole number, 0 for none, or a list of sample names")
    return Tracker(
        project=str(config.project),
        entity=None if config.entity is None else str(config.entity),
        group=None if config.group is None else str(config.group),
        directory=None if config.dir is None else Path(str(config.dir)),
        videos=videos,
        upload=float(config.timeout) if config.mode == "online" else 0.0,
        figures=tuple(str(name) for name in config.figures),
    )


main = command("track")(track_task)

if __name__ == "__main__":
    main()
