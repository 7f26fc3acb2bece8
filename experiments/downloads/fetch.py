"""One file from an address, whole or not at all under its name, going on where an earlier try broke off.

Our own because the libraries for it (pooch, torch.hub) begin anew, and the largest network is 1.7 GB.
"""

from __future__ import annotations

import http.client
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path

from experiments.command.terminal import download_bar

BLOCK = 1 << 20


def fetch(
    url: str, target: Path, what: str, verify: Callable[[Path], None] | None = None, place: Path | None = None
) -> Path:
    """The file at `target`, fetched. verify: raises ValueError for a file that is not the published one, which is then removed.
    place: where a copy by hand belongs, if not at `target`.

    Raises ValueError in one line: what went wrong, and where a copy by hand would belong.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f"{target.name}.partial")
    have = partial.stat().st_size if partial.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={have}-"} if have else {})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            if have and getattr(answer, "status", 200) != 206:  # the server begins anew
                have = 0
            length = answer.headers.get("Content-Length")
            total = have + int(length) if length else None
            with open(partial, "ab" if have else "wb") as out, download_bar() as bar:
                task = bar.add_task(what, total=total, completed=have)
                while block := answer.read(BLOCK):
                    out.write(block)
                    bar.advance(task, len(block))
    except (urllib.error.URLError, http.client.HTTPException, OSError) as error:
        if have and getattr(error, "code", None) == 416:  # nothing is left to fetch: what is there is whole or wrong
            partial.unlink()
            return fetch(url, target, what, verify, place)
        reason = getattr(error, "reason", None) or error
        raise ValueError(f"{url} cannot be fetched ({reason}); copy {what} to {place or target}") from None
    if total is not None and partial.stat().st_size != total:
        raise ValueError(
            f"{url} broke off at {partial.stat().st_size} of {total} bytes; run the command again to go on"
        )
    if verify is not None:
        try:
            verify(partial)
        except ValueError:
            partial.unlink()
            raise
    partial.replace(target)
    return target
