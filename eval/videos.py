"""What can be scored: the videos of a run directory, or a plain folder of mp4 files with a list of prompts."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deepforcing.records import read_run, read_sample
from deepforcing.script import is_schedule
from deepforcing.video import VideoInfo, probe, sha256_file

SUFFIX = ".mp4"
SLOWEST, FASTEST = 1, 240  # frames a second; a file that says anything else is wrong about itself
PROMPT_FILES = (
    "a .json of {file name: prompt}, a .csv with columns video and prompt, a .jsonl of such objects, or a .txt with one "
    "prompt a line in the order of the file names"
)


@dataclass(frozen=True)
class Video:
    """One video to be scored. name: the `sample` of the table. prompt: None where nobody has said what it is.

    sha256, frames: what its record says of the file; sha256 of a plain file is its own. frames None: not recorded.
    scheduled: the prompt of a run is a schedule of several (deepforcing.script), so that it is no caption of any clip.
    """

    name: str
    path: Path
    prompt: str | None
    sha256: str
    frames: int | None = None
    fps: float | None = None
    scheduled: bool = False

    @property
    def prompt_sha256(self) -> str:
        """ "" where there is no prompt."""
        return "" if self.prompt is None else hashlib.sha256(self.prompt.encode()).hexdigest()


@dataclass(frozen=True)
class Videos:
    """Videos that belong together, and the directory whose scores/ holds what is known of them.

    name: the `run` of the table. problems: one line for each video or record that is unusable. pixel_scale, world: see
    eval.metric.Clip.
    """

    name: str
    home: Path
    videos: tuple[Video, ...]
    problems: tuple[str, ...] = ()
    pixel_scale: int = 1
    world: str | None = None


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
    return Videos(run.name, run, tuple(videos), tuple(problems), record.get("pixel_scale") or 1, record.get("world"))


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
    """The mp4 files of a folder, in the order of their names; their scores go to out/scores.

    prompts: the file that says what each video shows, see PROMPT_FILES; None where no metric needs it. Raises ValueError
    if there is no such folder, nothing in it, or the prompts do not fit the videos. Unreadable files become problems.
    """
    root = Path(folder).absolute()
    if not root.is_dir():
        raise ValueError(f"videos={folder} is not a folder; give one that holds {SUFFIX} files")
    # Hidden files are not videos: copies from a Mac bring one along for each.
    named = sorted(p for p in root.iterdir() if p.suffix.lower() == SUFFIX and not p.name.startswith("."))
    paths = [path for path in named if path.is_file() and is_text(path.name)]
    problems = [f"{path.name}: a link to nothing" for path in named if path.is_symlink() and not path.exists()]
    problems += [
        f"{os.fsencode(path.name)!r}: the name is not UTF-8, as a table needs it; rename the file"
        for path in named
        if not is_text(path.name)
    ]
    if not paths and not problems:
        raise ValueError(f"videos={folder} holds no {SUFFIX} file")
    said = read_prompts(Path(prompts), paths) if prompts is not None else {}
    stems = [path.stem for path in paths]
    videos = []
    for path in paths:
        name = path.stem if stems.count(path.stem) == 1 else path.name
        try:
            videos.append(Video(name, path, said.get(path.name), sha256_file(path)))
        except OSError as error:
            problems.append(f"{path.name}: cannot be read: {error.strerror}")
    return Videos(root.name, Path(out).absolute(), tuple(videos), tuple(problems))


def is_text(name: str) -> bool:
    """Whether a file's name is UTF-8: any other bytes come from the system as lone surrogates, which no table can hold."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


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
    if info.width % 2 or info.height % 2:
        raise ValueError(
            f"{path} is {info.width} x {info.height} pixels; odd sizes do not fit 4:2:0, crop it to even ones"
        )
    return info


def read_prompts(file: Path, videos: list[Path]) -> dict[str, str]:
    """{file name: prompt} for all of `videos`, from one of PROMPT_FILES. Raises ValueError in one line if it does not fit."""
    if not file.is_file():
        raise ValueError(f"prompts={file} {'is no file' if file.exists() else 'does not exist'}; give {PROMPT_FILES}")
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"prompts={file} is not UTF-8 (byte {error.start})") from None
    try:
        listed = parse_prompts(text, file.suffix.lower())
    except (ValueError, KeyError, TypeError, csv.Error, RecursionError) as error:
        raise ValueError(
            f"prompts={file} cannot be read ({type(error).__name__}: {error}); give {PROMPT_FILES}"
        ) from None
    if isinstance(listed, list):
        if len(listed) != len(videos):
            raise ValueError(
                f"prompts={file} has {len(listed)} prompts for {len(videos)} videos; one a video is needed"
            )
        return {video.name: prompt for video, prompt in zip(videos, listed, strict=True)}
    found = {video.name: listed.get(video.name, listed.get(video.stem)) for video in videos}
    missing = [name for name, prompt in found.items() if prompt is None]
    if missing:
        raise ValueError(
            f"prompts={file} has no prompt for {', '.join(missing[:3])}{' ...' if len(missing) > 3 else ''}"
        )
    return {name: prompt for name, prompt in found.items() if prompt is not None}


def parse_prompts(text: str, suffix: str) -> list[str] | dict[str, str]:
    """Prompts in the order of the videos, or by file name. Raises ValueError, KeyError or TypeError if they are neither."""
    if suffix == ".csv":
        return by_name(list(csv.DictReader(io.StringIO(text, newline=""))))
    if suffix == ".jsonl":
        return by_name([json.loads(line) for line in io.StringIO(text) if line.strip()])
    if suffix != ".json":
        return [line.rstrip("\n") for line in io.StringIO(text) if line.strip()]
    loaded = json.loads(text)
    if isinstance(loaded, list) and all(isinstance(item, str) for item in loaded):
        return loaded
    if isinstance(loaded, list):
        return by_name(loaded)
    if not isinstance(loaded, dict) or not all(isinstance(prompt, str) for prompt in loaded.values()):
        raise TypeError("not an object of file names and prompts")
    return {Path(name).name: prompt for name, prompt in loaded.items()}


def by_name(rows: Sequence[Any]) -> dict[str, str]:
    """Rows with a column video (or file, name) and a column prompt."""
    named: dict[str, str] = {}
    for row in rows:
        known = row if isinstance(row, Mapping) else {}
        key = next((k for k in ("video", "file", "name", "path") if known.get(k)), None)
        if key is None or not isinstance(row["prompt"], str):
            raise ValueError("every row needs a video and a prompt")
        named[Path(row[key]).name] = row["prompt"]
    return named
