"""What commands write to: streams that take every character, a console that prints data as it is, one kind of bar."""

from __future__ import annotations

import codecs
import errno
import io
import os
import select
import sys
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING, TextIO

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Progress, ProgressColumn

ASCII = {
    "→": "->", "←": "<-", "↑": "^", "↓": "v", "–": "-", "—": "-", "−": "-", "×": "x", "·": ".", "…": "...", "±": "+/-",
    "“": '"', "”": '"', "‘": "'", "’": "'", "Δ": "Delta", "μ": "u", "°": " deg", "≤": "<=", "≥": ">=", "•": "*",
}  # fmt: skip


def replacing(error: UnicodeError) -> tuple[str, int]:
    """Error handler of codecs: what a stream cannot write becomes its nearest ASCII, else a backslash escape."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    part = error.object[error.start : error.end]
    return "".join(ASCII.get(c) or c.encode("ascii", "backslashreplace").decode() for c in part), error.end


def take_every_character() -> None:
    """From now on nothing that is printed can fail for the terminal's encoding (LANG=C, a pipe that is not UTF-8)."""
    codecs.register_error("deepforcing", replacing)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a test's or a notebook's
            stream.reconfigure(errors="deepforcing")


def console(quiet: bool = False) -> Console:
    """Prints data as it is: no markup and no emoji codes, because names of folders and prompts hold [brackets] and :colons:;
    lines are not broken, so that paths can be copied."""
    from rich.console import Console

    return Console(quiet=quiet, markup=False, emoji=False, highlight=False, soft_wrap=True)


def bar(over: Console, of: str) -> Progress:
    """A progress bar. of: what is counted."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [
        TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TextColumn(of, markup=False),
        TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(),
    ]  # fmt: skip
    return Progress(*columns, console=over)


def download_bar() -> Progress:
    """A progress bar of bytes."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    return Progress(
        TextColumn("  {task.description}", markup=False), BarColumn(), DownloadColumn(), TransferSpeedColumn(),
        TimeRemainingColumn(),
    )  # fmt: skip


def visible(text: str) -> str:
    """Control characters but line breaks as they are written in code: names of files may hold what acts on a terminal."""
    acting = (c != "\n" and unicodedata.category(c) == "Cc" for c in text)
    return "".join(c.encode("unicode_escape").decode() if acts else c for c, acts in zip(text, acting, strict=True))


def say(message: str) -> None:
    print(f"error: {visible(message)}", file=sys.stderr, flush=True)


def say_quietly(message: str) -> None:
    """A line on stderr that is no error; a terminal that is gone is no reason to fail."""
    with suppress(OSError):
        print(visible(message), file=sys.stderr, flush=True)


def closed(stream: TextIO) -> bool:
    """Whether nobody reads a stream any more. If so it leads nowhere from now on: at exit Python would write once more."""
    try:
        ends = select.poll()
        ends.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # no file behind it
        return False
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))
    if gone:
        lead_nowhere(stream)
    return gone


def full(error: Exception) -> bool:
    """Whether it is what was printed that found no room: files are named by whoever writes them. If so standard output leads
    nowhere from now on."""
    found = isinstance(error, OSError) and error.errno == errno.ENOSPC and error.filename is None
    if found:
        lead_nowhere(sys.stdout)
    return found


def lead_nowhere(stream: TextIO) -> None:
    with suppress(OSError, ValueError):  # no file behind it
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
