"""Run directories: what was asked for, which samples are finished, and how both survive kill -9.

    <root>/<name>-<8 hex>/         hex = identity_hash of everything that changes pixels
      run.json                     written first
      samples/<sample>.mp4         renamed to this name when it is whole
      samples/<sample>.safetensors its latents, where they are kept, likewise
      samples/<sample>.json        written last: its presence means that the sample is finished
      samples/.<sample>.lock       while a process works on it
      scores/                      written by eval

Every file appears under its name complete or not at all. Resuming needs no flag: run the same command again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol, TypeVar

from deepforcing.plain_json import check_json
from deepforcing.records import (
    NAME,
    SCHEMA,
    DamagedError,
    RunRecord,
    SampleRecord,
    check,
    check_inside,
    read_run,
    read_sample,
)
from deepforcing.video import sha256_file, sync_directory

MIN_FREE_BYTES = 50_000_000


class Named(Protocol):
    """Something in a plan: prompts.Sample is one."""

    @property
    def name(self) -> str: ...


Planned = TypeVar("Planned", bound=Named)
Also = Callable[[str], bool] | None  # whether what else a sample needs is there


def canonical_json(value: object) -> str:
    """One text per JSON value: keys sorted, no spaces, floats as Python's repr, tuples as lists.

    Raises ValueError, saying where, for anything else: NaN and infinities, keys that are not strings, paths, tensors,
    NumPy numbers, enums. 1 and 1.0 differ: give every field one type.
    """
    check_json(value, "identity")
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def identity_hash(identity: Mapping[str, Any]) -> str:
    """First 8 hex digits of the sha256 of canonical_json(identity)."""
    return hashlib.sha256(canonical_json(identity).encode()).hexdigest()[:8]


@contextlib.contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary path in the same directory, which becomes `path` when the block ends without an exception.

    The content is fsynced before the rename, so `path` is never half written, whatever happens. The temporary name ends
    in `.partial-<hex>`: no pattern for finished files matches it. Raises OSError, naming a file, when the disk is full.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial-{secrets.token_hex(4)}")
    try:
        yield partial
        with open(partial, "rb") as file:
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename is None:  # a full disk: the system does not say which file
            raise OSError(error.errno, f"cannot write the file: {error.strerror}", str(path)) from error
        raise
    sync_directory(path.parent)


def atomic_write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text; see atomic_path."""
    with atomic_path(path) as partial:
        partial.write_text(text, encoding="utf-8")


def atomic_write_json(path: str | Path, value: object) -> None:
    """Write indented JSON; see atomic_path. Raises ValueError for NaN, TypeError for what JSON cannot hold."""
    atomic_write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


