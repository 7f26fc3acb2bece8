"""What is noted of every frame of a video, once for all metrics that look at it, while the frames pass and are let go.

So memory grows by a few kilobytes a frame, whatever the frame's size. Frames are numpy uint8 RGB. N frames, H and W pixels
of the file, W windows where a docstring says so.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal, Protocol

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Row, Scorer, rows_of
from eval.measure.windows import FloatArray, Window


class Frame:
    """One frame while it passes. rgb: uint8 [H, W, 3], a part of a batch: copy what is to outlast it."""

    def __init__(self, rgb: NDArray[np.uint8], pixel_scale: int) -> None:
        self.rgb = rgb
        self.pixel_scale = pixel_scale

    @functools.cached_property
    def luma(self) -> NDArray[np.float32]:
        """Luma (BT.601) in decoded pixels, [H / scale, W / scale] in 0..255. Not to be written to."""
        grey = cv2.cvtColor(self.rgb, cv2.COLOR_RGB2GRAY).astype(np.float32)
        if self.pixel_scale > 1:
            size = (grey.shape[1] // self.pixel_scale, grey.shape[0] // self.pixel_scale)
            grey = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
        return grey


# Something to note of every frame of a video: called once per video, it returns what is then called with each frame in
# order and gives a number or a small array (of the same shape every time) that is no view of the frame. One that looks at
# several frames together gives None instead, and has a method `finish`: what that returns after the last frame is what was
# observed. Metrics that name the same observation share it. It raises ValueError in one line if a video cannot be observed so.
Look = Callable[[Frame], float | NDArray[Any] | None]
Observation = Callable[[ClipInfo], Look]


@dataclass(frozen=True, eq=False)
class Clip:
    """A video whose frames have passed, and what was observed of them (made by Watch).

    frames: how many, N. noted: [N, ...] per observation. refused: why there is none, for those that could not be made.
    Hashed by identity, so that work can be shared between metrics.
    """

    info: ClipInfo
    frames: int
    noted: Mapping[Observation, Any]
    refused: Mapping[Observation, str]

    def observed(self, observation: Observation) -> Any:
        """What an observation gave for each frame, [N, ...], or made of all. Raises ValueError if it could not be made.

        KeyError if no metric of the Watch names it in `observes`.
        """
        if observation in self.refused:
            raise ValueError(self.refused[observation])
        return self.noted[observation]


class Watch:
    """Watches a video go by.

        watch = Watch(info, observations)
        for frames in batches:
            watch.add(frames)
        clip = watch.finish()

    Where the cuts between batches lie does not matter. There may be more or fewer frames than info.frames, for which room
    is made once, so that what is noted is not copied as it grows.
    """

    def __init__(self, info: ClipInfo, observations: Iterable[Observation] = ()) -> None:
        self.info = info
        self.frames = 0
        self._clip: Clip | None = None
        self._fault = ""
        self._looks: dict[Observation, Look] = {}
        self._notes: dict[Observation, NDArray[Any]] = {}
        self._expected = max(1, info.frames)
        self._refused: dict[Observation, str] = {}
        self.look_for(observations)

    def look_for(self, observations: Iterable[Observation]) -> None:
        """Before the first frame: observe these too. What is observed already is not observed twice."""
        for observation in observations:
            if observation in self._looks or observation in self._refused:
                continue
            if self.frames:
                raise ValueError("frames have passed already")
            try:
                self._looks[observation] = observation(self.info)
            except ValueError as error:  # the matter of the metrics that need it: the others can still be scored
                self._refused[observation] = str(error)

    def add(self, frames: NDArray[np.uint8]) -> None:
        """The next frames, uint8 [b, H, W, 3]. Raises ValueError if they are not, or not of the video's size, or cannot be
        looked at: then nothing more is observed, and `finish` says it again.
        """
        expected = (self.info.height, self.info.width, 3)
        if frames.dtype != np.uint8 or frames.ndim != 4 or frames.shape[1:] != expected:
            size = f"[b, {self.info.height}, {self.info.width}, 3]"
            raise ValueError(
                f"frames are {frames.dtype} {list(frames.shape)}; they must be uint8 [b, H, W, 3] = {size}"
            )
        try:
            self._look(frames)
        except ValueError as error:
            self._fault = str(error)
            raise

    def _look(self, frames: NDArray[np.uint8]) -> None:
        for rgb in frames:
            frame = Frame(rgb, self.info.pixel_scale)
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
        """What was observed, after the last frame; the same Clip every time. ValueError if there was no frame at all."""
        if self._fault:
            raise ValueError(self._fault)
        if not self.frames:
            raise ValueError("the video has no frames")
        if self._clip is not None:
            return self._clip
        noted: dict[Observation, Any] = {seen: notes[: self.frames] for seen, notes in self._notes.items()}
        noted |= {seen: look.finish() for seen, look in self._looks.items() if hasattr(look, "finish")}
        self._clip = Clip(self.info, self.frames, noted, self._refused)
        return self._clip


class WindowMetric(Metric, Protocol):
    """A metric of a video's windows that needs no network: it names what it must note of every frame, and scores the notes.

    It looks at the video's own pixels, by eval.measure.batch.Batch.colours.
    """

    span: ClassVar[Literal["clip", "video"]] = "video"
    protocols: ClassVar[tuple[str, ...]] = ("windows", "vbench", "vbench_long_memory")

    @property
    def observes(self) -> tuple[Observation, ...]:
        """What must be noted of every frame."""
        return ()

    def score(self, clip: Clip, windows: Sequence[Window]) -> Mapping[str, FloatArray]:
        """One array [W] per name in `values`, [1] of those that are `whole`; NaN where there was nothing to measure.

        Raises ValueError with one clear line if the clip cannot be measured at all.
        """

    def start(self, info: ClipInfo, device: torch.device) -> Scorer:
        watch = info.kept(Watch, lambda: Watch(replace(info)))  # a copy: what it keeps shall not keep itself
        watch.look_for(self.observes)
        return Watcher(watch)

    def rows(self, features: Sequence[Clip], clips: Sequence[Window]) -> list[Row]:
        (clip,) = features
        numbers = self.score(clip, clips)
        whole = [Window(0, clip.frames, 0.0, clip.frames / clip.info.fps)]
        spans = [(value.name, whole if value.whole else clips) for value in self.values]
        return [row for name, where in spans for row in rows_of(name, where, numbers[name])]


class Watcher:
    """The scorer of every WindowMetric of a video: they share a Watch, and the first that is given a batch passes it on."""

    def __init__(self, watch: Watch) -> None:
        self._watch = watch

    def add(self, batch: Batch, first: int) -> None:
        if first == self._watch.frames:
            self._watch.add(batch.colours)

    def finish(self) -> Clip:
        return self._watch.finish()
