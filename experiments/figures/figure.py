"""What a figure is, and how it gets onto paper.

A figure is a frozen class in a file of this folder and a yaml in conf/figure/ that names it: its parameters are the yaml's
keys. `read` finds on disk what is drawn, `draw` draws it and reads nothing. Nothing of a figure says a colour, a font or a
width by itself: they are style.py's.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol, TypeVar

import matplotlib
from matplotlib.figure import Figure as Canvas

from deepforcing.runs import atomic_path
from experiments.figures.style import RC

FORMATS = (".png", ".svg", ".pdf")
LARGEST = 100  # inches: 20,000 pixels
# No dates and no versions: the same figure is the same file.
METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None}, ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None},
}  # fmt: skip

Data = TypeVar("Data")


class Figure(Protocol[Data]):
    """What `experiments.figure` draws."""

    def read(self, runs: Sequence[Path]) -> Data:
        """What is drawn, out of run directories; where scores are enough, out of exported and scored folders too
        (results.sources). Raises ValueError in one line for what they do not have."""
        ...

    def draw(self, canvas: Canvas, data: Data) -> None:
        """Sets the canvas' size, makes its axes, and draws. Changes nothing else."""
        ...


@contextmanager
def styled() -> Iterator[None]:
    """Everything that matplotlib makes or saves inside has the one style."""
    with matplotlib.rc_context(RC):  # type: ignore[arg-type]  # it wants literal keys
        yield


class Picture(Canvas):
    """A drawn figure; a notebook shows it."""

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        with styled():
            self.savefig(file, format="png", dpi="figure")
        return file.getvalue()


def drawn(figure: Figure[Data], data: Data) -> Picture:
    """The figure, for a notebook or for `save`."""
    with styled():
        canvas = Picture(layout="constrained")
        figure.draw(canvas, data)
    return canvas


def check_format(out: Path) -> Path:
    """Raises ValueError for a name that does not end as a picture's."""
    if out.suffix not in FORMATS:
        raise ValueError(f"out={out} must end in {', '.join(FORMATS[:-1])} or {FORMATS[-1]}")
    return out


def save(canvas: Canvas, out: Path) -> None:
    """Write .png, .svg or .pdf, whole or not at all, without dates or random ids: the same figure is the same file, but that
    a .pdf has places to the last bit, in which two layouts may differ.

    Raises ValueError for another ending, and for a picture that nobody can open.
    """
    check_format(out)
    width, height = canvas.get_size_inches()
    if max(width, height) > LARGEST:
        size = f"{width:.0f} x {height:.0f} inches"
        raise ValueError(f"the figure would be {size}, at most {LARGEST}: give it fewer runs or panels")
    out.parent.mkdir(parents=True, exist_ok=True)
    drawing = io.BytesIO()  # matplotlib's pdf writer hides what the system says of a full disk
    with styled():
        canvas.savefig(drawing, format=out.suffix[1:], metadata=METADATA[out.suffix])
    data = drawing.getvalue()
    with atomic_path(out) as partial:
        Path(partial).write_bytes(renumbered(data.decode()).encode() if out.suffix == ".svg" else data)


def renumbered(svg: str) -> str:
    """Ids by their order: matplotlib's are hashes of places to the last bit, in which two layouts of one figure may differ."""
    ids = dict.fromkeys(re.findall(r'(?:[ ]id="|url\(#|href="#)([a-z]*[0-9a-f]{10})["\)]', svg))
    number = {name: f"i{n}" for n, name in enumerate(ids)}
    return re.sub(
        r'([ ]id="|url\(#|href="#)([a-z]*[0-9a-f]{10})(?=["\)])', lambda match: match[1] + number[match[2]], svg
    )
