"""Score run directories, or any folder of videos. `python -m experiments.evaluate --help`"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig
from rich.console import Console

from deepforcing.prompts import shard
from deepforcing.records import SCHEMA
from deepforcing.runs import atomic_path, atomic_write_json, check_writable
from deepforcing.video import VideoInfo, probe
from eval.allocator import keep_freed_memory
from eval.csv_cells import guarded
from eval.measure.metric import Metric, applies, check_protocol
from eval.metrics import ACROSS, DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.metrics.vbench.clip_to_clip import BetweenClips, fused, read_fusion
from eval.metrics.vbench.quality import QUALITY, RANGES, quality, with_quality
from eval.protocol import NAMES, Protocol
from eval.score import Scored, score
from eval.score_files import write_scores
from eval.stats.vbench import overall
from eval.store import COLUMNS, KEYS, add_rows, scores_path, settle, stored
from eval.videos import Video, Videos, open_folder, open_run
from experiments.command import command, say
from experiments.command.terminal import bar, console
from experiments.command.words import is_list, positive, shown
from experiments.request import pick_device
from experiments.results.runs import find_runs

VIDEOS, SCORES, SUMMARY = "videos.csv", "scores.parquet", "summary.json"  # in out=DIR


def evaluate_task(config: DictConfig) -> int:
    """Exit status 1 when a video could not be scored: the others are, and the reasons are printed."""
    protocol = Protocol(str(config.protocol), positive(config.window_seconds, "window_seconds"))
    metrics = choose(config.metrics, protocol)
    device = pick_device(str(config.device))
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
        videos, prompts, out = (path(config[key], key) for key in ("videos", "prompts", "out"))
        groups = [open_folder(videos or "", prompts, out or "")]
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


def prepare(group: Videos) -> None:
    """Before long work: make sure that the results can be written, and write out/videos.csv, see `write_videos`."""
    check_writable(group.home, key="out")
    for name in (VIDEOS, SCORES, SUMMARY):
        if (group.home / name).is_dir():
            raise ValueError(
                f"{group.home / name} is a folder, and a file of this name is to be written: give another out=DIR"
            )
    write_videos(group.home / VIDEOS, group)


def write_videos(file: Path, group: Videos) -> None:
    """A row per video: its name in the tables, its file, the prompt that it got, and what its header says.

    Made before the scores, so that a person can see whether every file got its own caption.
    """
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\r\n")  # so that a name with either of them is quoted
    rows.writerow(["sample", "file", "prompt", "frames", "fps", "sha256"])
    for video in group.videos:
        info = header(video)
        told = ("", "") if info is None else (str(info.frames), f"{info.fps:.6g}")
        texts = (guarded(text) for text in (video.name, video.path.name, video.prompt or ""))
        rows.writerow([*texts, *told, video.sha256])
    text = table.getvalue().encode()
    if not file.exists() or file.read_bytes() != text:
        with atomic_path(file) as partial:
            partial.write_bytes(text)


def path(value: Any, key: str) -> str | None:
    """A path as it was typed, also one that looks like a number; None for null. Raises ValueError that names the key."""
    if value is not None and not isinstance(value, str | int | float):
        raise ValueError(f"{key}={shown(value)} must be one path, for example {key}=some/where")
    return None if value is None else str(value)


def compare_clips(config: DictConfig, protocol: Protocol, metrics: Sequence[Metric]) -> list[BetweenClips]:
    """What the clip-to-clip mode needs beside the in-clip scores. Raises ValueError before long work."""
    if not protocol.encodes:
        raise ValueError("clip_to_clip is a mode of VBench-Long: use it with protocol=vbench_long")
    checkout = Path(path(config.clip_to_clip, "clip_to_clip") or "")
    known = [BetweenClips(str(name), str(extractor)) for name, extractor in (config.extractors or {}).items()]
    between = [metric for metric in known if metric.dimension in {chosen.name for chosen in metrics}]
    if not between:
        raise ValueError(
            "clip_to_clip joins subject_consistency and background_consistency in clips and between them: add one to metrics"
        )
    for metric in between:
        read_fusion(checkout, metric.dimension)
    return between


def add_fused(group: Videos, scored: Scored, between: Sequence[BetweenClips], folder: Path) -> None:
    """The clip-to-clip mode's rows, into the table and, where they are numbers, beside the scores that tables read.

    They are made anew from both kinds of scores every time: that costs nothing.
    """
    rows = fused(scored.table, between, folder)
    for name, part in rows[rows["value"].notna()].groupby("metric"):
        table = scores_path(group.home, str(name), BetweenClips.version)
        add_rows(table, part[[*COLUMNS, *KEYS]])
        settle(table)
    scored.table = pd.concat([scored.table, rows], ignore_index=True)


def choose(names: Any, protocol: Protocol) -> list[Metric]:
    """Metrics by name; "all": everything that the protocol can score. Raises ValueError that lists the known ones."""
    every: list[Metric] = [*DIMENSIONS, *OVER_TIME, *WEIGHT_FREE, *ACROSS]
    fit = every if protocol.name == "windows" else [*DIMENSIONS]
    if names == "all":
        return fit
    known = {metric.name: metric for metric in every}
    wanted = list(names or []) if names is None or is_list(names) else [names]
    unknown = [shown(name) for name in wanted if name not in known]
    if unknown or not wanted:
        raise ValueError(f"metrics={','.join(unknown) or '[]'}: choose among {', '.join(known)}, or all")
    chosen = [known[name] for name in dict.fromkeys(wanted)]
    check_protocol(chosen, protocol)
    return chosen


def evaluate(
    groups: Sequence[Videos],
    metrics: Sequence[Metric],
    protocol: Protocol,
    device: torch.device,
    part: str,
    out: Console,
) -> list[Scored]:
    """Score every group; what is absent is said once."""
    results = []
    said: set[str] = set()
    index, count = (int(number) for number in part.split("/"))
    passed = 0  # videos of the groups before: many groups of one video are shared out too
    with bar(out, "videos left") as bars:
        for group in groups:
            for note in group.notes:
                out.print(note, soft_wrap=True, highlight=False, markup=False)
            task = bars.add_task(group.name, total=None)

            def tick(done: int, total: int, _: str, task: Any = task) -> None:
                bars.update(task, completed=done, total=total)

            scored = score(group, metrics, protocol, device, tick, f"{(index - passed) % count}/{count}")
            passed += len(group.videos)
            bars.update(task, total=scored.decoded, completed=scored.decoded)
            results.append(scored)
            for name, why in scored.absent.items():
                if name not in said:
                    out.print(f"{name}: absent: {why}", soft_wrap=True, highlight=False, markup=False)
                    said.add(name)
            for note in scored.notes:
                out.print(note, soft_wrap=True, highlight=False, markup=False)
            known = scored.table["sample"].nunique()
            told = f"{group.name}: {known} videos scored, {scored.decoded} of them now"
            out.print(told, soft_wrap=True, highlight=False, markup=False)
    return results


def write_out(out: Path, group: Videos, scored: Scored, metrics: Sequence[Metric], protocol: Protocol) -> None:
    """out/scores.parquet: all that is known of the videos; out/summary.json: {metric asked for: overall value or null, ...}.

    A metric whose weights are absent has a row with NaN for each video that has no earlier score, spanning all of it. VBench's
    Quality is that of the overall values of its dimensions in summary.json, and of each clip's in the scores.
    """
    table = scored.table
    measured = set(zip(table["sample"], table["metric"], strict=True))  # also while the weights were there
    nothing = pd.DataFrame(
        [
            (group.name, video.name, metric.name, metric.version, protocol.name, 0.0, seconds(video), math.nan)
            for metric in metrics
            if metric.name in scored.absent
            for video in group.videos
            if not math.isnan(seconds(video))  # a file that is none has no row
            if not any((video.name, value.name) in measured for value in metric.values)
        ],
        columns=COLUMNS,
    )
    # Whatever else is known of these videos: other metrics, other protocols.
    kept = [stored([group], None, Protocol(name, protocol.window_seconds)) for name in NAMES]
    asked = {metric.name for metric in metrics} | {value.name for metric in metrics for value in metric.values}
    others = [
        part[~((part["protocol"] == protocol.name) & part["metric"].isin(asked | set(table["metric"])))]
        for part in kept
    ]
    parts = [part[COLUMNS] for part in (table, nothing, *others) if len(part)]
    rows = with_quality(pd.concat(parts, ignore_index=True)) if parts else nothing
    names = ["sample", "metric", "version", "protocol", "t_start", "t_end", "value"]
    with atomic_path(out / SCORES) as partial, open(partial, "wb") as file:
        write_scores(rows[names], file)
    values = overall(table).set_index("metric")["value"].to_dict()
    if values.keys() >= RANGES.keys():
        values[QUALITY.name] = quality(values)
    summary: dict[str, Any] = {}
    applying = [metric for metric in metrics if applies(metric, group.world)]
    names = [value.name for metric in applying for value in metric.values]
    for name in [*names, *(name for name in values if name not in names)]:
        number = values.get(name, math.nan)
        summary[name] = None if math.isnan(number) else number
    summary["about"] = {
        "schema": SCHEMA,
        "protocol": protocol.name,
        "window_seconds": protocol.length_key or None,
        "videos": len(group.videos),
        "videos_scored": int(table["sample"].nunique()),
        "versions": {metric.name: metric.version for metric in applying},
        "weights": weights_sha256(pd.concat([table, *others])),
        "absent": {name: as_utf8(why) for name, why in scored.absent.items()},
        "problems": [as_utf8(problem) for problem in scored.problems],
    }
    atomic_write_json(out / SUMMARY, summary)


def as_utf8(text: str) -> str:
    """Paths may have bytes that are not UTF-8, and messages name paths."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def weights_sha256(rows: pd.DataFrame) -> dict[str, dict[str, str]]:
    """{protocol: {metric: sha256 of its weights}}, several joined by "+", without those that need none."""
    known = rows[rows["weights_sha256"].notna() & (rows["weights_sha256"] != "") & rows["value"].notna()]
    found: dict[str, dict[str, str]] = {}
    for (protocol, metric), each in known.groupby(["protocol", "metric"])["weights_sha256"]:
        found.setdefault(str(protocol), {})[str(metric)] = "+".join(sorted(set(each)))
    return found


def header(video: Video) -> VideoInfo | None:
    """What the file says of itself; None if it is no video."""
    try:
        return probe(video.path)
    except ValueError:
        return None


def seconds(video: Video) -> float:
    """Duration by the file's header; NaN if it has none."""
    info = header(video)
    return info.frames / info.fps if info is not None and info.fps else math.nan


main = command("evaluate")(evaluate_task)

if __name__ == "__main__":
    main()
