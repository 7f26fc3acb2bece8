"""VBench-Long's clip-to-clip mode (--dev_flag): how alike the clips of one video are, beside how alike frames are in one.

Of subject and background consistency alone. The first frame of every clip, as it was scored (encoded once more), becomes
a video that is encoded yet again; its consistency C is mapped to the range of in-clip scores by a table, M, and every
clip's score c becomes w_in c + w_between M (vbench2_beta_long.utils.fuse_inclip_clip2clip). Tables and weights belong to
VBench: they are read from a checkout of it. They were fitted for the extractors that --dev_flag uses, the first ones of
EXTRACTORS; without --dev_flag VBench-Long gives the in-clip scores alone.

Where the package goes wrong, this does not. It finds C by a file's name, cut at the first "_", and takes a video whose
name has one, silently, for one without C. Videos of one clip each divide by zero there; here a video of one clip keeps
its in-clip score, as it does in the package beside longer videos. Videos with different frame rates are joined there at
the rate of whichever is listed first; here each at its own.
"""

from __future__ import annotations

import functools
import hashlib
import itertools
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
import yaml
from numpy.typing import NDArray

from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Row, Value
from eval.measure.scorers import Consistency, PerFrame
from eval.measure.windows import Window
from eval.networks.clip import clip_features
from eval.networks.dino import dino_features
from eval.networks.dinov2 import dinov2_features
from eval.networks.dreamsim import dreamsim_features
from eval.reencode import Encoder, decoded, encode

Extractor = Callable[[torch.device], PerFrame]
_DREAMSIM: Extractor = lambda device: lambda batch: dreamsim_features(batch, device)  # noqa: E731
EXTRACTORS: dict[str, dict[str, Extractor]] = {
    "subject_consistency": {
        "dinov2": lambda device: lambda batch: dinov2_features(batch, device),
        "dino": lambda device: lambda batch: dino_features(batch, device),
        "dreamsim": _DREAMSIM,
    },
    "background_consistency": {
        "dreamsim": _DREAMSIM,
        "clip": lambda device: lambda batch: clip_features(batch, "clip_b32", device),
    },
}
_FILES = {"subject_consistency": ("subject", "sb"), "background_consistency": ("background", "bg")}  # table, suffix


def frame_features(dimension: str, extractor: str, device: torch.device) -> PerFrame:
    """Features of frames, [b, D], by one of the extractors that VBench-Long accepts for a dimension.

    Its weights are loaded at the first batch. Raises ValueError for a name that is none of them.
    """
    known = EXTRACTORS.get(dimension, {})
    if extractor not in known:
        choices = (f"extractors.{which}={'|'.join(names)}" for which, names in EXTRACTORS.items())
        raise ValueError(f"extractors.{dimension}={extractor} cannot compare clips; there are {' and '.join(choices)}")
    return known[extractor](device)


def clip_to_clip(
    first_frames: Sequence[NDArray[np.uint8]], fps: int, features: Mapping[str, PerFrame]
) -> dict[str, float]:
    """C of one video for each of `features`: consistency of its clips' first frames, NaN for a single clip.

    first_frames: uint8 [H, W, 3] of each re-encoded clip, in order. fps: of the clips, a whole number.
    """
    return of_joined(encode(first_frames, fps), features)


def of_joined(file: bytes, features: Mapping[str, PerFrame]) -> dict[str, float]:
    """The same of first frames that were encoded already (eval.reencode.Encoder)."""
    scorers = {name: Consistency(of_batch) for name, of_batch in features.items()}
    first = 0
    for batch in decoded(file):
        for scorer in scorers.values():
            scorer.add(batch, first)
        first += len(batch)
    return {name: scorer.finish() for name, scorer in scorers.items()}


@dataclass(frozen=True)
class BetweenClips(Metric):
    """C of a video by one extractor, as a metric: one row for the whole video, under protocol vbench_long alone."""

    dimension: str
    extractor: str
    version: ClassVar[int] = 1
    protocols: ClassVar[tuple[str, ...]] = ("vbench_long",)
    weights_of: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "dino": ("dino_code", "dino"),
        "dinov2": ("dinov2_code", "dinov2"),
        "clip": ("clip_b32",),
        "dreamsim": ("dreamsim",),
    }

    def __post_init__(self) -> None:
        if self.extractor not in EXTRACTORS.get(self.dimension, {}):
            frame_features(self.dimension, self.extractor, torch.device("cpu"))  # says which there are

    @property
    def name(self) -> str:
        return f"{self.dimension}_between_{self.extractor}"

    @property
    def values(self) -> tuple[Value, ...]:
        return (Value(self.name, "0..1", True, f"{self.extractor}: similarity of the clips' first frames"),)

    @property
    def weights(self) -> tuple[str, ...]:
        return self.weights_of[self.extractor]

    def start(self, info: ClipInfo, device: torch.device) -> FirstFrame:
        return FirstFrame(info, device)

    def rows(self, features: Sequence[FirstFrame], clips: Sequence[Window]) -> list[Row]:
        extractor = frame_features(self.dimension, self.extractor, features[0].device)
        value = of_joined(features[0].joined(), {self.name: extractor})[self.name]
        return [Row(self.name, 0.0, max(clip.t_end for clip in clips), value, len(clips))]


