"""From run directories to a study: a folder for the raters, in which nothing tells whose video is whose, and a key beside it.

FOLDER/key.json         stays here
FOLDER/page/            goes to the raters: put it on any web server, or hand it out as it is
  index.html
  videos/<16 hex>.mp4
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup
from rich.console import Console

from deepforcing.runs import atomic_path, atomic_write_text, check_writable
from deepforcing.video import VideoWriter, iter_frames, probe, sha256_file
from deepforcing.yuv import Frames
from experiments.page.template import filled, inside
from experiments.raters.design import QUESTIONS, choose, orders
from experiments.raters.key import KEY, Arm, Key, Pair, Seen, read_key, study_id, write_key
from experiments.results.runs import Run, find_runs, read_runs, with_common_samples
from experiments.tables.words import plural

HERE = Path(__file__).parent
BLOCKS = 8  # a side, of a spoiled video
EPOCH = 1_000_000_000  # time stamp of every file in the page: real ones would tell which run was made when


@dataclass(frozen=True)
class Study:
    """The keys of conf/study_make.yaml."""

    runs: tuple[str, ...]
    out: Path
    subject: str | None
    pairs: int
    checks: int
    raters: int
    seed: int
    title: str


def make(study: Study, console: Console) -> Key:
    """Raises ValueError before anything is written if the runs cannot be compared, or `out` holds something else."""
    runs = with_common_samples(read_runs(find_runs(study.runs)))
    subject, opponents = arms(runs, study.subject)
    samples = comparable([subject, *opponents])
    chosen = choose([run.name for run in opponents], samples, study.pairs, study.seed)
    sources = dict(planned(study, subject, opponents, chosen))
    content = {
        "questions": QUESTIONS, "raters": study.raters, "seed": study.seed, "title": study.title,
        "pairs": [{k: v for k, v in of.items() if k != "files"} for of in sources.values()],
    }  # fmt: skip
    name = study_id(content)
    check_place(study.out, name)
    total = sum(file.stat().st_size for of in sources.values() for file in of["files"])
    check_writable(study.out, 2 * total + 1_000_000, "out")
    videos = study.out / "page" / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    pairs = [put(name, pair, of, videos) for pair, of in sources.items()]
    opponent_of = {pair.pair: pair.opponent for pair in pairs if pair.opponent is not None}
    shown = orders(opponent_of, [pair.pair for pair in pairs if pair.opponent is None], study.raters, study.seed)
    named = {pair.pair: pair for pair in pairs}
    raters = [[seen(named[each.pair], each.first_is_a) for each in order] for order in shown]
    used = {video for pair in pairs for video in (pair.first, pair.second)}
    for leftover in videos.iterdir():  # of a study that was killed, or had other checks
        if leftover.stem not in used:
            leftover.unlink()
    key = Key(
        study=name, seed=study.seed, seconds=sample_of(subject, samples[0])["seconds"], subject=arm(subject),
        opponents=[arm(run) for run in opponents], questions=QUESTIONS, pairs=pairs, raters=raters, videos=len(used),
    )  # fmt: skip
    write_page(study.out / "page" / "index.html", key, study.title)
    write_key(study.out, key)
    checks = len(pairs) - study.pairs
    console.print(
        f"{study.out / 'page' / 'index.html'}: {plural(study.pairs, 'pair')} and "
        f"{plural(checks, 'attention check')} for {plural(study.raters, 'rater')}"
    )
    console.print(
        f"give each rater the folder {study.out / 'page'} (or its address) and a number from 1 to {study.raters}; keep "
        f"{study.out / KEY}, which tells whose videos they are"
    )
    console.print(f"then: python -m experiments.study table study={study.out} answers='*.csv'")
    return key


def arms(runs: Sequence[Run], subject: str | None) -> tuple[Run, list[Run]]:
    """The run whose preference is asked for, and the others. Raises ValueError."""
    if len(runs) < 2:
        raise ValueError(
            f"a study compares runs, and here is {'only ' + runs[0].label if runs else 'none'}: give runs=[A,B,...]"
        )
    if subject is None:
        return runs[0], list(runs[1:])
    for names in ([run.name for run in runs], [run.label for run in runs], [run.record.get("name") for run in runs]):
        found = [run for run, name in zip(runs, names, strict=True) if name == subject]
        if len(found) == 1:
            return found[0], [run for run in runs if run is not found[0]]
    raise ValueError(f"subject={subject} is not one of the runs: {', '.join(run.label for run in runs)}")


def sample_of(run: Run, name: str) -> dict[str, Any]:
    return next(sample for sample in run.samples if sample["sample"] == name)


def comparable(runs: Sequence[Run]) -> list[str]:
    """Names of the videos that all runs have. Raises ValueError if there are none, or length or size would tell them apart."""
    common = set.intersection(*({sample["sample"] for sample in run.samples} for run in runs))
    if not common:
        raise ValueError(
            "the runs have no finished video of one prompt and seed in common: roll them out over the same prompts"
        )
    for name in sorted(common):
        kinds = {
            (s["width"], s["height"], s["fps"], s["frames"]): run.label for run in runs for s in [sample_of(run, name)]
        }
        if len(kinds) > 1:
            (one, a), (other, b), *_ = [
                (f"{w} x {h}, {n} frames at {fps:g} a second", label) for (w, h, fps, n), label in kinds.items()
            ]
            raise ValueError(
                f"videos differ in more than their policy, which a rater would see: {a} has {one}, {b} has {other}"
            )
    return sorted(common)


def planned(
    study: Study, subject: Run, opponents: Sequence[Run], chosen: Sequence[tuple[str, str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The pairs by names that say nothing: what is in each, and its files. Checks are made of videos of all runs in turn."""
    draw = random.Random(f"names {study.seed}")
    names = [f"p{n:02d}" for n in range(1, len(chosen) + study.checks + 1)]
    draw.shuffle(names)
    by_name = {run.name: run for run in (subject, *opponents)}
    for name, (opponent, sample) in zip(names, chosen, strict=False):
        yield name, described(opponent, sample, [subject, by_name[opponent]])
    every = [(run, sample["sample"]) for run in by_name.values() for sample in run.samples]
    for name, (run, sample) in zip(
        names[len(chosen) :], draw.sample(every, min(study.checks, len(every))), strict=False
    ):
        yield name, described(None, sample, [run])


