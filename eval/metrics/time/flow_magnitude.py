"""How fast the fastest part of a clip moves: the number behind VBench's dynamic degree, before its threshold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Value
from eval.networks.flow import SampledFlow


@dataclass(frozen=True)
class FlowMagnitude(Metric):
    """Mean over a clip's sampled pairs of the mean length of the longest 5 % of RAFT's flow (px in about 1/8 s).

    Frames, padding and the 5 % are those of VBench 0.1.5's dynamic degree (dynamic_degree.py), whose flows are shared.
    Its last over its first seconds are the motion decay (eval.stats.drift). NaN for fewer than two sampled frames or a side
    of up to 120 px.
    """

    name: ClassVar[str] = "flow_magnitude"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("flow_magnitude", "px per sampled frame", None, "mean length of the longest 5 % of RAFT's flow"),
    )
    weights: ClassVar[tuple[str, ...]] = ("raft",)

    def start(self, info: ClipInfo, device: torch.device) -> MeanMagnitude:
        return MeanMagnitude(info, device)


class MeanMagnitude:
    """The scorer."""

    def __init__(self, clip: ClipInfo, device: torch.device) -> None:
        self._flow = SampledFlow(clip, device)
        self._sum, self._count = 0.0, 0

    def add(self, batch: Batch, first: int) -> None:
        magnitudes = self._flow.measure(self._flow.pairs(batch, first))
        self._sum += sum(magnitudes)
        self._count += len(magnitudes)

    def finish(self) -> float:
        return self._sum / self._count if self._count else float("nan")
