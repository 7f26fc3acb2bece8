"""The sentences of a report about its runs: what was compared, what is missing, where it comes from, how to read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from deepforcing.tiny.worlds import WORLDS
from experiments.results.runs import Run
from experiments.tables.words import INTERVALS, join, plural, runs_argument

OVER_WINDOWS = (
    "VBench's formulas on one window after the other. That is none of VBench's protocols: numbers to set beside published "
    "ones are in the tables by protocol, where such were scored."
)


def title(runs: Sequence[Run], seconds: float) -> str:
    """The headline: the runs by label while they are few; real video is beside the point."""
    labels = [run.label for run in runs if not run.is_real] or [run.label for run in runs]
    words = {label.split()[0] for label in labels}
    many = f"{words.pop()}, {len(labels)} settings" if len(words) == 1 else f"{len(labels)} runs side by side"
    names = join(labels) if len(labels) <= 5 else many
    return f"{names} over {seconds:.0f} s" if seconds else names


def model_name(run: Run) -> str:
    """The model's name in the spec, else the world that it was trained on, else its class."""
    model = run.spec.get("model")
    if not isinstance(model, dict):
        return str(model or "unrecorded")
    world = run.record.get("world")
    name = model.get("name") or model.get("preset") or (f"{world} world's" if world else None)
    return str(name or model.get("_target_", "unrecorded")).rsplit(".", 1)[-1]


def lead(runs: Sequence[Run], train_seconds: float | None, metrics: int) -> list[str]:
    """Two sentences: what was compared, and how to read it."""
    samples = [s for run in runs for s in run.samples]
    lengths = sorted({round(float(s.get("seconds") or 0), 1) for s in samples})
    length = f"{lengths[0]:g} s" if len(lengths) == 1 else f"{lengths[0]:g} to {lengths[-1]:g} s" if lengths else "no"
    prompts, seeds = {s["prompt_id"] for s in samples}, {s["seed"] for s in samples}
    models = sorted({model_name(run) for run in runs if not run.is_real})
    size = sorted({f"{s['width']} × {s['height']} px" for s in samples if s.get("width") and s.get("height")})
    generated = [run for run in runs if not run.is_real]
    of = f" of the {join(models)} model" if len(models) == 1 else f" of {len(models)} models ({join(models)})"
    what = [f"{plural(len(generated), 'run')}{of}"] if generated else []
    what += ["real video for reference" if generated else "real video"] if len(generated) < len(runs) else []
    first = (
        f"{join(what)}: {plural(len(prompts), 'prompt')}, {plural(len(seeds), 'seed')}, "
        f"{plural(len(samples), 'video')} of {length}{f' ({size[0]})' if len(size) == 1 else ''}."
    )
    first = first[0].upper() + first[1:]
    trained = (
        f"The model was trained on clips of {train_seconds:.3g} s: all that comes after the dashed line is beyond what "
        "it has seen in training."
        if train_seconds
        else "The length of the clips that the model was trained on is not recorded in these runs."
    )
    measured = f" {plural(metrics, 'metric')} follow every video over time." if metrics else ""
    return [first, trained + measured]


def curves_note(silent: Sequence[str], tested: bool) -> str:
    """How to read the curves. silent: titles of metrics that have no value anywhere. tested: there are several prompts."""
    lines = (
        "Lines are means over prompts, bands as chosen above; wide ones run out of a panel. "
        if tested
        else "One prompt. "
    )
    note = f"{lines}A gap means that nothing could be measured there. The value axes need not start at zero."
    return note + (f" Scored, but without any value: {join(silent)}." if silent else "")


def table_note(ends: float, tests: int) -> str:
    """tests: drifts of the report that have an interval."""
    if not tests:
        return f"First {ends:g} s → last {ends:g} s of the video; below, the drift (last minus first)."
    return (
        f"Means over prompts: first {ends:g} s → last {ends:g} s of each video; below, the drift (last minus first) with its "
        "95 % interval over prompts. Bold: better in the last seconds than every other run (real video aside), each paired "
        "95 % interval excluding zero. *: the drift is also told from zero after Holm's adjustment for all "
        f"{tests} drifts of this report."
    )


def paired_note(baseline: str, tested: bool) -> str:
    if not tested:
        return f"Run minus {baseline}, of the same prompt and seed. Marks of one line share a scale."
    return (
        f"Run minus {baseline}, paired by prompt and seed, with 95 % intervals. Green: better, the interval excluding zero; "
        "red: worse, likewise; no colour: the interval includes zero, or neither direction is better. Marks of one line "
        "share a scale."
    )


