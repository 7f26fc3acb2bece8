"""A picture of several runs: frames of one prompt over time, drift curves below. `--help` lists the keys."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from omegaconf import DictConfig

from deepforcing.runs import atomic_path
from deepforcing.video import read_video
from eval.stats.means import curves
from experiments.command import command
from experiments.command.outputs import check_output
from experiments.command.words import is_list
from experiments.figures.colours import inks
from experiments.results.runs import Run, find_runs, read_runs
from experiments.results.scores import read_scores

matplotlib.use("Agg")
from matplotlib import pyplot as plt

matplotlib.rcParams["text.parse_math"] = False  # a dollar sign in a label or prompt is one


def filmstrip_task(config: DictConfig) -> None:
    if config.runs is None:
        raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
    out = check_output(config.out)
    if out.suffix not in (".png", ".pdf", ".svg"):
        raise ValueError(f"out={out} must end in .png, .pdf or .svg")
    patterns, metrics = ([*v] if is_list(v) else [v] for v in (config.runs, config.metrics))
    draw(read_runs(find_runs(patterns)), config.prompt, config.frames, metrics, out, config.window_seconds)
    print(f"figure: {config.out}")


def scored_windows(runs: list[Run], metrics: list[str], window_seconds: float | None) -> pd.DataFrame:
    """The curves of all metrics. Raises ValueError if one has no value, or a run has windows of another length only."""
    scores = read_scores(runs, window_seconds)
    if scores.other:
        raise ValueError(scores.other[0])
    table = scores.table[scores.table["protocol"] == "windows"]
    there = sorted(set(table.loc[table["value"].notna(), "metric"]))
    for metric in metrics:
        if metric not in there:
            known = f"there are {', '.join(there)}" if there else "run experiments.evaluate first"
            raise ValueError(f"metrics={metric} has no scores over windows; {known}")
    return curves(table[table["metric"].isin(metrics)].drop(columns="protocol"))


def draw(
    runs: list[Run], prompt: int, frames: int, metrics: list[str], out: Path, window_seconds: float | None = None
) -> None:
    """Rows of frames, one per run, over panels of the metrics' curves with 95 % bands over prompts.

    Raises ValueError for a prompt that the runs do not share, and for metrics that no run was scored with.
    """
    table = scored_windows(runs, metrics, window_seconds)
    shared = sorted(set.intersection(*({str(s["sample"]) for s in run.samples} for run in runs)))
    if not 0 <= prompt < len(shared):
        raise ValueError(f"prompt={prompt} must be one of 0..{len(shared) - 1}: the runs share {len(shared)} samples")
    colours = inks([run.label for run in runs], [run.is_real for run in runs])
    height = 0.82 * len(runs) + 2.6
    figure = plt.figure(figsize=(11, height), layout="constrained")
    top, bottom = figure.subfigures(2, 1, squeeze=False, height_ratios=[0.82 * len(runs) + 0.3, 2.3])[:, 0]
    text = ""
    strips = top.subplots(len(runs), 1, squeeze=False)[:, 0]
    for axis, run, ink in zip(strips, runs, colours, strict=True):
        sample = next(s for s in run.samples if s["sample"] == shared[prompt])
        text = str(sample["prompt"])
        video, fps = read_video(run.path / "samples" / str(sample["video"]))
        index = np.linspace(0, len(video) - 1, frames).round().astype(int)
        gap = np.full((video.shape[1], max(2, video.shape[2] // 16), 3), 255, np.uint8)
        row = [part for i in index for part in (video[i], gap)][:-1]
        axis.imshow(np.concatenate(row, 1), interpolation="nearest")
        axis.set_yticks([])
        axis.set_ylabel(run.label, rotation=0, ha="right", va="center", color=ink.light, fontweight="bold")
        step = video.shape[2] + gap.shape[1]
        axis.set_xticks([n * step + video.shape[2] / 2 for n in range(frames)])
        axis.set_xticklabels([f"{i / fps:.0f} s" for i in index] if run is runs[-1] else [])
        axis.tick_params(length=0)
        for spine in axis.spines.values():
            spine.set_visible(False)
    top.suptitle(f"“{text}”", fontsize=10, style="italic")
    panels = bottom.subplots(1, len(metrics), squeeze=False)[0]
    for axis, metric in zip(panels, metrics, strict=True):
        for run, ink in zip(runs, colours, strict=True):
            rows = table[(table["run"] == run.name) & (table["metric"] == metric)]
            t = (rows["t_start"] + rows["t_end"]) / 2
            axis.plot(t, rows["mean"], color=ink.light, lw=1.4, ls="--" if run.is_real else "-", label=run.label)
            if not run.is_real:
                axis.fill_between(t, rows["low"], rows["high"], color=ink.light, alpha=0.15, lw=0)
        axis.set_title(metric.replace("_", " "), fontsize=10, loc="left")
        axis.set_xlabel("seconds", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
        trained = runs[0].train_seconds
        if trained:
            axis.axvline(trained, color="#999999", lw=0.8, ls=":")
    with atomic_path(out) as partial:
        figure.savefig(partial, dpi=110, format=out.suffix[1:])
    plt.close(figure)


main = command("filmstrip")(filmstrip_task)

if __name__ == "__main__":
    main()
