"""What a VBench dimension is: a clip's frames in, batch by batch, and one number out.

A clip is whatever the protocol cuts from a video (eval/protocol.py): all of it, two seconds of it, a window. A dimension
knows nothing of protocols and never sees a whole video at once, so memory is bounded by a batch.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Protocol, runtime_checkable

import torch

from eval.batch import Batch
from eval.metric import Value


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip before its frames come. fps: frames a second, as the clip's file would say."""

    frames: int
    fps: float
    height: int
    width: int
    prompt: str | None = None


class ClipScorer(Protocol):
    """One dimension at work on one clip."""

    def add(self, batch: Batch, first: int) -> None:
        """The next frames, in order, each exactly once; `first` is the index in the clip of the batch's first frame.

        A batch may be shared with other dimensions and, where clips overlap, with other clips: what depends on the
        frames alone is computed through `batch.kept`.
        """

    def value(self) -> float:
        """The score, 0..1 in VBench's sense (vbench 0.1.5), after the last frame; NaN if there was nothing to measure."""


@runtime_checkable
class Dimension(Protocol):
    """A VBench dimension. A change that may move a score is a new `version`.

    weights: the names in eval.weights.FILES of what it loads. Networks are loaded once per process and device, at the
    first `start`. needs_prompt: whether ClipInfo.prompt must be there.
    """

    name: ClassVar[str]
    version: ClassVar[int]
    values: ClassVar[tuple[Value, ...]]
    weights: ClassVar[tuple[str, ...]]
    needs_prompt: ClassVar[bool]

    def start(self, clip: ClipInfo, device: torch.device) -> ClipScorer:
        """A scorer for one clip. Raises ValueError in one line if the clip cannot be measured at all."""
