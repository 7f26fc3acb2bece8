"""Where results go is looked at before the work, not after it."""

from __future__ import annotations

from pathlib import Path

from deepforcing.runs import check_writable

A_MEGABYTE = 1_000_000


def check_output(path: str | Path, key: str = "out", megabytes: float = 1) -> Path:
    """A file that will be written: its folder is made and tried, there must be some room, nothing may be in the way.

    key: of the command line, by which another place can be chosen. Raises ValueError or OSError naming the place.
    """
    path = Path(path)
    if path.is_dir():
        raise ValueError(f"{key}={path} is a folder: name a file in it")
    check_writable(path.parent, int(megabytes * A_MEGABYTE), key)
    return path