def described(opponent: str | None, sample: str, runs: Sequence[Run]) -> dict[str, Any]:
    records = [sample_of(run, sample) for run in runs]
    files = [run.path / "samples" / record["video"] for run, record in zip(runs, records, strict=True)]
    for file, record in zip(files, records, strict=True):
        if not file.is_file() or sha256_file(file) != record["sha256"]:
            raise ValueError(f"{file} is not the video that its record describes; roll out or copy the run again")
    if len(runs) == 2 and records[0]["sha256"] == records[1]["sha256"]:
        raise ValueError(
            f"{runs[0].label} and {runs[1].label} made the same video of {sample}: there is nothing to choose. Policies "
            "differ only when the window is full; make longer videos, or leave one of the runs out"
        )
    return {
        "opponent": opponent, "sample": sample, "prompt": records[0]["prompt"],
        "sha256": [record["sha256"] for record in records], "files": files,
    }  # fmt: skip


def check_place(out: Path, study: str) -> None:
    """Raises ValueError for a folder that holds another study, whose answers would be lost, or something else."""
    if (out / KEY).exists():
        if read_key(out).study != study:
            raise ValueError(f"out={out} holds another study; choose another folder, or remove it with its answers")
    elif out.exists() and (not out.is_dir() or {entry.name for entry in out.iterdir()} - {"page"}):
        raise ValueError(f"out={out} is there and no study: choose a new folder")


