"""What is logged of runs and of groups of them, plain: numbers, curves, tables, and pictures of figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from eval.stats.drift import slope
from eval.stats.means import curves, first_last, overall
from eval.stats.samples import sample_means
from experiments.results.configs import differing, flatten
from experiments.results.runs import Run

RECORDED = ("label", "spec", "geometry", "world", "environment", "checkpoint", "command", "created")


@dataclass(frozen=True)
class Payload:
    """What is logged of a run, plain: no NaN anywhere, what was not measured is not there.

    steps: one mapping per window, over_time/<protocol>/<metric> with over_time/<protocol>/seconds, the window's middle.
    """

    config: Mapping[str, Any]
    summary: Mapping[str, float]
    steps: Sequence[Mapping[str, float]]
    tables: Mapping[str, pd.DataFrame]


def payload(run: Run, table: pd.DataFrame) -> Payload:
    """Everything that is logged of a run but its videos. table: the run's rows of the tidy table."""
    summary: dict[str, float] = {}
    means, drifts, slopes = overall(table), first_last(table), slope(table)
    for kind, frame, column in (
        ("score", means, "mean"),
        ("drift", drifts, "drift"),
        ("slope_per_minute", slopes, "mean"),
    ):
        for row in frame.to_dict("records"):
            summary[f"{kind}/{row.get('protocol', 'windows')}/{row['metric']}"] = row[column]
    keys = [key for key in ("protocol", "metric") if key in means]
    scores = means.merge(drifts.drop(columns=["run", "n"]), on=keys, how="left")
    scores = scores.merge(slopes[[*keys, "mean"]].rename(columns={"mean": "slope_per_minute"}), on=keys, how="left")
    of = {sample["sample"]: sample for sample in run.samples}
    samples = sample_means(table)
    prompts = [of.get(name, {}).get("prompt") for name in samples["sample"]]
    samples = samples[["sample", *keys, "value"]].assign(prompt=pd.Series(prompts, index=samples.index, dtype=object))
    return Payload(
        config={key: run.record[key] for key in RECORDED if run.record.get(key) is not None},
        summary={name: value for name, value in summary.items() if math.isfinite(value)},
        steps=steps(table),
        tables={"scores": scores.drop(columns="run"), "samples": samples},
    )


def steps(table: pd.DataFrame) -> list[dict[str, float]]:
    """Means over prompts, one step per window; protocols side by side. One clip a video (vbench, vbench_last) is no curve."""
    found: list[dict[str, float]] = []
    lengths = table["t_end"] - table["t_start"]
    shortest = lengths.groupby(table.get("protocol", pd.Series("windows", index=table.index))).transform("min")
    rows = curves(table[lengths < 1.5 * shortest])  # rows of whole videos among windows are no curve either
    rows = rows.assign(protocol=rows.get("protocol", "windows"))
    for protocol, part in rows[~rows["protocol"].isin(["vbench", "vbench_last"]) & rows["mean"].notna()].groupby(
        "protocol"
    ):
        for k, ((start, end), window) in enumerate(part.groupby(["t_start", "t_end"])):
            found += [{}] * (k + 1 - len(found))
            values = {
                f"over_time/{protocol}/{m}": float(v) for m, v in zip(window["metric"], window["mean"], strict=True)
            }
            found[k] = {**found[k], **values, f"over_time/{protocol}/seconds": (start + end) / 2}
    return found


def coordinates(runs: Sequence[Run], table: pd.DataFrame) -> pd.DataFrame:
    """A line per run: the settings in which the runs differ, and score and drift by protocol and metric; None: it has none."""
    keys = [key for key in differing([run.config for run in runs]) if key not in ("prompts", "seeds")]
    lines = []
    for run in runs:
        flat = flatten(run.config)
        settings = {key: flat.get(key) for key in keys}
        plain = {k: v if v is None or isinstance(v, (int, float, str)) else json.dumps(v) for k, v in settings.items()}
        numbers = payload(run, table[table["run"] == run.name]).summary
        scores = {name: value for name, value in numbers.items() if name.startswith(("score/", "drift/"))}
        lines.append({"run": run.label, **plain, **scores})
    found = pd.DataFrame(lines)
    return found.astype(object).where(found.notna(), None)


def pictures(runs: Sequence[Run], figures: Sequence[str], folder: Path) -> tuple[dict[str, Path], list[str]]:
    """{name: a .png in the folder} of figures in conf/figure/, drawn of the runs as `experiments.figure` draws them, and of
    .png files as they are; and a line for each figure that these runs cannot have."""
    from hydra.utils import instantiate

    from experiments.command.compose import compose
    from experiments.command.words import describe
    from experiments.figures.figure import drawn, save  # matplotlib

    found, lacking = {}, []
    for name in figures:
        if name.endswith(".png"):
            found[Path(name).stem] = Path(name)
            continue
        try:  # no figure is worth the scores beside it
            figure = instantiate(compose("figure", [f"figure={name}", "runs=[]"]).figure, _convert_="object")
            save(drawn(figure, figure.read([run.path for run in runs])), folder / f"{name}.png")
            found[name] = folder / f"{name}.png"
        except Exception as error:
            lacking.append(f"no figure {name}: {describe(error)}")
    return found, lacking
