"""Scores of a set of videos: each is looked at alone, and then what was seen of all is compared.

Such a score belongs to the set. Its rows carry a digest of the set (eval.videos.Videos.digest), and with another video, or
one made anew, all are scored again. A look at a few frames of every window is enough, so the videos are decoded once more
for it, and little else is done.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from deepforcing.runs import check_writable
from deepforcing.yuv import frame_to_rgb
from eval import protocol as protocols
from eval.batch import upright_frames
from eval.metric import FloatArray, Value, Window
from eval.store import COLUMNS, KEYS, add_rows, scored, scores_path, settle
from eval.videos import Video, Videos, checked

FRAMES_A_WINDOW = 4


@runtime_checkable
class AcrossVideos(Protocol):
    """A measurement that compares videos; see eval.metric.Metric for name, version and values."""

    name: ClassVar[str]
    version: ClassVar[int]
    values: ClassVar[tuple[Value, ...]]

    def picture(self, rgb: NDArray[np.uint8]) -> FloatArray:
        """What is kept of a frame [H, W, 3]: [D], of the same length for every frame of every video."""

    def compare(self, pictures: Sequence[FloatArray], prompts: Sequence[str]) -> Sequence[Mapping[str, FloatArray]]:
        """Of every video one array [W] per name in `values`. pictures: [W, D] of each; prompts: what each shows."""


def score_set(group: Videos, sound: Sequence[Video], metric: AcrossVideos, protocol: protocols.Protocol) -> list[str]:
    """Score the sound videos of a group together, unless all of them have been. Returns one line for each that cannot be.

    Raises ValueError if a scores file is unreadable, OSError if nothing can be written.
    """
    path = scores_path(group.home, metric.name, metric.version)
    done, digest = scored(path, protocol, ""), group.digest
    if all((video.name, video.sha256, digest) in done for video in sound):
        return []
    check_writable(group.home / "scores", key="out" if group.folder else "runs")
    kept: list[tuple[Video, list[Window], FloatArray]] = []
    problems = []
    for video in sound:
        try:
            info = checked(video)
            clips = protocol.clips(info.frames, info.fps)
            kept.append((video, clips, window_pictures(video.path, clips, metric)))
        except ValueError as error:
            problems.append(f"{group.name}: sample {video.name}: {metric.name}: {error}")
    prompts = [video.name if video.prompt is None else video.prompt for video, *_ in kept]
    found = metric.compare([pictures for *_, pictures in kept], prompts)
    rows = [
        (group.name, video.name, value.name, w.t_start, w.t_end, float(number), video.sha256, float(w.end - w.start))
        for (video, clips, _), values in zip(kept, found, strict=True)
        for value in metric.values
        for w, number in zip(clips, values[value.name], strict=True)
    ]
    names = ["run", "sample", "metric", "t_start", "t_end", "value", "video_sha256", "frames"]
    table = pd.DataFrame(rows, columns=names).assign(
        version=metric.version,
        protocol=protocol.name,
        weights_sha256="",
        prompt_sha256=digest,
        window_seconds=protocol.length_key,
    )
    if len(table):
        add_rows(path, table[COLUMNS + KEYS])  # all at once: a set is scored or it is not
        settle(path)
    return problems


def window_pictures(path: Path, windows: Sequence[Window], metric: AcrossVideos) -> FloatArray:
    """Mean picture of FRAMES_A_WINDOW frames that lie evenly in each window, [W, D]. Raises ValueError as upright_frames."""
    looked: dict[int, list[int]] = {}  # frame -> windows that it stands for; windows may overlap
    for index, window in enumerate(windows):
        length = window.end - window.start
        for i in range(FRAMES_A_WINDOW):
            looked.setdefault(window.start + (2 * i + 1) * length // (2 * FRAMES_A_WINDOW), []).append(index)
    seen: list[list[FloatArray]] = [[] for _ in windows]
    for number, frame in enumerate(upright_frames(path)):
        if number in looked:
            picture = metric.picture(frame_to_rgb(frame))
            for index in looked[number]:
                seen[index].append(picture)
    if not all(seen):
        raise ValueError(f"{path} ends before the frames that it announces")
    return np.stack([np.mean(pictures, 0) for pictures in seen])
