"""A figure as SVG inside of a page: in the page's colours and letters, light and dark, with its axes' place for the script."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from experiments.figures.figure import styled
from experiments.figures.style import FAINT, GRID, INK, RC, SOFT

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure as Canvas

SVG, LINK = "{http://www.w3.org/2000/svg}", "{http://www.w3.org/1999/xlink}href"
THEME = {INK: "var(--ink)", SOFT: "var(--soft)", FAINT: "var(--faint)", GRID: "var(--grid)"}
"""The colours of the style as the page calls them."""


def inline(canvas: Canvas, axes: Axes, title: str, name: str, colours: Mapping[str, str]) -> str:
    """SVG text with the class "panel". name: of the figure in its page, which its ids begin with. colours: {"#rrggbb": CSS},
    beside THEME. What has a gid in matplotlib has it as its class here. data-x0 and data-x1 are where the axis begins and ends
    in the SVG's units, data-seconds how much of its own unit it is long; a line with the class "cursor" stands at its start.
    """
    file = io.BytesIO()
    with styled():
        canvas.savefig(file, format="svg", transparent=True, dpi=72)
    root = ElementTree.fromstring(file.getvalue())  # matplotlib's own, a moment ago
    used = set(
        re.findall(r"#(\w+)", " ".join(a for e in root.iter() for k, a in e.attrib.items() if k in (LINK, "clip-path")))
    )
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag in (f"{SVG}metadata", f"{SVG}style") or not isinstance(child.tag, str):
                parent.remove(child)
    drawn = {artist.get_gid() for artist in canvas.findobj()}
    for element in root.iter():
        element.tag = element.tag.removeprefix(SVG)
        tidy(element, name, used, drawn, {**THEME, **colours})
    width, height = (72 * size for size in canvas.get_size_inches())
    scale = 72 / canvas.dpi
    x0, x1, y0, y1 = (v * scale for v in (axes.bbox.x0, axes.bbox.x1, axes.bbox.y0, axes.bbox.y1))
    root.attrib.clear()
    root.attrib.update(
        {"class": "panel", "viewBox": f"0 0 {width:g} {height:g}", "role": "img", "aria-label": f"{title} over time"}
    )
    root.attrib.update({"data-x0": f"{x0:.2f}", "data-x1": f"{x1:.2f}", "data-seconds": f"{axes.get_xlim()[1]:.4f}"})
    cursor = {
        "class": "cursor",
        "x1": f"{x0:.2f}",
        "x2": f"{x0:.2f}",
        "y1": f"{height - y1:.2f}",
        "y2": f"{height - y0:.2f}",
    }
    ElementTree.SubElement(root, "line", cursor)
    text: str = ElementTree.tostring(root, encoding="unicode", short_empty_elements=True)
    return re.sub(r">\s+<", "><", text)


def tidy(
    element: ElementTree.Element, name: str, used: set[str], gids: set[str | None], colours: Mapping[str, str]
) -> None:
    """An element's attributes as the page wants them: ids that are its own, classes, its colours, short numbers."""
    of = element.attrib
    identity = of.pop("id", None)
    if identity in used:
        of["id"] = f"{name}-{identity}"
    elif identity in gids and identity is not None:
        of["class"] = identity
    if LINK in of:
        of["href"] = f"#{name}-{of.pop(LINK)[1:]}"
    if "clip-path" in of:
        of["clip-path"] = of["clip-path"].replace("#", f"#{name}-")
    for key in {"d", "x", "y", "transform", "style"} & set(of):
        value = re.sub(r"-?\d+\.\d{2,}", lambda match: f"{float(match[0]):.1f}".removesuffix(".0"), of[key])
        of[key] = value if key != "style" else themed(of[key], colours)
    if "d" in of:
        of["d"] = " ".join(of["d"].split())


def themed(style: str, colours: Mapping[str, str]) -> str:
    """Colours and letters of an element's style as the page's."""
    style = re.sub(r"#[0-9a-f]{6}", lambda match: colours.get(match[0], match[0]), style)
    return style.replace(f"'{RC['font.family']}'", "var(--sans)")