@dataclass(frozen=True)
class RunDir:
    """One run directory. Make it with `create` or find it with `open`; any number of processes may work on one run."""

    path: Path

    @classmethod
    def create(
        cls, root: str | Path, name: str, identity: Mapping[str, Any], record: Mapping[str, Any] | None = None
    ) -> RunDir:
        """Open <root>/<name>-<hash>, making it if need be.

        record: the other fields of run.json (label, spec, geometry, environment ...); they do not change the identity.
        An existing run with the same identity is used as it is, its run.json stays what it was. Raises ValueError for
        a name that is no plain file name, a record that could not be read back, an existing run.json that is damaged or of
        another identity or of videos of another size (run directories of versions whose identities left sizes out), and
        samples without a run.json.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"run name {name!r} must be 1 to 100 letters, digits, dots, dashes and underscores")
        clash = {"schema", "name", "created", "identity"} & set(record or {})
        if clash:
            raise ValueError(f"the record of a run must not set {', '.join(sorted(clash))}")
        run = cls(Path(root) / f"{name}-{identity_hash(identity)}")
        created = datetime.now(UTC).isoformat(timespec="seconds")
        full = {"schema": SCHEMA, "name": name, "created": created, "identity": identity, **(record or {})}
        check(RunRecord, full, run._json)
        run.path.mkdir(parents=True, exist_ok=True)
        check_inside(run._samples, run.path)  # nothing is written through a link to somewhere else
        with _lock(run.path / ".lock", wait=True):
            if run._json.exists():
                known = run.record()
                if canonical_json(known.get("identity")) != canonical_json(identity):
                    raise ValueError(
                        f"{run.path} belongs to a run with other settings (see identity in its run.json); "
                        "move it away or choose another name"
                    )
                there, here = _sizes(known), _sizes(full)
                other = next((size for size in sorted(there.keys() & here.keys()) if there[size] != here[size]), None)
                if other is not None:
                    raise ValueError(
                        f"{run.path} is of a run with {other}={there[other]!s:.60}, not {here[other]!s:.60} (see its "
                        "run.json); move it away or choose another name"
                    )
            elif run._samples.exists() and any(run._samples.iterdir()):
                raise ValueError(f"{run.path} has samples but no run.json; restore it, or move the directory away")
            else:
                atomic_write_json(run._json, full)
            run._samples.mkdir(exist_ok=True)
        return run

    @classmethod
    def open(cls, path: str | Path) -> RunDir:
        """Find an existing run. Raises ValueError when there is none or its run.json is damaged."""
        run = cls(Path(path))
        if not run.path.is_dir():
            raise ValueError(f"{path} is not a directory; give a run directory, <runs_root>/<name>-<8 hex>")
        if not run._json.exists():
            inside = sorted(child.parent.name for child in run.path.glob("*/run.json"))
            hint = f"; it holds the runs {', '.join(inside[:5])}{' ...' if len(inside) > 5 else ''}" if inside else ""
            raise ValueError(f"{path} is not a run directory: it has no run.json{hint}")
        run.record()
        return run

    @property
    def name(self) -> str:
        """The directory's name, which is the run's name in every table."""
        return self.path.resolve().name

    def record(self) -> dict[str, Any]:
        """run.json. Raises ValueError when it is damaged, of another schema, or not what deepforcing.records says."""
        try:
            return read_run(self.path)
        except DamagedError as error:
            raise ValueError(
                f"{self._json} is damaged; restore it, or move {self.path} away and run the same command again ({error})"
            ) from None

    def video_path(self, sample: str) -> Path:
        """Where a sample's video belongs. Raises ValueError for a name that is no plain file name."""
        return self._samples / f"{_checked(sample)}.mp4"

    def latents_path(self, sample: str) -> Path:
        """Where its latents belong."""
        return self.video_path(sample).with_suffix(".safetensors")

    def samples(self) -> list[dict[str, Any]]:
        """The records of all finished samples, sorted by name. Raises ValueError for one that is whole and cannot be one."""
        found = (self._finished(file.name.removesuffix(".json")) for file in sorted(self._samples.glob("[!.]*.json")))
        return [record for record in found if record is not None]

    def completed(self) -> set[str]:
        """Names of the finished samples: the json is whole, and the video has the size that it records."""
        return {record["sample"] for record in self.samples()}

    def todo(self, plan: Sequence[Planned], latents: bool = False, also: Also = None) -> list[Planned]:
        """What of the plan is not finished, in the plan's order. latents: without its latents none is. also: whether what an
        observer writes of a sample is there, without which none is either."""
        done = {record["sample"] for record in self.samples() if self._whole(record, latents, also)}
        return [item for item in plan if item.name not in done]

    def has_latents(self, record: Mapping[str, Any]) -> bool:
        """Whether a finished sample's latents are there."""
        kept = record.get("latents")
        try:
            return kept is not None and self.latents_path(record["sample"]).stat().st_size == kept["bytes"]
        except OSError:
            return False

    @contextlib.contextmanager
    def claim(self, sample: str, latents: bool = False, also: Callable[[str], bool] | None = None) -> Iterator[bool]:
        """Work on one sample alone. True: make it. False: leave it, another process is at it or has finished it.

        The lock is flock's: the system releases it when its process dies, however it dies. So whoever holds it may
        remove what a killed process left of this sample, on whichever machine that ran, and nobody ever touches the
        unfinished files of another sample. Raises OSError on file systems without flock.
        """
        with _lock(self._samples / f".{_checked(sample)}.lock", wait=False) as held:
            finished = self._finished(sample) if held else None
            if not held or (finished is not None and self._whole(finished, latents, also)):
                yield False
                return
            for leftover in (*self._samples.glob(f"{sample}.partial.*"), *self._samples.glob(f"{sample}.*.partial-*")):
                leftover.unlink(missing_ok=True)
            yield True

    def commit(self, record: Mapping[str, Any]) -> dict[str, Any]:
        """Declare a sample finished, by writing its json; the video must be in place. Returns the record as written.

        record: of records.SampleRecord; schema, video, bytes and sha256 are added here. Raises ValueError when the video is
        missing or the record could not be read back.
        """
        video = self.video_path(str(record.get("sample")))
        if not video.is_file():
            raise ValueError(f"{video} is not there: a sample can be committed when its video is whole")
        added = {"video": video.name, "bytes": video.stat().st_size, "sha256": sha256_file(video)}
        full = {"schema": SCHEMA, **record, **added}
        check(SampleRecord, full, video.with_suffix(".json"))
        atomic_write_json(video.with_suffix(".json"), full)
        return full

    def _whole(self, record: Mapping[str, Any], latents: bool, also: Also) -> bool:
        return (not latents or self.has_latents(record)) and (also is None or also(str(record["sample"])))

    @property
    def _json(self) -> Path:
        return self.path / "run.json"

    @property
    def _samples(self) -> Path:
        return self.path / "samples"

    def _finished(self, sample: str) -> dict[str, Any] | None:
        """Its record; None when it is not there or cut off, or the video is not the one that it describes."""
        try:
            record = read_sample(self._samples / f"{sample}.json")
        except DamagedError:
            return None
        try:
            same = (self._samples / record["video"]).stat().st_size == record.get("bytes")
        except OSError:
            return None
        return record if same else None


