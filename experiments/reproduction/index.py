"""The page of the paper's tables and figures: what is there, beside what is missing and the command for it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from markdown_it import MarkdownIt
from markupsafe import Markup

from experiments.page.template import STYLE, filled, inside
from experiments.reproduction.parts import Drawn

HERE = Path(__file__).parent


def page(parts: Sequence[Drawn]) -> str:
    """One page; pictures lie beside it. Text of runs and prompts is escaped: Markdown's HTML is off."""
    markdown = MarkdownIt("commonmark", {"html": False}).enable("table")
    shown = [
        {"name": d.part.name, "title": d.part.title, "text": Markup(whole_intervals(markdown.render(lowered(d.text)))),
         "files": d.files, "missing": d.missing, "commands": d.commands}
        for d in parts
    ]  # fmt: skip
    return filled(HERE / "index.html.j2", parts=shown, css=inside(STYLE))


def whole_intervals(html: str) -> str:
    """An interval (in brackets) may go below its number, but is not broken itself: columns stay narrow."""
    return re.sub(r"(?<= )\[[^\]<>]*\]\*?(?=</td>)", r'<span class="bracket">\g<0></span>', html)


def lowered(text: str) -> str:
    """The headings of a report below those of the page."""
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in text.splitlines())
