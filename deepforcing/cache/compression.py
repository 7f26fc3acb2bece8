"""Participative Compression (paper, section 4.3, algorithm 1): retention by single tokens, chosen per layer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from deepforcing.cache.policy import Compress, Slot
from deepforcing.cache.scorers import QueryKey, Scorer


@dataclass(frozen=True)
class ParticipativeCompression:
    """When the window is full: sink + the best tokens + the recent frames, `budget_frames` in all. Latent frames.

    window_frames: the cache fills up to this before it is compressed. sink_frames S, budget_frames N, recent_frames R
    (the current chunk counts among them): the N - S - R frames' worth of tokens between are chosen by `scorer`.
    queries: which queries score: the chunk being denoised ("denoising"), the clean past among the R recent frames
    ("past"), or both. Selection happens at the first denoising step of a chunk and holds for its other steps and for
    the commit. per_head: every head chooses for itself. reuse_limit: how often a token may be chosen (None: always).
    every_pass: recent queries are those of the last R frames over all passes, not only commits; differs from the paper
    for R > 2 chunks only (the released code).
    """

    window_frames: int = 21
    sink_frames: int = 10
    budget_frames: int = 16
    recent_frames: int = 4
    queries: Literal["denoising", "past", "both"] = "both"
    scorer: Scorer = field(default_factory=QueryKey)
    per_head: bool = False
    reuse_limit: int | None = None
    every_pass: bool = False

    def __post_init__(self) -> None:
        s, n, r, w = self.sink_frames, self.budget_frames, self.recent_frames, self.window_frames
        if s < 0 or r < 1:
            raise ValueError(f"sink_frames={s} must be at least 0 and recent_frames={r} at least 1")
        if s >= w:
            raise ValueError(f"sink_frames={s} must be below window_frames={w}; the paper uses 10 of 21")
        if n > w:
            raise ValueError(f"budget_frames={n} must not exceed window_frames={w}; the paper compresses 21 to 16")
        if r + s > n:
            raise ValueError(
                f"recent_frames={r} and sink_frames={s} do not fit into budget_frames={n}; "
                "the paper uses 4 + 10 of 16, which leaves 2 frames for the chosen tokens"
            )
        if self.queries not in ("denoising", "past", "both"):
            raise ValueError(f"queries={self.queries!r} must be 'denoising', 'past' or 'both'")
        if self.reuse_limit is not None and self.reuse_limit < 1:
            raise ValueError(f"reuse_limit={self.reuse_limit} must be at least 1, or null for no limit")

    def check(self, chunk_frames: int) -> None:
        if self.recent_frames < chunk_frames and not self.every_pass:
            raise ValueError(
                f"recent_frames={self.recent_frames} must hold the current chunk of {chunk_frames} latent frames"
            )
        if self.sink_frames + max(chunk_frames, self.recent_frames) > self.budget_frames:
            raise ValueError(
                f"sink_frames={self.sink_frames} and the current chunk of {chunk_frames} do not fit into "
                f"budget_frames={self.budget_frames}"
            )
        if self.queries == "past" and self.recent_frames == chunk_frames:
            raise ValueError(
                f"queries='past' needs clean frames among the recent ones: recent_frames={self.recent_frames} is all "
                f"current chunk; use {chunk_frames + 1} or more"
            )

    def capacity(self, chunk_frames: int) -> int | None:
        return self.window_frames

    def role(self, frame: int) -> Literal["sink", "tail"]:
        return "sink" if frame < self.sink_frames else "tail"

    def decide(self, slots: tuple[Slot, ...], chunk_frames: int) -> tuple[int, ...] | Compress:
        if len(slots) + chunk_frames <= self.window_frames:
            return tuple(range(len(slots)))
        top = self.budget_frames - self.sink_frames - self.recent_frames
        return Compress(self.sink_frames, top, self.recent_frames)
