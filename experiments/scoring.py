"""Which measurements are asked for, and their way over groups of videos with a bar on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from omegaconf import DictConfig
from rich.console import Console

from eval.measure.metric import Metric, check_protocol
from eval.metrics import ACROSS, DIMENSIONS, OVER_TIME, WEIGHT_FREE
from eval.metrics.vbench.clip_to_clip import BetweenClips, fused, read_fusion
from eval.protocol import Protocol
from eval.score import Scored, score
from eval.store import COLUMNS, KEYS, add_rows, scores_path, settle
from eval.videos import Videos
from experiments.command.terminal import bar
from experiments.command.words import is_list, shown


def choose(names: Any, protocol: Protocol) -> list[Metric]:
    """Metrics by name; "all": everything that the protocol can score. Raises ValueError that lists the known ones."""
    every: list[Metric] = [*DIMENSIONS, *OVER_TIME, *WEIGHT_FREE, *ACROSS]
    fit: list[Metric] = every if protocol.name == "windows" else [*DIMENSIONS]
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


def compare_clips(config: DictConfig, protocol: Protocol, metrics: Sequence[Metric]) -> list[BetweenClips]:
    """What the clip-to-clip mode needs beside the in-clip scores. Raises ValueError before long work."""
    if not protocol.encodes:
        raise ValueError("clip_to_clip is a mode of VBench-Long: use it with protocol=vbench_long")
    checkout = Path(str(config.clip_to_clip))
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
