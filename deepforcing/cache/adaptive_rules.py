"""Three training-free rules for the depth of a sink (adaptive_sink.py). Nothing here was published but the gate's idea.

Shapes: B batch, H heads, D head dim, S tokens per frame, F frames, T tokens.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from deepforcing.cache.adaptive_sink import AdaptiveSink, raw_keys, slots_of, values_of
from deepforcing.cache.policy import Needs, Pass, Past
from deepforcing.cache.scorers import AttentionMass
from deepforcing.wan.rope import rotate

if TYPE_CHECKING:
    from deepforcing.cache.observe import Seen


@dataclass(frozen=True)
class MassDepth(AdaptiveSink):
    """As many first frames as hold `share` of the attention that the last chunk of the first window pays to the first
    `most_frames`, summed over heads and queries of its clean pass. Decided once for a video and layer.

    Even attention gives share * most_frames, rounded up. Where the clean pass does not see these frames (cache.commit_frames)
    the depth is sink_frames.
    """

    share: float = 0.7

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share < 1:
            raise ValueError(f"share={self.share} must lie between 0 and 1; the preset's is 0.7")

    def needs(self, chunk_frames: int) -> Needs:
        return replace(super().needs(chunk_frames), watches=True, watched_frames=self.window_frames)

    def watch(self, seen: Seen, notes: dict[str, Any]) -> None:
        chunk = sum(slot.role == "chunk" for slot in seen.slots)
        if seen.kind != "commit" or not seen.start + chunk <= self.window_frames < seen.start + 2 * chunk:
            return
        at = {slot.frame: i for i, slot in enumerate(seen.slots)}
        first = range(self.most_frames)
        if not at.keys() >= set(first):
            return
        of_tokens = AttentionMass().score(seen.queries, seen.keys, 0).sum(1)
        of_slots = of_tokens.reshape(len(of_tokens), len(seen.slots), -1).sum(2)
        mass_BF = torch.stack([of_slots[:, at[frame]] for frame in first], 1)
        held = mass_BF.cumsum(1)
        depth = (held < self.share * held[:, -1:]).sum(1) + 1
        depth = depth.clamp(self.least_frames, self.most_frames)
        notes.setdefault("sink depth", {})[seen.layer] = depth, held[:, -1] / of_slots.sum(1)

    def depth(self, past: Past, chunk: Pass | None) -> tuple[Tensor, dict[str, Tensor]]:
        known = past.view.notes.get("sink depth", {}).get(past.layer)
        if known is None:
            values = past.values(range(1))
            return torch.full(values.shape[:1], self.sink_frames, device=values.device), {}
        return known[0], {"mass": known[1]}


@dataclass(frozen=True)
class MotionDepth(AdaptiveSink):
    """A frame less at every chunk while motion is below `still` times that of the first window; else a frame more while drift
    is above `drifted` times the most of the first window; else a frame towards sink_frames. Motion comes first: a sink too
    deep stops it.

    Both are of this layer's values, for each video. motion: mean over the newest chunk of |v_f - v_f-1| / |v_f|, norms over a
    frame's heads, tokens and channels. drift: |m - m_0| / |m_0|, m the mean value of a chunk over its tokens, m_0 that of the
    first chunk.
    """

    still: float = 0.8
    drifted: float = 1.5

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.still < 1:
            raise ValueError(f"still={self.still} must lie between 0 and 1; the preset's is 0.8")
        if self.drifted < 1:
            raise ValueError(f"drifted={self.drifted} must be at least 1; the preset's is 1.5")

    def check(self, chunk_frames: int) -> None:
        super().check(chunk_frames)
        if self.most_frames < chunk_frames:
            raise ValueError(
                f"most_frames={self.most_frames} must hold the first chunk of {chunk_frames}, from which drift is measured"
            )
        if self.window_frames - self.least_frames <= 2 * chunk_frames:
            raise ValueError(
                f"window_frames={self.window_frames} must hold least_frames={self.least_frames}, two chunks of {chunk_frames} "
                "and a frame, between which motion is measured"
            )

    def depth(self, past: Past, chunk: Pass | None) -> tuple[Tensor, dict[str, Tensor]]:
        view, notes = past.view, past.notes
        size = view.chunk
        newest = range(view.start - size, view.start)
        if "sink depth" not in notes:
            whole = self._frames(past, range(view.start))  # nothing has been dropped yet
            begun = [
                self._drift(whole[:, i : i + size], whole[:, :size]) for i in range(size, view.start - size + 1, size)
            ]
            notes["first motion"] = self._motion(whole)
            notes["first drift"] = torch.stack(begun).amax(0)
            notes["sink depth"] = torch.full(whole.shape[:1], self.sink_frames, device=whole.device)
        motion = self._motion(self._frames(past, range(newest.start - 1, newest.stop)))
        drift = self._drift(self._frames(past, newest), self._frames(past, range(size)))
        back = (self.sink_frames - notes["sink depth"]).sign()
        step = torch.where(drift > self.drifted * notes["first drift"], 1, back)
        step = torch.where(motion < self.still * notes["first motion"], -1, step)
        notes["sink depth"] = (notes["sink depth"] + step).clamp(self.least_frames, self.most_frames)
        return notes["sink depth"], {"motion": motion, "drift": drift}

    def _frames(self, past: Past, frames: range) -> Tensor:
        """float32 [B, F, S, H * D]."""
        values = values_of(past, slots_of(past.view, frames)).float().transpose(1, 2).flatten(2)
        return values.reshape(len(values), len(frames), past.slot_tokens, -1)

    def _motion(self, frames_BFSC: Tensor) -> Tensor:
        later, change = frames_BFSC[:, 1:].flatten(2), frames_BFSC.diff(dim=1).flatten(2)
        moved: Tensor = (change.norm(dim=2) / later.norm(dim=2)).mean(1)
        return moved

    def _drift(self, frames_BFSC: Tensor, first_BFSC: Tensor) -> Tensor:
        mean, first = frames_BFSC.mean((1, 2)), first_BFSC.mean((1, 2))
        drifted: Tensor = (mean - first).norm(dim=1) / first.norm(dim=1)
        return drifted


@dataclass(frozen=True)
class GateDepth(AdaptiveSink):
    """sink_frames, but least_frames in chunks where more than `gate` of the heads look at the sink: their mean query scores
    the mean key of the sink, as it would be read, above that of the newest `local_frames` of the past. Mean over the chunk's
    tokens, all rotated, in its first pass.

    Source: the gate of DySink (arXiv 2605.21028), known second hand: the comparison and the half. Deviations: what is left
    out gives its place to more recent frames, a part of the sink always stays, and local_frames is ours.
    """

    local_frames: int = 6
    gate: float = 0.5

    waits: ClassVar[bool] = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sink_frames < 1:
            raise ValueError("sink_frames=0 leaves the gate no sink to look at; DySink's has some, the preset 10")
        if not 0 <= self.gate < 1:
            raise ValueError(f"gate={self.gate} must be at least 0 and below 1; DySink's is 0.5")
        if not 1 <= self.local_frames <= self.window_frames - self.most_frames:
            raise ValueError(
                f"local_frames={self.local_frames} must be at least 1 and fit behind the sink: at most "
                f"{self.window_frames - self.most_frames} with most_frames={self.most_frames} of "
                f"window_frames={self.window_frames}"
            )

    def depth(self, past: Past, chunk: Pass | None) -> tuple[Tensor, dict[str, Tensor]]:
        assert chunk is not None
        start, first = past.view.start, past.view.start + past.view.chunk - self.window_frames
        query_BHD = chunk.queries.float().mean(2)

        def score(frames: range, positions: range) -> Tensor:
            keys = raw_keys(past, slots_of(past.view, frames)).float()
            return (query_BHD * rotate(keys, past.rope.frames(positions)).mean(2)).sum(2)

        sink = score(range(self.sink_frames), range(first, first + self.sink_frames))
        local = range(start - self.local_frames, start)
        share = (sink > score(local, local)).float().mean(1)
        depth = torch.where(share > self.gate, self.least_frames, self.sink_frames)
        return depth, {"share": share}
