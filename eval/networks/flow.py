"""The optical flow of a clip between the frames that VBench's dynamic degree looks at: every round(fps / 8)-th."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import cast

import torch
from torch import Tensor

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo
from eval.networks import backend, raft
from eval.networks.batches import in_parts, pairs_at_once
from eval.networks.weights import required

RATE = 8  # sampled frames a second, about


class Frame:
    """A sampled frame: pixels float [1, 3, H, W] in 0..255, padded, and its features once they are needed."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = raft.pad(pixels.float().contiguous())
        self.features: Tensor | None = None


class Pair:
    """Two sampled frames, one after the other. magnitude: mean length of the longest 5 % of the flow (px), once known.

    coarse: the flow of cells, where that is known and the magnitude is not.
    """

    def __init__(self, frame: Frame, following: Frame) -> None:
        self.frame, self.following = frame, following
        self.coarse: raft.Coarse | None = None
        self.magnitude: float | None = None


class SampledFlow:
    """Finds a clip's pairs as its frames come, and measures those that are asked for.

    Frames and pairs are kept with their batch, so that metrics and overlapping clips share features and flows; from one
    batch to the next only the last sampled frame stays. sampled: how many frames the whole clip has to give.
    """

    def __init__(self, clip: ClipInfo, device: torch.device) -> None:
        if min(clip.height, clip.width) <= raft.SMALLEST - raft.CELL:
            raise ValueError(
                f"optical flow needs frames of more than {raft.SMALLEST - raft.CELL} x {raft.SMALLEST - raft.CELL} pixels;"
                f" these have {clip.height} x {clip.width}"
            )
        self._network = raft.load(required("raft"), device)
        self._device = device
        self._together = pairs_at_once(clip.height, clip.width, device)
        self._by_steps = device.type == "cpu" and backend.in_use is None
        self._interval = max(1, round(clip.fps / RATE))
        self._last: Frame | None = None
        self.sampled = -(-clip.frames // self._interval)

    def pairs(self, batch: Batch, first: int) -> list[Pair]:
        """The pairs that end in this batch; nothing is measured yet."""
        found = []
        for index in range(-first % self._interval, len(batch), self._interval):
            key = ("flow", self._device, self._interval, index)
            frame = batch.kept((*key, "frame"), partial(self._frame, batch, index))
            if self._last is not None:
                found.append(batch.kept((*key, "pair"), partial(Pair, self._last, frame)))
            self._last = frame
        return found

    def measure(self, pairs: Sequence[Pair]) -> list[float]:
        """The magnitude of each pair, several at once where that is faster."""
        for some in self._groups([pair for pair in pairs if pair.magnitude is None]):
            if self._by_steps:
                self._approach([pair for pair in some if pair.coarse is None])
                parts = zip(*(cast(raft.Coarse, pair.coarse) for pair in some), strict=True)
                flow = self._network.fine(raft.Coarse(*map(torch.cat, parts)))
            else:
                flow = self._network.flow(*self._given(some), self._together)
            for pair, magnitude in zip(some, raft.top_magnitude(flow).tolist(), strict=True):
                pair.magnitude, pair.coarse = magnitude, None
        return [pair.magnitude for pair in pairs if pair.magnitude is not None]

    def over(self, pairs: Sequence[Pair], threshold: float) -> list[bool]:
        """Whether each pair's magnitude is over a threshold (px).

        On a CPU no flow is upsampled whose cells tell that it is not. On a GPU all of a flow may be one recording, and it
        would wait for the answer.
        """
        unsure = [pair for pair in pairs if pair.magnitude is None]
        if self._by_steps:
            for some in self._groups([pair for pair in unsure if pair.coarse is None]):
                self._approach(some)
            unsure = [p for p in unsure if not float(raft.most_magnitude(cast(raft.Coarse, p.coarse))) < threshold]
        self.measure(unsure)
        return [pair.magnitude is not None and pair.magnitude > threshold for pair in pairs]

    def _frame(self, batch: Batch, index: int) -> Frame:
        return Frame(batch.bytes_on(self._device)[index : index + 1])

    def _groups(self, pairs: Sequence[Pair]) -> Iterator[Sequence[Pair]]:
        for start in range(0, len(pairs), self._together):
            yield pairs[start : start + self._together]

    def _approach(self, pairs: Sequence[Pair]) -> None:
        """Everything but the upsampling."""
        if pairs:
            coarse = self._network.coarse(*self._given(pairs))
            for index, pair in enumerate(pairs):
                pair.coarse = raft.Coarse(*(part[index : index + 1] for part in coarse))

    def _given(self, pairs: Sequence[Pair]) -> tuple[Tensor, Tensor, Tensor]:
        """Pixels and features of the frames, and features of those that follow; features that are missing are computed."""
        frames = {frame: None for pair in pairs for frame in (pair.frame, pair.following) if frame.features is None}
        if frames:
            computed = in_parts(self._network.features, torch.cat([frame.pixels for frame in frames]), 1)
            for frame, features in zip(frames, computed.chunk(len(frames)), strict=True):
                frame.features = features
        return (
            torch.cat([pair.frame.pixels for pair in pairs]),
            torch.cat([cast(Tensor, pair.frame.features) for pair in pairs]),
            torch.cat([cast(Tensor, pair.following.features) for pair in pairs]),
        )