def put(study: str, pair: str, of: dict[str, Any], videos: Path) -> Pair:
    """A pair's two videos under blind names; of a check the second is made here."""
    digests = list(of["sha256"])
    names = [blind(study, pair, digest) for digest in digests]
    copy(of["files"][0], videos / f"{names[0]}.mp4", digests[0])
    if of["opponent"] is None:
        names.append(blind(study, pair, f"spoiled {digests[0]}"))
        spoil(of["files"][0], videos / f"{names[1]}.mp4", seed=names[1])
        digests.append(sha256_file(videos / f"{names[1]}.mp4"))
    else:
        copy(of["files"][1], videos / f"{names[1]}.mp4", digests[1])
    for name in names:
        os.utime(videos / f"{name}.mp4", (EPOCH, EPOCH))
    return Pair(
        pair=pair, opponent=of["opponent"], sample=of["sample"], prompt=of["prompt"], first=names[0], second=names[1],
        sha256=(digests[0], digests[1]),
    )  # fmt: skip


def blind(study: str, pair: str, what: str) -> str:
    """The same video in two pairs has two names."""
    return hashlib.sha256(f"{study} {pair} {what}".encode()).hexdigest()[:16]


def copy(source: Path, target: Path, sha256: str) -> None:
    if target.is_file() and sha256_file(target) == sha256:
        return
    with atomic_path(target) as partial:
        shutil.copyfile(source, partial)


def spoil(source: Path, target: Path, seed: str) -> None:
    """A copy that nobody prefers who looks: cut into blocks that change places twice a second, colours exchanged."""
    info = probe(source)
    draw = np.random.default_rng(int(seed, 16))
    with VideoWriter(target, info.width, info.height, fps=round(info.fps)) as video:
        for part in iter_frames(source, batch=max(1, round(info.fps / 2))):
            video.write(np.ascontiguousarray(in_disorder(part, draw)))


def in_disorder(frames: Frames, draw: np.random.Generator) -> Frames:
    """uint8 [N, H, W, 3]: blocks in other places, the same for all frames, and colours in another order."""
    height, width = (size // BLOCKS * BLOCKS for size in frames.shape[1:3])
    inner = frames[:, :height, :width]
    blocks = inner.reshape(len(frames), BLOCKS, height // BLOCKS, BLOCKS, width // BLOCKS, 3).swapaxes(2, 3)
    flat = blocks.reshape(len(frames), BLOCKS * BLOCKS, height // BLOCKS, width // BLOCKS, 3)
    mixed = flat[:, draw.permutation(BLOCKS * BLOCKS)].reshape(blocks.shape).swapaxes(2, 3).reshape(inner.shape)
    out = frames.copy()
    out[:, :height, :width] = mixed
    return out[..., draw.permutation(3)]


def seen(pair: Pair, first_is_a: bool) -> Seen:
    a, b = (pair.first, pair.second) if first_is_a else (pair.second, pair.first)
    return Seen(pair=pair.pair, a=a, b=b)


def arm(run: Run) -> Arm:
    generator, cache, model = (run.spec.get(part) or {} for part in ("generator", "cache", "model"))
    name = str(generator.get("name") or str(generator.get("_target_", "")).rpartition(".")[2] or "?")
    weights = (
        str(model.get("name") or str(model.get("_target_", "")).rpartition(".")[2] or "?")
        if isinstance(model, dict)
        else str(model)
    )
    return Arm(run=run.name, label=run.label, generator=name, cache=str(cache.get("name") or "?"), model=weights)


def write_page(path: Path, key: Key, title: str) -> None:
    """The page of all raters: blind names, prompts and questions, and nothing else."""
    data = {
        "study": key.study,
        "questions": [{"name": name, "text": text} for name, text in key.questions.items()],
        "prompts": {pair.pair: pair.prompt for pair in key.pairs},
        "raters": [[[seen.pair, seen.a, seen.b] for seen in order] for order in key.raters],
    }
    # "<" inside of a script element would be read by the page's parser first.
    text = Markup(json.dumps(data, ensure_ascii=True).replace("<", "\\u003c"))
    page = filled(
        HERE / "study.html.j2",
        title=title,
        css=inside(HERE / "study.css"),
        js=inside(HERE / "study.js"),
        data=text,
        pairs=len(key.raters[0]),
        seconds=key.seconds,
        raters=len(key.raters),
    )
    atomic_write_text(path, page)
