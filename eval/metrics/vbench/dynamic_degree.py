"""VBench's dynamic degree: whether a clip moves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Value
from eval.networks.flow import SampledFlow


@dataclass(frozen=True)
class DynamicDegree(Metric):
    """1 if at least round(n / 4) of the pairs of a clip's n sampled frames move fast, else 0, as VBench 0.1.5 has it.

    A pair moves fast if the mean length of the longest 5 % of RAFT's flow is over 6 px for each 256 px of the shorter
    side. The mean over clips is the published number (dynamic_degree.py; VBench, arXiv 2311.17982). Pairs are measured
    until the answer is certain. Two sampled frames need no fast pair (round(2 / 4) = 0) and one is static; frames with a
    side of up to 120 px have no flow and are static: all three as in the package.
    """

    name: ClassVar[str] = "dynamic_degree"
    version: ClassVar[int] = 1
    values: ClassVar[tuple[Value, ...]] = (
        Value("dynamic_degree", "0 or 1", True, "whether a quarter of RAFT's flows are fast", share=True),
    )
    weights: ClassVar[tuple[str, ...]] = ("raft",)

    def start(self, info: ClipInfo, device: torch.device) -> Moves:
        return Moves(info, device)


class Moves:
    """The scorer."""

    def __init__(self, clip: ClipInfo, device: torch.device) -> None:
        self._flow = SampledFlow(clip, device)
        self._threshold = 6 * (min(clip.height, clip.width) / 256)
        self._left = self._flow.sampled - 1  # pairs not measured yet
        # Fast pairs still missing. The package looks at its count after a pair only, so without one nothing moves.
        self._missing = round(4 * (self._flow.sampled / 16)) if self._left else 1

    def add(self, batch: Batch, first: int) -> None:
        if self._certain():
            return
        pairs = self._flow.pairs(batch, first)
        while pairs and not self._certain():
            # Neither answer can be reached with fewer pairs than this, so none of them is measured in vain.
            at_least = min(self._missing, self._left - self._missing + 1)
            now, pairs = pairs[:at_least], pairs[at_least:]
            self._missing -= sum(self._flow.over(now, self._threshold))
            self._left -= len(now)

    def finish(self) -> float:
        return float(self._missing <= 0)

    def _certain(self) -> bool:
        return self._missing <= 0 or self._missing > self._left
