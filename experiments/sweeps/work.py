"""One point of a sweep made and scored: all that whoever runs points elsewhere has to call."""

from __future__ import annotations

from dataclasses import replace

import torch
from omegaconf import DictConfig
from rich.console import Console

from eval.metrics.vbench.quality import QUALITY
from eval.protocol import Protocol
from experiments.command.words import is_list
from experiments.reproduction.plan import Planned
from experiments.reproduction.work import Results, make_reference, make_videos, score_videos
from experiments.sweeps.points import Point, Points
from experiments.tables.published import PaperRow, column
from experiments.tables.table import DIMENSIONS, Column


def columns_of(config: DictConfig) -> tuple[Column, ...]:
    """What is measured of every point. Raises ValueError for names that nobody knows."""
    metrics, protocol, number = config.metrics, str(config.protocol), str(config.number)
    Protocol(protocol, float(config.window_seconds))
    if number != "mean" and protocol in ("vbench", "vbench_last"):
        raise ValueError(f"number={number} needs several scores of a video; {protocol} has one: say number=mean")
    names = (*DIMENSIONS, QUALITY.name) if metrics == "vbench" else metrics if is_list(metrics) else [metrics]
    return tuple(column(str(name), number, protocol) for name in dict.fromkeys(names))


def planned(config: DictConfig, points: Points, columns: tuple[Column, ...]) -> Planned:
    """The points as rows of an experiment that nobody has published. columns: what is measured."""
    protocol = Protocol(str(config.protocol), float(config.window_seconds))
    rows = tuple(PaperRow(point.name, point.name, point.words) for point in points.made)
    configs = {point.name: point.config for point in points.made}
    return Planned(
        str(config.sweep.title), rows, configs, points.left_out, points.samples, points.world, (), columns,
        {protocol.name: protocol}, "", False,
    )  # fmt: skip


def run_point(point: Point, of: Planned, config: DictConfig, device: torch.device, out: Console) -> Results:
    """Whatever is missing of its videos and scores. Points are independent: in any order, at once, wherever runs_root is seen;
    made again they do nothing. A failure is in the results, not raised."""
    results = Results()
    alone = replace(of, configs={point.name: point.config}, world=None)
    make_videos(alone, results, out)
    score_videos(alone, results, device, str(config.shard), out)
    return results


def make_real(of: Planned, config: DictConfig, device: torch.device, out: Console) -> Results:
    """The embedded world's real videos of the same prompts, and their scores; nothing for other models."""
    results = Results()
    make_reference(of, results)
    score_videos(of, results, device, str(config.shard), out)
    return results
