"""Temporal recency bias: older chunks weigh less in denoising passes, and the less the later the step."""

from __future__ import annotations

from dataclasses import dataclass

from deepforcing.cache.policy import View


@dataclass(frozen=True)
class RecencyBias:
    """-strength * dt^(gamma * 2^t) at the denoising step t = 1, 2, ...; dt in 0..1 is a cached frame's distance from the
    current chunk, in whole chunks, beyond `recent_frames` and in units of `history_frames`.

    The first sink_frames of what is read have none, whether or not the retention calls them sink. Sizes in latent frames.
    Source: Recency Forcing (arXiv 2609.19729) as re-implemented in Commit Forcing's repository, whose runs are the recordings
    that this is checked against.
    """

    strength: float = 4.0
    gamma: float = 0.1
    recent_frames: int = 3
    history_frames: int = 12
    sink_frames: int = 3

    def __post_init__(self) -> None:
        if self.gamma < 0:
            raise ValueError(f"gamma={self.gamma} must be at least 0; Recency Forcing has 0.1")
        if self.recent_frames < 0 or self.history_frames < 1 or self.sink_frames < 0:
            raise ValueError(
                f"recent_frames={self.recent_frames} and sink_frames={self.sink_frames} must be at least 0 and "
                f"history_frames={self.history_frames} at least 1"
            )

    def logits(self, view: View, step: int) -> list[float]:
        """One per slot of view.slots. step: 0-based denoising step."""
        frames = len(view.slots) + view.chunk
        exponent = self.gamma * 2 ** (step + 1)
        biases = []
        for i in range(len(view.slots)):
            behind = (frames - 1 - i) // view.chunk * view.chunk - self.recent_frames
            dt = min(1.0, max(0, behind) / self.history_frames)
            biases.append(0.0 if i < self.sink_frames or dt == 0 else -self.strength * dt**exponent)
        return biases
