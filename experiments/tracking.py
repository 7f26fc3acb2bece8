"""Weights & Biases as a sink: the run directory stays the source of truth, and what is logged is always all of it.

Every run directory is one W&B run: its id is made of the directory's name, place and beginning, because directories of one
configuration have one name wherever they are and whichever prompts they hold. It is written offline, into a directory that
replaces the one that was written for the same run directory and project, and uploaded by `wandb sync`, then or later. Nothing
is ever resumed: a resumed run takes only steps beyond its last, so a metric that was scored since would be lost or its curve
doubled, while a whole upload under the same id replaces.

Whatever goes wrong here becomes one line; no score depends on it. wandb is imported when something is to be tracked, and
its collection of code, console, git, packages, machine and system is off.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import importlib
import json
import logging
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from deepforcing.records import check_inside
from deepforcing.runs import atomic_write_json, check_writable
from experiments.live.settings import quiet
from experiments.logged import Payload, coordinates, payload, pictures
from experiments.results.runs import Run
from experiments.tables.words import plural

NOTE = "deepforcing.json"  # in an offline directory: which run directory and project it was written for
ROOM = 20_000_000  # bytes that must be free beside the videos: W&B's logs and tables take about one
ROOM_LEFT = 1_000_000


@dataclass(frozen=True)
class Tracker:
    """Where runs go. group None: the run's suite of prompts, else its name. directory None: each run's own.

    videos: how many sample videos of each run, the first by prompt and seed, or the names of samples. upload: seconds
    that `wandb sync` may take now; 0 leaves it to the user. figures: of each group of several runs, names in conf/figure/ and
    .png files.
    """

    project: str = "deepforcing"
    entity: str | None = None
    group: str | None = None
    directory: Path | None = None
    videos: int | tuple[str, ...] = 2
    upload: float = 0.0
    figures: tuple[str, ...] = ()


@dataclass
class Tracked:
    """What `track` did. written: one offline directory per run; groups: one per group of several runs; unsynced: those that
    still have to be uploaded. notes: what is not there, and no failure."""

    written: list[Path] = field(default_factory=list)
    groups: list[Path] = field(default_factory=list)
    unsynced: list[Path] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def add(self, other: Tracked) -> None:
        self.written += other.written
        self.groups += other.groups
        self.unsynced += other.unsynced
        self.problems += other.problems
        self.notes += other.notes


def track(runs: Sequence[Run], table: pd.DataFrame, tracker: Tracker) -> Tracked:
    """Log every run with its scores from the tidy table (which may hold other runs too). Never raises for W&B's sake.

    After the first run that wandb cannot take, the others are not tried: time stays bounded.
    """
    done = Tracked()
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # wandb's crash reports go over the network
    logging.raiseExceptions = False  # a log of wandb's that cannot be written is no page of tracebacks
    try:
        wandb = importlib.import_module("wandb")
        if not hasattr(wandb, "init"):  # a folder called wandb, as wandb itself makes them
            raise ImportError("only a folder of that name is there")
    except Exception as error:
        done.problems.append(f"not tracked: wandb cannot be imported ({_line(error)}); pip install wandb")
        return done
    for run in runs:
        try:
            done.written.append(write(wandb, run, payload(run, table[table["run"] == run.name]), tracker))
        except Exception as error:
            left = len(runs) - len(done.written)
            done.problems.append(f"not tracked: {run.name}: {_line(error)}; {left} of {len(runs)} runs are left")
            break
    if not done.problems:
        write_groups(wandb, runs, table, tracker, done)
    everything = [*done.written, *done.groups]
    done.unsynced = list(everything)
    if tracker.upload and everything:
        reason = upload(everything, tracker.upload)
        done.unsynced = [path for path in everything if not list(path.glob("*.wandb.synced"))]
        if done.unsynced:
            count = f"{len(done.unsynced)} of {len(everything)} runs"
            done.problems.append(f"{count} were not uploaded ({reason}); they are on disk, to upload: see below")
    return done


def write(wandb: Any, run: Run, content: Payload, tracker: Tracker) -> Path:
    """One offline W&B run, in place of those that were written before of the same run directory for the same project.

    Returns its directory. Raises OSError for a place that cannot be written or has too little room.
    """
    root = (tracker.directory or run.path).absolute()
    if tracker.directory is None:
        check_inside(root / "wandb", root)
    videos = choose_videos(run, tracker.videos)
    check_writable(root, ROOM + sum(path.stat().st_size for path, _ in videos), "dir")  # wandb would go elsewhere
    about = {
        "name": run.label,
        "group": tracker.group or group_of(run),
        "job_type": "rollout",
        "config": dict(content.config),
    }

    def fill(session: Any) -> None:
        protocols = {key.split("/")[1] for step in content.steps for key in step}
        for protocol in sorted(protocols):
            axis = f"over_time/{protocol}/seconds"
            session.define_metric(axis, hidden=True, summary="none")
            session.define_metric(f"over_time/{protocol}/*", step_metric=axis, summary="none")
        media: dict[str, Any] = {
            f"tables/{key}": wandb.Table(dataframe=frame.astype(object).where(frame.notna(), None))
            for key, frame in content.tables.items()
            if len(frame)
        }
        if videos:
            media["videos"] = [wandb.Video(str(path), caption=caption, format="mp4") for path, caption in videos]
        for k, step in enumerate([*content.steps] or [{}]):
            session.log({**step, **(media if k == 0 else {})}, step=k)
        session.summary.update(dict(content.summary))

    return offline(wandb, root, run_id(run), str(run.path.resolve()), about, tracker, fill)


def write_groups(wandb: Any, runs: Sequence[Run], table: pd.DataFrame, tracker: Tracker, done: Tracked) -> None:
    """For each group of several runs, or of one where files of pictures are to go with it, one more W&B run: a table that W&B
    draws as parallel coordinates, and the figures."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        if not run.is_real:
            groups.setdefault(tracker.group or group_of(run), []).append(run)
    for group, members in groups.items():
        if len(members) < 2 and not any(figure.endswith(".png") for figure in tracker.figures):
            continue
        names = sorted(run_id(run) for run in members)
        name = f"group-{hashlib.sha256(' '.join([group, *names]).encode()).hexdigest()[:16]}"
        root = (tracker.directory or members[0].path).absolute()

        def fill(session: Any, group: str = group, members: Sequence[Run] = members) -> None:
            media: dict[str, Any] = {"parallel_coordinates": wandb.Table(dataframe=coordinates(members, table))}
            with tempfile.TemporaryDirectory() as folder:
                drawn, lacking = pictures(members, tracker.figures, Path(folder))
                media |= {f"figures/{name}": wandb.Image(str(path)) for name, path in drawn.items()}
                session.log(media, step=0)
            done.notes += [f"group {group}: {line}" for line in lacking]

        about = {
            "name": f"{group}: {plural(len(members), 'run')}",
            "group": group,
            "job_type": "group",
            "config": {"runs": names},
        }
        try:
            if tracker.directory is None:
                check_inside(root / "wandb", root)
            check_writable(root, ROOM, "dir")
            done.groups.append(offline(wandb, root, name, f"group {group}", about, tracker, fill))
        except Exception as error:
            done.problems.append(f"not tracked: group {group}: {_line(error)}")


