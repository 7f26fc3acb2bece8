"""Random weights and small videos (benchmarks.vbench) for the VBench dimensions of motion and text."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.vbench import videos
from benchmarks.vbench.videos import write
from benchmarks.vbench.weights import write_amt, write_raft, write_viclip, write_vocabulary
from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric

__all__ = ["amt_weights", "batches", "moving", "score", "write", "write_raft", "write_viclip", "write_vocabulary"]


def amt_weights(cache: Path) -> None:
    """amt-s.pth, with what else a training run saves."""
    write_amt(cache, epoch=300, config=argparse.Namespace(lr=2e-4))


def moving(frames: int, height: int, width: int, speed: float, seed: int = 0) -> NDArray[np.uint8]:
    """uint8 [N, H, W, 3]."""
    return np.stack(list(videos.moving(frames, height, width, speed, seed)))


def batches(path: Path, cuts: tuple[int, ...] = (32,)) -> Iterator[tuple[Batch, int]]:
    """A video's batches and where each starts; their lengths are `cuts`, over and over."""
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    start, turn = 0, 0
    while start < len(decoded):
        length = cuts[turn % len(cuts)]
        yield Batch(decoded[start : start + length]), start
        start, turn = start + length, turn + 1


def score(dimension: Metric, video: Path, clip: ClipInfo, cuts: tuple[int, ...] = (32,)) -> float:
    """A video's score, its batches cut as `batches` cuts them."""
    scorer = dimension.start(clip, torch.device("cpu"))
    for batch, first in batches(video, cuts):
        scorer.add(batch, first)
    return scorer.finish()
