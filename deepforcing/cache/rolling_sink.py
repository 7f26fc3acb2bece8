"""Rolling Sink: a sliding window whose past is, but for the latest chunk, the video's first frames played over and over."""

from __future__ import annotations

from dataclasses import dataclass

from deepforcing.cache.policy import Needs, Plan, Retention, View
from deepforcing.cache.retention import Copies


@dataclass(frozen=True)
class RollingSink(Retention):
    """Self Forcing's window, in which every chunk gives way to a replayed one as soon as the next has been read.

    The first `window_frames` less a chunk are kept for ever and played to and fro, backwards first, time reversed but
    not space. What is read: replayed frames, the real chunk before, the current chunk; until the window is full and
    slides once, the real frames. With `alignment: slot` the replayed stand at the frames that they replace, as published.
    A change of prompt leaves the cache as it is.

    Source: Rolling Sink (arXiv 2602.07775), its release at d7fc0d9f. Deviation: the release ends with its rotary table of
    8192 positions; this does not end.
    """

    window_frames: int = 21

    def check(self, chunk_frames: int) -> None:
        if self.window_frames % chunk_frames or self.window_frames < 3 * chunk_frames:
            raise ValueError(
                f"window_frames={self.window_frames} must be whole chunks of {chunk_frames} latent frames, three or more: "
                "replayed frames, the chunk before and the current one; Rolling Sink uses 21"
            )

    def budget(self, frames: int, chunk_frames: int) -> dict[str, int]:
        return {"window_frames": frames}

    def capacity(self, chunk_frames: int) -> int | None:
        return 2 * self.window_frames - chunk_frames

    def needs(self, chunk_frames: int) -> Needs:
        return Needs(raw=True, reads=self.window_frames)

    def plan(self, view: View) -> Plan:
        past, chunk = len(view.slots), view.chunk
        kept = self.window_frames - chunk  # of the window, and of the video's beginning
        if past <= kept:
            return Plan(tuple(range(past)))
        stored = [i for i in range(past) if i < kept or i >= past - kept]
        if view.start == self.window_frames:
            return Plan(tuple(stored), tuple(range(len(stored) - kept, len(stored))))
        replayed = self.replayed(view.start - 2 * chunk, chunk)
        copies = Copies("replay", replayed, tuple(view.slots[i].frame for i in replayed))
        old = [i for i in stored if i < past - 2 * chunk]
        count = len(old) + 2 * chunk
        return Plan((*old, copies, *range(past - chunk, past)), tuple(range(count - kept, count)))

    def replayed(self, frame: int, chunk_frames: int) -> tuple[int, ...]:
        """Which of the first frames stand where the chunk that began at `frame` was."""
        length = self.window_frames - chunk_frames
        turn, at = divmod(frame, length)
        first = range(at, at + chunk_frames)
        return tuple(first) if turn % 2 == 0 else tuple(length - 1 - i for i in first)
