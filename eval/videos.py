"""What can be scored: the videos of a run directory, or a plain folder of video files with a list of prompts."""

from __future__ import annotations

import hashlib
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepforcing.records import check_name, read_run, read_sample
from deepforcing.script import is_schedule
from deepforcing.video import VideoInfo, probe, sha256_file
from eval.measure.metric import SELF_FORCING, Chunks
from eval.name_order import by_value
from eval.prompt_lists import read_prompts, shown

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi")
# Endings of what may be a video too and is not scored; of .gif the frames' times and colours are another matter.
OTHER_SUFFIXES = (".gif", ".apng", ".webp", ".mpg", ".mpeg", ".ts", ".mts", ".wmv", ".flv", ".ogv", ".3gp", ".mxf")
MOST_PIXELS = 4096 * 2304  # of a frame: a batch of such takes gigabytes, and a file of them may have kilobytes
SLOWEST, FASTEST = 1, 240  # frames a second; a file that says anything else is wrong about itself
LONGEST_PROMPT = 10_000  # characters; text encoders look at a few hundred


@dataclass(frozen=True)
class Video:
    """One video to be scored. name: the `sample` of the table. prompt: None where nobody has said what it is.

    sha256, frames: what its record says of the file; sha256 of a plain file is its own. frames None: not recorded.
    scheduled: the prompt of a run is a schedule of several (deepforcing.script), so that it is no caption of any clip.

    Raises ValueError for a name or a prompt that no table can hold or no text encoder reads: half a surrogate pair, control
    characters, more than LONGEST_PROMPT, nothing at all.
    """

    name: str
    path: Path
    prompt: str | None
    sha256: str
    frames: int | None = None
    fps: float | None = None
    scheduled: bool = False

    def __post_init__(self) -> None:
        if fault := unfit(self.name):
            raise ValueError(f"the name has {fault}")
        if self.prompt is None:
            return
        if not self.prompt.strip():
            raise ValueError("the prompt is empty")
        if len(self.prompt) > LONGEST_PROMPT:
            raise ValueError(f"the prompt has {len(self.prompt)} characters, the limit is {LONGEST_PROMPT}")
        if fault := unfit(self.prompt, allowed="\t\n\r\u2028\u2029"):
            raise ValueError(f"the prompt has {fault}")

    @property
    def prompt_sha256(self) -> str:
        """ "" where there is no prompt."""
        return "" if self.prompt is None else hashlib.sha256(self.prompt.encode()).hexdigest()


@dataclass(frozen=True)
class Videos:
    """Videos that belong together, and the directory whose scores/ holds what is known of them.

    name: the `run` of the table. problems: one line for each video or record that is unusable. notes: a line each of what
    is worth knowing and costs no video. folder: whether they are plain files, and no run's samples. pixel_scale, world,
    chunks: see eval.measure.metric.ClipInfo.
    """

    name: str
    home: Path
    videos: tuple[Video, ...]
    problems: tuple[str, ...] = ()
    pixel_scale: int = 1
    world: str | None = None
    notes: tuple[str, ...] = ()
    folder: bool = False
    chunks: Chunks = SELF_FORCING

    @property
    def digest(self) -> str:
        """Of which videos these are and what they show: the same for the same set, whatever order it is found in."""
        told = sorted([video.name, video.sha256, video.prompt_sha256] for video in self.videos)
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()


def open_run(directory: str | os.PathLike[str]) -> Videos:
    """The finished samples of a run directory. Raises ValueError if it is none; unusable records become problems."""
    run = Path(directory).absolute()
    record = read_run(run)
    videos, problems = [], []
    for path in sorted((run / "samples").glob("[!.]*.json")):
        try:
            videos.append(recorded(path))
        except ValueError as error:
            problems.append(f"{run.name}: sample {path.stem}: {error}")
    scale, world = record.get("pixel_scale") or 1, record.get("world")
    return Videos(run.name, run, tuple(videos), tuple(problems), scale, world, chunks=chunks_of(record))


def chunks_of(record: Mapping[str, Any]) -> Chunks:
    """In what pieces a run's videos were made, as far as run.json says."""
    identity, geometry = record.get("identity") or {}, record.get("geometry") or {}
    retention = identity.get("retention")
    found = {
        "chunk_frames": identity.get("chunk_frames"),
        "window_frames": retention.get("window_frames") if isinstance(retention, dict) else None,
        "temporal_stride": geometry.get("temporal_stride"),
    }
    return Chunks(**{name: value for name, value in found.items() if type(value) is int and value >= 1})


def recorded(path: Path) -> Video:
    """The video behind a sample's record. Raises ValueError if the record is not one."""
    sample = read_sample(path)
    prompt = sample["prompt"]
    return Video(
        sample["sample"],
        path.with_name(sample["video"]),
        prompt,
        sample["sha256"],
        sample["frames"],
        float(sample["fps"]),
        scheduled=is_schedule(prompt),
    )