def problems(runs: Sequence[Run], scored: Mapping[str, int], arguments: str = "") -> list[dict[str, str]]:
    """What is missing, and the command that adds it. scored: how many samples of each run have scores.

    arguments: of the command, after the runs.
    """
    found = []
    empty = [run.label for run in runs if not run.samples]
    if empty:
        text = f"No finished video yet in {join(empty)}: run its rollout command again, it resumes."
        found.append({"text": text, "command": ""})
    bare = [run for run in runs if scored.get(run.name, 0) < len(run.samples)]
    if bare:
        told = [f"{run.label} ({scored.get(run.name, 0)} of {plural(len(run.samples), 'video')})" for run in bare]
        command = f"python -m experiments.evaluate {runs_argument([str(run.path) for run in bare])}{arguments}"
        found.append({"text": f"Not scored, or only in part: {join(told)}. To score:", "command": command})
    started = [run for run in runs if run.samples]
    if any(run.left_out for run in started):
        counts = [len(run.samples) + run.left_out for run in started]
        used = f"used here are the {len(started[0].samples)} that all have; common=false uses all"
        text = f"The runs have different videos ({min(counts)} to {max(counts)} each): {used}."
        found.append({"text": text, "command": ""})
    elif len({tuple(s["sample"] for s in run.samples) for run in started}) > 1:
        text = "The runs have different videos: means are over different prompts, only paired differences compare."
        found.append({"text": text, "command": ""})
    return found


def origins(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """The footer's lines: what runs were made with, runs of the same making together."""
    grouped: dict[tuple[str, ...], list[int]] = {}
    for i, run in enumerate(runs):
        grouped.setdefault(_making(run), []).append(i)
    found = []
    for (commit, checkpoint, sha256, machine, versions), members in grouped.items():
        days = sorted({str(runs[i].record.get("created") or "–")[:16].replace("T", " ") for i in members})
        created = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
        line = {"created": created, "commit": commit, "checkpoint": checkpoint, "sha256": sha256}
        found.append({"runs": members, "machine": machine, "versions": versions, **line})
    return found


def _making(run: Run) -> tuple[str, str, str, str, str]:
    environment, checkpoint = run.record.get("environment") or {}, run.record.get("checkpoint") or {}
    commit = str(environment.get("git_commit") or "not recorded")[:12]
    model = run.spec.get("model")
    path = checkpoint.get("path") or (model.get("checkpoint") if isinstance(model, dict) else None)
    packages = {"python": environment.get("python"), **(environment.get("packages") or {})}
    threads = environment.get("threads")
    return (
        commit + (" + uncommitted changes" if environment.get("git_dirty") else ""),
        str(path or ("shipped weights" if checkpoint.get("sha256") else "none")),
        str(checkpoint.get("sha256") or ""),
        str(environment.get("device") or "–") + (f", {plural(int(threads), 'thread')}" if threads else ""),
        ", ".join(f"{name} {version}" for name, version in packages.items() if version),
    )


def caveats(runs: Sequence[Run], scored: bool, vbench: bool, tested: bool) -> list[str]:
    """scored: there are curves. vbench: there are tables by VBench's protocols. tested: there are several prompts."""
    found = []
    worlds = [WORLDS[name] for name in dict.fromkeys(run.record.get("world") for run in runs) if name in WORLDS]
    for world in worlds:
        found.append(
            f"The {world.NAME} world is not Wan: a model of a few million parameters at most, {world.ABOUT}, "
            "captions that say nearly everything. What holds here need not hold for Wan2.1-1.3B, nor the reverse."
        )
    if any(run.is_real for run in runs):
        found.append(
            "Real video is what the world's renderer draws for the same captions: it shows what a metric reads when "
            "nothing drifts, so a score beyond it is no merit."
        )
    if vbench and worlds:
        found.append(
            "VBench's networks learnt from photographs and films; what they say of flat shapes is a check that the "
            "whole way works, and no measure of quality."
        )
    if scored:
        of = f"{INTERVALS} They are" if tested else "These numbers are"
        found += [
            f"{of} of the prompts of these runs and of one set of weights, and say nothing of other "
            "prompts, other lengths or a model trained again.",
            "Frame differences and optical flow mistake jitter for motion, and a video that repeats its first seconds "
            "does not drift: read motion beside progress, and every drift beside replay, where they were scored.",
            "Metrics read the mp4 files (H.264), so compression is part of what they measure, alike in all runs.",
        ]
    return found
