"""The files behind the metrics: `python -m experiments.weights metrics`, with download=true or verify=true.

Everything lies where the vbench package itself looks for it ($VBENCH_CACHE_DIR, else ~/.cache/vbench, and $TORCH_HOME), so
an installation of VBench is found, and what is fetched here serves VBench. <cache>/metrics.json keeps the sha256 of each
file once it is known.
"""

from __future__ import annotations

import contextlib
import shutil
import zipfile
from pathlib import Path

from pydantic import TypeAdapter

from deepforcing.records import Sha256, Text
from deepforcing.wan.weights import sha256
from eval.metrics import DIMENSIONS, OVER_TIME
from eval.networks.weights import FILES, File, directory_sha256, torch_home, vbench_cache
from experiments.downloads.fetch import fetch
from experiments.downloads.manifest import read_entries, write_entries


def metrics_of(name: str) -> list[str]:
    """The metrics that need a name of FILES."""
    found = [metric.name for metric in (*DIMENSIONS, *OVER_TIME) if name in metric.weights]
    return found or ["clip_to_clip mode alone"]


def records_path() -> Path:
    return vbench_cache() / "metrics.json"


def records() -> dict[str, str]:
    """{name of FILES: sha256 when it was first fetched or verified}. Raises ValueError if the record is not readable."""
    return read_entries(records_path(), TypeAdapter(dict[Text, Sha256]))


def digest(path: Path, file: File) -> str:
    return directory_sha256(path, file.members) if path.is_dir() else sha256(path)


def verify(name: str) -> str:
    """sha256 of what is there, recorded. Raises ValueError if it is not the published one or has changed since."""
    file, known = FILES[name], records()
    path = file.find()
    if path is None:
        raise ValueError(f"{file.what} is not there: {file.paths()[0]}")
    found = digest(path, file)
    if not found.startswith(file.sha256):
        raise ValueError(
            f"{path} is not the published {file.what}: its sha256 begins {found[:12]}, not {file.sha256[:12]}"
        )
    if known.get(name, found) != found:
        raise ValueError(f"{path} has changed: its sha256 begins {found[:12]}, recorded is {known[name][:12]}")
    with contextlib.suppress(OSError):  # a cache that others own: nothing is recorded there
        write_entries(records_path(), known | {name: found})
    return found


def verify_metrics() -> None:
    """Print the sha256 of everything that is here. Raises ValueError as `verify` does."""
    for name, file in FILES.items():
        if file.find() is not None:
            print(f"{verify(name)}  {file.find()}")


def show_metrics() -> int:
    """Print what each metric needs and what of it is here; the number of missing things."""
    known, missing = records(), {}
    print(f"metrics: VBench's cache is {vbench_cache()}")
    for name, file in FILES.items():
        path = file.find()
        size = f"{file.megabytes:g} MB" if file.megabytes is not None else "small"
        if path is not None and path.is_file():
            size = f"{path.stat().st_size / 1e6:.4g} MB"
        published = f"published sha256 {file.sha256[:12]}" if file.sha256 else "sha256 not known yet"
        sha = f"sha256 {known[name][:12]}" if path and name in known else published
        mark = "here   " if path else "missing"
        print(f"  {mark}  {file.what:<20}  {path or file.paths()[0]}  ({size}, {sha}; {', '.join(metrics_of(name))})")
        print(f"           {file.source}{f': {file.by_hand}' if path is None and file.by_hand else ''}")
        if path is None and not file.by_hand:
            missing[name] = file
    if missing:
        print("to get what is missing: python -m experiments.weights metrics download=true")
        print("or, without a network here, copy:")
        for file in missing.values():
            what = (
                f" (in it {file.member})" if file.member else f"/{{{','.join(file.members)}}}" if file.members else ""
            )
            print(f"  {file.source}{what}\n    to {file.paths()[0]}")
    return len(missing)


def download_metrics() -> None:
    """Fetch whatever is missing, into the first place where it is looked for, and link it where the vbench package looks
    too. Raises ValueError in one line.
    """
    for name, file in FILES.items():
        if file.find() is not None or file.by_hand:
            continue
        target = file.paths()[0]
        print(f"{file.source} -> {target}")
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.members:
            fetch_tree(file, target)
        elif file.member:
            fetch_member(file, target)
        else:
            fetch(file.source, target, file.what)
        try:
            print(f"  sha256 {verify(name)}")
        except ValueError:
            shutil.rmtree(target) if target.is_dir() else target.unlink(missing_ok=True)
            raise
    share_with_vbench()


def share_with_vbench() -> None:
    """Links in the other places where the vbench package looks for what it wants in several: it would fetch it again.

    An empty file, which may stand in for another, is not passed on. What cannot be linked is told in a line.
    """
    own = vbench_cache(), torch_home()  # nothing is put into other packages
    for file in FILES.values():
        here = file.find()
        if not file.everywhere or here is None or not here.stat().st_size:
            continue
        for place in file.paths():
            if place.exists() or not any(place.is_relative_to(folder) for folder in own):
                continue
            try:
                place.parent.mkdir(parents=True, exist_ok=True)
                place.unlink(missing_ok=True)  # a link to nothing
                place.symlink_to(here.resolve())
                print(f"{place} -> {here}")
            except OSError as error:
                print(f"{place} could not be linked to {here} ({error.strerror}); the vbench package looks there too")


def fetch_member(file: File, target: Path) -> None:
    """One member of a zip, which is removed afterwards."""
    archive = target.with_name("archive.zip")
    fetch(file.source, archive, file.what, place=target)
    try:
        with zipfile.ZipFile(archive) as held, held.open(file.member) as source:
            size = held.getinfo(file.member).file_size  # no more is unpacked
            if file.megabytes is not None and size > 10e6 * file.megabytes:
                raise zipfile.BadZipFile(f"it unpacks to {size / 1e6:.0f} MB")
            partial = target.with_name(f"{target.name}.partial")
            with open(partial, "wb") as out:
                shutil.copyfileobj(source, out)
        partial.replace(target)
    except (zipfile.BadZipFile, KeyError) as error:
        raise ValueError(f"{file.source} is not a zip with {file.member} ({error}); copy it to {target}") from None
    finally:
        archive.unlink(missing_ok=True)


def fetch_tree(file: File, target: Path) -> None:
    """The files of a small source tree, all or none."""
    partial = target.with_name(f"{target.name}.partial")
    partial.mkdir(exist_ok=True)
    for member in file.members:
        fetch(f"{file.source}/{member}", partial / member, file.what, place=target)
    partial.rename(target)