def open_folder(
    folder: str | os.PathLike[str], prompts: str | os.PathLike[str] | None, out: str | os.PathLike[str]
) -> Videos:
    """The video files of a folder (SUFFIXES), numbers in their names by value; their scores go to out/scores.

    prompts: the file that says what each video shows, see eval.prompt_lists; None where no metric needs it. Raises ValueError
    if there is no such folder, nothing in it, or the prompts do not fit the videos. Unreadable files, and those with a
    prompt that cannot be one, become problems.
    """
    root = Path(folder).absolute()
    kinds = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
    if not root.is_dir():
        raise ValueError(f"videos={folder} is not a folder; give one that holds {kinds} files")
    check_name(root)
    # Hidden files are not videos: copies from a Mac bring one along for each.
    entries = [path for path in root.iterdir() if not path.name.startswith(".")]
    named = sorted(
        (p for p in entries if p.suffix.lower() in SUFFIXES), key=lambda path: (by_value(path.stem), path.name)
    )
    problems = [f"{path.name}: a link to nothing" for path in named if path.is_symlink() and not path.exists()]
    problems += [
        f"{os.fsencode(path.name)!r}: the name is not UTF-8, has control characters or is blank; rename the file"
        for path in named
        if unfit(path.name) or not path.stem.strip()
    ]
    paths = [path for path in named if path.is_file() and path.stem.strip() and not unfit(path.name)]
    if not paths and not problems:
        raise ValueError(
            f"videos={folder} holds no {kinds} file; it holds {census(entries, everything=True) or 'nothing'}"
        )
    left_out = census(entries)
    notes = [f"videos={folder}: left out: {left_out}; only {kinds} files are scored"] if left_out else []
    broken = [path for path in named if path not in set(paths)]
    said, others = read_prompts(Path(prompts), paths, broken) if prompts is not None else ({}, [])
    if others:
        some = f"{', '.join(map(shown, others[:3]))}{' ...' if len(others) > 3 else ''}"
        notes.append(f"prompts={prompts} names {len(others)} files that are not in videos={folder}: {some}")
    names = Counter(path.stem for path in paths) + Counter(path.name for path in paths)
    videos = []
    for path in paths:
        name = path.stem if names[path.stem] == 1 else path.name
        try:
            videos.append(Video(name, path, said.get(path.name), sha256_file(path)))
        except OSError as error:
            problems.append(f"{path.name}: cannot be read: {error.strerror}")
        except ValueError as error:
            problems.append(f"{path.name}: {error}")
    return Videos(root.name, Path(out).absolute(), tuple(videos), tuple(problems), notes=tuple(notes), folder=True)


def census(entries: Sequence[Path], everything: bool = False) -> str:
    """What of a folder is not scored: "2 .gif, 1 folder with videos". everything: also what is no video."""
    kinds: Counter[str] = Counter()
    for path in entries:
        if path.is_dir():
            if everything or holds_videos(path):
                kinds["folder with videos" if holds_videos(path) else "folder"] += 1
        elif everything or path.suffix.lower() in OTHER_SUFFIXES:
            kinds[path.suffix.lower() or "file without an ending"] += 1
    return ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(8))


def holds_videos(folder: Path) -> bool:
    """At any depth."""
    return any(
        Path(file).suffix.lower() in (*SUFFIXES, *OTHER_SUFFIXES) and not file.startswith(".")
        for _, _, files in os.walk(folder)
        for file in files
    )


def unfit(text: str, allowed: str = "") -> str | None:
    """What a text has that tables, terminals and UTF-8 cannot hold; None if nothing.

    File names of other bytes than UTF-8 come from the system with lone surrogates.
    """
    for place, letter in enumerate(text, start=1):
        kind = unicodedata.category(letter)
        if kind in ("Cs", "Cc", "Zl", "Zp") and letter not in allowed:
            what = "half a surrogate pair" if kind == "Cs" else "a control character"
            return f"{what}, U+{ord(letter):04X} at character {place}"
    return None


def checked(video: Video) -> VideoInfo:
    """What the file says of itself. ValueError if it cannot be scored, or is not the file that its record describes."""
    path = video.path
    try:
        digest = sha256_file(path)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    if digest != video.sha256:
        raise ValueError(f"{path} is damaged or was replaced: its sha256 is not the one in its record")
    info = probe(path)
    if video.frames is not None and info.frames != video.frames:
        raise ValueError(f"{path} has {info.frames} frames; its record says {video.frames}")
    if not SLOWEST <= info.fps <= FASTEST:
        raise ValueError(f"{path} says {info.fps:g} frames a second; {SLOWEST} to {FASTEST} can be scored")
    if video.fps is not None and abs(info.fps - video.fps) > 0.01:
        raise ValueError(f"{path} says {info.fps:g} frames a second; its record says {video.fps:g}")
    if info.frames < 2:
        raise ValueError(f"{path} has {info.frames} frame; a video has two at least")
    if info.width * info.height > MOST_PIXELS:
        raise ValueError(
            f"{path} is {info.width} x {info.height} pixels; up to {MOST_PIXELS / 1e6:.1f} million a frame can be scored"
        )
    if info.width % 2 or info.height % 2:
        raise ValueError(
            f"{path} is {info.width} x {info.height} pixels; odd sizes do not fit 4:2:0, crop it to even ones"
        )
    return info
