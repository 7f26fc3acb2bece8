"""Pages from templates: text of prompts, labels and configurations is escaped, and a name that is missing is an error."""

from __future__ import annotations

from pathlib import Path

import jinja2
from markupsafe import Markup

STYLE = Path(__file__).parent / "style.css"  # of every page of tables


def filled(template: Path, **values: object) -> str:
    """The page of a template (.html.j2) with these values.

    Raises jinja2.UndefinedError for a name that the template reads and nobody gave.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(template.parent),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    return environment.get_template(template.name).render(**values)


def inside(*files: Path) -> Markup:
    """Styles or scripts of ours, one after the other, as they stand inside of a page: not escaped."""
    return Markup("").join(Markup(file.read_text(encoding="utf-8")) for file in files)
