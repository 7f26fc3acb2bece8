"""What a metric is: frames of a clip in, batch by batch, and a number out, or a feature that numbers are made of.

A clip is what the protocol cuts from a video (eval/protocol.py): all of it, two seconds of it, a window. A metric knows
nothing of protocols and never sees a whole video at once, so memory is bounded by a batch and by what a metric keeps.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, Protocol, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray

from eval import protocol as protocols
from eval.measure.batch import Batch
from eval.measure.windows import Window

Made = TypeVar("Made")


@dataclass(frozen=True)
class Value:
    """One number that a metric gives per window; `name` is what the table's `metric` column says.

    higher_is_better: None where neither direction is better by itself (then read it beside the real video's). share: it
    is 0 or 1 of each frame or clip, so 0..1 of a video, and its intervals are of proportions (eval.stats.intervals). floor:
    what is wrong altogether gets, in words that titles take, where that is not 0. whole: it is one number of the whole video.
    """

    name: str
    unit: str
    higher_is_better: bool | None
    description: str
    share: bool = False
    floor: str = ""
    whole: bool = False


@dataclass(frozen=True)
class Chunks:
    """In what pieces a video was made: latent frames of a chunk and of the cache's window, frames of a latent frame.

    The first latent frame decodes to a single frame. As it stands: Self Forcing and its kin.
    """

    chunk_frames: int = 3
    window_frames: int = 21
    temporal_stride: int = 4

    def __post_init__(self) -> None:
        if min(self.chunk_frames, self.window_frames, self.temporal_stride) < 1:
            raise ValueError(f"{self} must have whole numbers of at least 1")

    def frames_of(self, latent_frames: int) -> int:
        return self.temporal_stride * latent_frames

    def first_frame(self, latent: NDArray[np.int_]) -> NDArray[np.int_]:
        """The frame with which each latent frame begins; 0 for the first."""
        return np.asarray(np.maximum(self.temporal_stride * (latent - 1) + 1, 0))


SELF_FORCING = Chunks()


@dataclass(frozen=True)
class ClipInfo:
    """What is known of a clip before its frames come.

    frames: how many are announced. fps: frames a second, as the clip's file would say. height, width: pixels of the file.
    prompt: None where nobody has said it. pixel_scale: every decoded pixel is pixel_scale x pixel_scale pixels of the file.
    world: name of the procedural world that the prompt describes, or None. chunks: in what pieces it was made. grain: every
    window of a whole video begins at a multiple of so many frames, and ends at one or with the video, so what is only summed
    over windows may be summed over so many frames at once. video: what it is a clip of; None: it is the whole video. Raises
    ValueError if it cannot be.
    """

    frames: int
    fps: float
    height: int
    width: int
    prompt: str | None = None
    pixel_scale: int = 1
    world: str | None = None
    chunks: Chunks = SELF_FORCING
    grain: int = 1
    video: ClipInfo | None = field(default=None, repr=False, compare=False)
    _kept: dict[Hashable, Any] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        height, width, scale = self.height, self.width, self.pixel_scale
        if height < 1 or width < 1:
            raise ValueError(f"a frame of {height} x {width} pixels has nothing to measure")
        if scale < 1 or height % scale or width % scale:
            raise ValueError(f"pixel_scale={scale} does not divide the frame of {height} x {width}")
        if not self.fps > 0 or not math.isfinite(self.fps):
            raise ValueError(f"fps={self.fps} must be a positive number")

    @property
    def caption(self) -> str:
        """The prompt, "" where there is none."""
        return self.prompt or ""

    def kept(self, key: Hashable, make: Callable[[], Made]) -> Made:
        """make(), once: the second metric of the clip that asks under the same key gets what the first one got."""
        if key not in self._kept:
            self._kept[key] = make()
        return cast(Made, self._kept[key])


class Scorer(Protocol):
    """One metric at work on one clip."""

    def add(self, batch: Batch, first: int) -> None:
        """The next frames, in order, each exactly once; `first` is the index in the clip of the batch's first frame.

        A batch may be shared with other metrics and, where clips overlap, with other clips: what depends on the frames
        alone is computed through `batch.kept`. Called in a thread that may be another for every clip, while other clips'
        scorers are at work: what they share needs a lock. Raises ValueError in one line if they cannot be measured.
        """

    def finish(self) -> Any:
        """After the last frame: the clip's number, NaN if there was nothing to measure; of a metric with `rows` of its own,
        whatever these are made of. Raises ValueError in one line if the clip cannot be measured."""


class Row(NamedTuple):
    """One score, as the table of scores has it. Times in seconds; frames: how many it is of, which VBench weighs by."""

    metric: str
    t_start: float
    t_end: float
    value: float
    frames: int


class Metric(Protocol):
    """A measurement. Its parameters are constants of its module: a change that may move a score is a new `version`.

    name: of the scores file. values: what it gives; their names are unique over all metrics. Networks are loaded once per
    process and device, at the first `start`. Whoever derives from this says only what is not so by default.
    """

    @property
    def name(self) -> str: ...

    @property
    def version(self) -> int: ...

    @property
    def values(self) -> tuple[Value, ...]: ...

    @property
    def weights(self) -> tuple[str, ...]:
        """The names in eval.networks.weights.FILES of what it loads."""
        return ()

    @property
    def needs_prompt(self) -> bool:
        """Whether it compares with ClipInfo.prompt; then another prompt is another score."""
        return False

    @property
    def world(self) -> str | None:
        """The world whose captions it checks, and of whose videos alone it can be measured; None: any video."""
        return None

    @property
    def span(self) -> Literal["clip", "video"]:
        """What a scorer sees: one of the protocol's clips, or the whole video, of which `rows` makes numbers of clips."""
        return "clip"

    @property
    def protocols(self) -> tuple[str, ...]:
        """Under which it may be measured."""
        return protocols.NAMES

    def start(self, info: ClipInfo, device: torch.device) -> Scorer:
        """A scorer for one clip. Raises ValueError in one line if the clip cannot be measured at all."""

    def rows(self, features: Sequence[Any], clips: Sequence[Window]) -> list[Row]:
        """The scores of a video; NaN where there was nothing to measure. clips: at least one.

        features: what `finish` gave, of every clip, or, where the span is a video, one. Raises ValueError in one line if
        the video cannot be measured at all.
        """
        return rows_of(self.name, clips, features)


def rows_of(name: str, clips: Sequence[Window], numbers: Iterable[float]) -> list[Row]:
    """One row per clip."""
    return [Row(name, c.t_start, c.t_end, float(x), c.end - c.start) for c, x in zip(clips, numbers, strict=True)]


def applies(metric: Metric, world: str | None) -> bool:
    """Whether a metric can score videos of this world (None: of none)."""
    return metric.world in (None, world)


def check_protocol(metrics: Sequence[Metric], protocol: protocols.Protocol) -> None:
    """Raises ValueError that says which of them are not measured under a protocol, and under which they are."""
    refused: dict[tuple[str, ...], list[str]] = {}
    for metric in metrics:
        if protocol.name not in metric.protocols:
            refused.setdefault(metric.protocols, []).append(metric.name)
    if refused:
        said = [
            f"{', '.join(names)}: measured under protocol={' or '.join(filter(None, (', '.join(right[:-1]), right[-1])))}"
            for right, names in refused.items()
        ]
        raise ValueError(f"{'; '.join(said)}, not {protocol.name}")