class FirstFrame:
    """The scorer, and its own feature: a clip's first frame, which goes into the video that is made of those of all clips.

    All metrics and clips of a video share it. Clips are started in order, and scored in any.
    """

    def __init__(self, info: ClipInfo, device: torch.device) -> None:
        self.device = device
        video = info.video or info
        self._joined = video.kept(Joined, lambda: Joined(round(info.fps)))
        self._number = info.kept(FirstFrame, self._joined.number)

    def add(self, batch: Batch, first: int) -> None:
        if first == 0:
            batch.kept(FirstFrame, lambda: self._joined.add(self._number, batch.frames[0]))

    def finish(self) -> FirstFrame:
        return self

    def joined(self) -> bytes:
        """The encoded video, after the last clip."""
        return self._joined.file


class Joined:
    """Frames that come in any order, encoded in that of their numbers: what is held is coded already, but for those that
    wait for an earlier one."""

    def __init__(self, fps: int) -> None:
        self._encoder, self._lock = Encoder(fps), threading.Lock()
        self._numbers = itertools.count()
        self._waiting: dict[int, NDArray[np.uint8]] = {}

    def number(self) -> int:
        return next(self._numbers)

    def add(self, number: int, frame: NDArray[np.uint8]) -> None:
        with self._lock:
            self._waiting[number] = frame.copy()
            while self._encoder.frames in self._waiting:
                self._encoder.add(self._waiting.pop(self._encoder.frames))

    @functools.cached_property
    def file(self) -> bytes:
        return self._encoder.finish()


def fused(table: pd.DataFrame, metrics: Sequence[BetweenClips], folder: Path) -> pd.DataFrame:
    """Rows of <dimension>_clip_to_clip, one per clip, out of a table with the in-clip rows and those of `metrics`.

    folder: where VBench's settings are, see read_fusion. Raises ValueError as it does.
    """
    parts = []
    for metric in metrics:
        fusion = read_fusion(folder, metric.dimension)
        rows = table[(table["metric"] == metric.dimension) & (table["protocol"] == "vbench_long")]
        compared = table[table["metric"] == metric.name].set_index("sample")
        named = fusion.fuse(rows, compared["value"].to_dict()).assign(
            metric=f"{metric.dimension}_clip_to_clip", version=metric.version
        )
        if "weights_sha256" in table:  # of both networks and the tables: with another extractor it is another number
            other = rows["sample"].map(compared["weights_sha256"].to_dict()).fillna("")
            named["weights_sha256"] = [
                hashlib.sha256(f"{inside}{between}{fusion}".encode()).hexdigest()
                for inside, between in zip(rows["weights_sha256"], other, strict=True)
            ]
        parts.append(named)
    return pd.concat(parts, ignore_index=True) if parts else table.iloc[:0]


@dataclass(frozen=True)
class Fusion:
    """What VBench's files say of one dimension. scores -> mapped: corners of a piecewise linear map, ascending."""

    w_in: float
    w_between: float
    scores: tuple[float, ...]
    mapped: tuple[float, ...]

    def fuse(self, rows: pd.DataFrame, between: Mapping[str, float]) -> pd.DataFrame:
        """In-clip rows (sample, value, ...; one per clip) with their values fused.

        between: C by sample. A clip keeps its value where its video has no other clip, and where C maps to 0, as the
        package has it. A video of several clips without C has no fused value: NaN.
        """
        alone = rows.groupby("sample")["sample"].transform("size") == 1
        c_between = rows["sample"].map(dict(between)).to_numpy(dtype=float)
        mapped = np.interp(c_between, self.scores, self.mapped)  # beyond the ends: the ends, as in the package
        fused = self.w_in * rows["value"] + self.w_between * mapped
        return rows.assign(value=rows["value"].where(alone | (mapped == 0), fused))


def read_fusion(folder: Path, dimension: str) -> Fusion:
    """Tables and weights of a dimension from a VBench checkout, or from any folder with the files of its configs.

    Raises ValueError if a file is missing or is not what it should be.
    """
    table, suffix = _FILES[dimension]
    configs = folder / "vbench2_beta_long" / "configs"
    folder = configs if configs.is_dir() else folder
    corners = _read(folder / f"{table}_mapping_table.yaml")
    weights = _read(folder / "slow_fast_params.yaml")
    try:
        pairs = sorted((float(score), float(mapped)) for score, mapped in corners.items())
        scores, mapped = zip(*pairs, strict=True)
        return Fusion(float(weights[f"w_inclip_{suffix}"]), float(weights[f"w_clip2clip_{suffix}"]), scores, mapped)
    except (KeyError, TypeError, ValueError):
        raise ValueError(
            f"{folder} does not hold VBench-Long's settings for {dimension}: {table}_mapping_table.yaml maps scores to "
            f"scores, slow_fast_params.yaml has w_inclip_{suffix} and w_clip2clip_{suffix}"
        ) from None


def _read(path: Path) -> dict[Any, Any]:
    try:
        loaded = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(
            f"{path} does not exist; it is in vbench2_beta_long/configs of a checkout of github.com/Vchitect/VBench"
        ) from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path} is not readable YAML: {str(error).splitlines()[0]}") from None
    if not isinstance(loaded, dict):
        raise ValueError(f"{path} is not a YAML mapping")
    return loaded