def offline(
    wandb: Any, root: Path, name: str, of: str, about: Mapping[str, Any], tracker: Tracker, fill: Callable[[Any], None]
) -> Path:
    """A W&B run of that id, whole or not at all, in place of what was written for the same before. of: what it is about."""
    session = wandb.init(
        project=tracker.project,
        entity=tracker.entity,
        id=name,
        **about,
        reinit="create_new",
        settings=quiet(wandb, root),
    )
    directory = Path(session.settings.sync_dir).resolve()
    try:
        fill(session)
    except BaseException:
        session.finish(exit_code=1)
        shutil.rmtree(directory, ignore_errors=True)
        raise
    session.finish()
    if shutil.disk_usage(root).free < ROOM_LEFT:  # W&B's service does not say when it could not write
        shutil.rmtree(directory, ignore_errors=True)
        raise OSError(errno.ENOSPC, "the disk has run full; choose another directory with dir=...", str(root))
    written_for = {"run": of, "project": tracker.project, "entity": tracker.entity}
    for log in (root / "wandb").glob(f"offline-run-*/run-{name}.wandb"):
        if log.parent.resolve() != directory and _note(log.parent) == written_for:
            shutil.rmtree(log.parent, ignore_errors=True)
    atomic_write_json(directory / NOTE, written_for)
    return directory


def run_id(run: Run) -> str:
    """W&B's id of a run directory, at most 64 characters: its name, and what tells it from others of that name."""
    place = f"{run.path.resolve()} {run.record.get('created')}"
    name = re.sub(r"[^A-Za-z0-9._-]", "-", run.path.resolve().name)
    return f"{name[:55]}-{hashlib.sha256(place.encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _note(directory: Path) -> object:
    """For what an offline directory was written; None where it does not say."""
    try:
        return json.loads((directory / NOTE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def group_of(run: Run) -> str:
    """The experiment that a run belongs to: its suite of prompts, else its name."""
    prompts = run.spec.get("prompts")
    return Path(prompts).stem if isinstance(prompts, str) and prompts else str(run.record.get("name") or run.name)


def choose_videos(run: Run, wanted: int | tuple[str, ...]) -> list[tuple[Path, str]]:
    """(file, caption) of the samples to show; those of other runs are left out, as are lost files."""
    shown = run.samples[:wanted] if isinstance(wanted, int) else [s for s in run.samples if s["sample"] in wanted]
    found = [(run.path / "samples" / s["video"], f"{s['sample']}: {s.get('prompt', '')}") for s in shown]
    return [(path, caption) for path, caption in found if path.is_file()]


def sync_command(paths: Sequence[Path]) -> str:
    """What uploads these offline directories, to be typed when there is a network and a login."""
    here = Path.cwd()
    short = [str(path.relative_to(here) if path.is_relative_to(here) else path) for path in paths]
    return f"python -m wandb sync {shlex.join(short)}"


def upload(paths: Sequence[Path], seconds: float) -> str:
    """Run `wandb sync` for at most `seconds`; it cannot ask for a login. Returns what it last said."""
    command = [sys.executable, "-m", "wandb", "sync", *map(str, paths)]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        start_new_session=True, env={**os.environ, "WANDB_DIR": str(paths[0].parent.parent)},  # where its logs go
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        return f"not finished within {seconds:g} s"
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    lines = [line.removeprefix("wandb: ").strip() for line in said.splitlines()]
    return next((line[:200] for line in reversed(lines) if line), f"exit status {process.returncode}")


def _line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.filename and error.strerror:
        return f"{error.filename2 or error.filename}: {error.strerror}"[:300]
    return (" ".join(str(error).split()) or type(error).__name__)[:300]
