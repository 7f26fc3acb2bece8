"""One pass over a video's frames: every observation that some metric needs is made once, and the frames are let go."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eval.metric import Clip, Frame, Look, Metric, Observation, Video


class Watch:
    """Watches a video go by.

        watch = Watch(video, metrics)
        for frames in batches:
            watch.add(frames)
        clip = watch.finish()

    Where the cuts between batches lie does not matter. frames: how many to expect, so that room for what is noted of them
    is made once and not copied as it grows; there may be more or fewer.
    """

    def __init__(self, video: Video, metrics: Iterable[Metric], frames: int = 256) -> None:
        self.video = video
        self.frames = 0
        self._looks: dict[Observation, Look] = {}
        self._notes: dict[Observation, NDArray[Any]] = {}
        self._expected = max(1, frames)
        self._refused: dict[Observation, str] = {}
        for observation in dict.fromkeys(one for metric in metrics for one in metric.observes):
            try:
                self._looks[observation] = observation(video)
            except ValueError as error:  # the matter of the metrics that need it: the others can still be scored
                self._refused[observation] = str(error)

    def add(self, frames: NDArray[np.uint8]) -> None:
        """The next frames, uint8 [b, H, W, 3]. Raises ValueError if they are not, or not of the video's size."""
        expected = (self.video.height, self.video.width, 3)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != expected:
            size = f"[b, {self.video.height}, {self.video.width}, 3]"
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}; they must be uint8 [b, H, W, 3] = {size}"
            )
        for rgb in frames:
            frame = Frame(rgb, self.video.pixel_scale)
            for observation, look in self._looks.items():
                note = look(frame)
                if note is not None:
                    self._keep(observation, np.asarray(note))
            self.frames += 1

    def _keep(self, observation: Observation, note: NDArray[Any]) -> None:
        notes = self._notes.get(observation)
        if notes is None:
            notes = np.empty((self._expected, *note.shape), note.dtype)  # untouched, it takes no memory yet
        elif self.frames == len(notes):
            notes = np.concatenate([notes, np.empty_like(notes)])
        notes[self.frames] = note
        self._notes[observation] = notes

    def finish(self) -> Clip:
        """What was observed, after the last frame. Raises ValueError if there was no frame at all."""
        if not self.frames:
            raise ValueError("the video has no frames")
        noted: dict[Observation, Any] = {seen: notes[: self.frames] for seen, notes in self._notes.items()}
        noted |= {seen: look.finish() for seen, look in self._looks.items() if hasattr(look, "finish")}
        return Clip(self.video, self.frames, noted, self._refused)
