"""VBench's overall consistency: how well a clip shows its prompt."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Value
from eval.networks import viclip
from eval.networks.weights import required


@dataclass(frozen=True)
class OverallConsistency(Metric):
    """Cosine of ViCLIP's embeddings of a clip and of its prompt, as VBench 0.1.5 computes it.

    Eight frames are seen, the middle ones of eight equal intervals; a shorter clip repeats its last frame. Only the first
    30 tokens of the prompt count (overall_consistency.py; VBench, arXiv 2311.17982).
    """

    name: ClassVar[str] = "overall_consistency"
    version: ClassVar[int] = 2  # 1 scored prompt schedules against their text
    values: ClassVar[tuple[Value, ...]] = (
        Value("overall_consistency", "cosine", True, "ViCLIP similarity of video and prompt"),
    )
    weights: ClassVar[tuple[str, ...]] = ("viclip", "viclip_vocabulary")
    needs_prompt: ClassVar[bool] = True

    def start(self, info: ClipInfo, device: torch.device) -> Shown:
        return Shown(info, device)


def chosen(frames: int) -> list[int]:
    """The indices of the frames that are seen, in order and without repetition."""
    count = min(viclip.FRAMES, frames)
    borders = np.linspace(0, frames, count + 1).astype(int)
    return [int(start + end - 1) // 2 for start, end in itertools.pairwise(borders)]


class Shown:
    """The scorer."""

    def __init__(self, clip: ClipInfo, device: torch.device) -> None:
        if clip.prompt is None:
            raise ValueError("overall_consistency needs the clip's prompt")
        self._prompt, self._device = clip.prompt, device
        self._network = viclip.load(required("viclip"), required("viclip_vocabulary"), device)
        self._chosen = set(chosen(clip.frames))
        self._frames: list[Tensor] = []

    def add(self, batch: Batch, first: int) -> None:
        for index in range(len(batch)):
            if first + index in self._chosen:
                self._frames.append(viclip.fit(batch.bytes_on(self._device)[index]))

    def finish(self) -> float:
        if not self._frames:
            return float("nan")
        repeated = [self._frames[-1]] * (viclip.FRAMES - len(self._frames))
        video = self._network.video(torch.stack(self._frames + repeated))
        return float(video @ self._network.text(self._prompt))