def check_writable(root: str | Path, min_free_bytes: int = MIN_FREE_BYTES, key: str = "runs_root") -> None:
    """Before long work: make `root`, write a file in it, look at the free space. Raises OSError with what is wrong.

    key: of the command line, by which another directory can be chosen.
    """
    root = Path(root)
    advice = f"choose another directory with {key}=..."
    try:
        root.mkdir(parents=True, exist_ok=True)
        trial = root / f".write-test-{secrets.token_hex(4)}"
        try:
            trial.write_bytes(bytes(4096))
        finally:
            trial.unlink(missing_ok=True)
        free = shutil.disk_usage(root).free
    except OSError as error:
        raise OSError(error.errno, f"cannot write there ({error.strerror}); {advice}", str(root)) from error
    if free < min_free_bytes:
        message = f"only {free / 1e6:.0f} MB free, at least {min_free_bytes / 1e6:.0f} MB are needed; {advice}"
        raise OSError(errno.ENOSPC, message, str(root))


def _sizes(record: Mapping[str, Any]) -> dict[str, Any]:
    """What a run's record says of its videos' and its model's sizes, by dotted name."""
    model = (record.get("spec") or {}).get("model")
    groups = {"geometry": record.get("geometry"), "config": model.get("config") if isinstance(model, dict) else None}
    sizes = {} if record.get("pixel_scale") is None else {"pixel_scale": record["pixel_scale"]}
    for group, values in groups.items():
        if isinstance(values, dict):
            sizes |= {f"{group}.{k}": v for k, v in values.items() if v is not None and k != "_target_"}
    return sizes


def _checked(sample: str) -> str:
    if not NAME.fullmatch(sample):
        raise ValueError(f"sample name {sample!r} must be 1 to 100 letters, digits, dots, dashes and underscores")
    return sample


@contextlib.contextmanager
def _lock(path: Path, *, wait: bool) -> Iterator[bool]:
    """Hold an exclusive flock on `path`, a file removed afterwards; yield False when it is taken and we do not wait."""
    while True:
        # Not through a link: it could be one to somewhere else, where a file would be made.
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            os.close(descriptor)
            yield False
            return
        except OSError as error:
            os.close(descriptor)
            reason = f"cannot lock ({error.strerror}); runs need a file system that supports flock"
            raise OSError(error.errno, reason, str(path)) from error
        with contextlib.suppress(FileNotFoundError):
            # The holder before us may have removed the file after we opened it: a lock on it would exclude nobody.
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        os.close(descriptor)
    try:
        yield True
    finally:
        with contextlib.suppress(OSError):
            path.unlink(missing_ok=True)
        os.close(descriptor)
