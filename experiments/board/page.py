"""The leaderboard's page: one self-contained file; its script sorts and filters, without it everything is there."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

from experiments.board.settings import Entry
from experiments.board.tables import Board, foreign_words, grid
from experiments.page.template import STYLE, filled, inside
from experiments.results.exported import digest_of
from experiments.tables.render import page as drawn
from experiments.tables.words import plural

HERE = Path(__file__).parent


def page_html(made: Sequence[Board], title: str, out: Path) -> str:
    """out: where the page will lie; links to videos are relative to it."""
    page = {
        "title": title,
        "lead": lead(made),
        "tables": [table_context(i, board, out.parent) for i, board in enumerate(made, start=1)],
        "filters": filters(made),
    }
    css = inside(STYLE, HERE / "board.css")  # the report's, and beside it the board's own
    return filled(HERE / "board.html.j2", page=page, css=css, js=inside(HERE / "board.js"))


def lead(made: Sequence[Board]) -> list[str]:
    settings = [board.group.setting for board in made]
    rows = len({(board.group.setting.foreign, row.name) for board in made for row in board.table.rows})
    found = [
        f"{plural(rows, 'policy').replace('policys', 'policies')}, {plural(len(made), 'table')}. A table is of equal prompts, "
        "one seed, one length, one set of weights and one protocol; nothing is averaged over two of them."
    ]
    worlds = {entry.run.record.get("world") for board in made for entry in board.entries if entry.run}
    if worlds - {None}:
        found.append("The embedded worlds are small models of procedural video: nothing here is about Wan.")
    if any(setting.foreign for setting in settings):
        found.append("Foreign scores are somebody else's, as their file says them.")
    return found


def filters(made: Sequence[Board]) -> list[dict[str, Any]]:
    """What tables can be told by, where they differ in it."""
    settings = [board.group.setting for board in made]
    choices = {
        "prompts": [setting.suite for setting in settings],
        "length": [setting.length for setting in settings],
        "seed": [str(setting.seed) for setting in settings],
        "scores": ["foreign" if setting.foreign else "own" for setting in settings],
    }
    return [
        {"name": name, "choices": list(dict.fromkeys(values))}
        for name, values in choices.items()
        if len(set(values)) > 1
    ]


def table_context(index: int, board: Board, beside: Path) -> dict[str, Any]:
    setting, group = board.group.setting, board.group
    behind = [of_entry(f"t{index}r{i}", entry, beside) for i, entry in enumerate(board.entries)]
    hrefs = {
        entry.name: f"#{one['id']}" for entry, one in zip(board.entries, behind, strict=True) if group.foreign is None
    }
    return {
        "id": f"t{index}",
        "title": setting.title,
        "foreign": foreign_words(group),
        "model": "" if group.foreign else setting.model,
        "facts": {
            "prompts": setting.suite,
            "length": setting.length,
            "seed": str(setting.seed),
            "scores": "foreign" if setting.foreign else "own",
        },
        "baseline": board.table.label(board.table.baseline) if board.table.differences else "",
        "table": drawn(grid(board, hrefs), "board"),
        "notes": board.table.notes,
        "behind": [] if group.foreign else behind,
    }


def of_entry(name: str, entry: Entry, beside: Path) -> dict[str, Any]:
    """What stands behind a row: its record, and its videos where they are on disk."""
    run, videos, origin = entry.run, [], ""
    if run is not None and run.exported is None:
        for sample in entry.samples:
            file = run.path / "samples" / str(sample["video"])
            href = relative(file, beside) if file.is_file() else ""
            videos.append({"prompt": str(sample["prompt"]), "href": href})
    if run is not None and run.exported is not None:
        origin = f"videos are not here; scores from {run.exported.name}, digest {digest_of(run.exported)}"
    record = relative(run.path / "run.json", beside) if run is not None else ""
    count = plural(len(entry.samples), "video")
    return {"id": name, "label": entry.label, "count": count, "record": record, "videos": videos, "origin": origin}


def relative(file: Path, beside: Path) -> str:
    """As a page that lies in `beside` links to a file."""
    return quote(Path(os.path.relpath(file.absolute(), beside.absolute())).as_posix())
