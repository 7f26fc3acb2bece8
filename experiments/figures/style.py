"""The one style of all figures: colours, fonts, sizes and line widths, on paper and in the report page.

A policy has one colour in every figure: it goes by the policy's name, not by what else is drawn. Runs of a sweep are coloured
in the order of the swept number.
"""

from __future__ import annotations

import re
import textwrap
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from experiments.results.runs import Run

# Okabe & Ito (2008) without their black, light hues deepened on white paper so that thin lines stay visible.
LIGHT = ("#c8500a", "#0068a8", "#008a65", "#b5578f", "#c28a00", "#3b97cf", "#6b6b00", "#7a4fb5")
DARK = ("#f0803c", "#4aa8e8", "#2fc59a", "#e08fc0", "#f0b93a", "#8fd0f5", "#c9c84a", "#b695ea")
GREY = ("#6f6f6a", "#a5a59e")
DASHES = ("none", "6 3", "2 2.5", "8 2 2 2")  # SVG's way of writing them, in widths of 1
MARKS = ("o", "s", "^", "D")  # of points that no line joins, one for each dash
INK, SOFT, FAINT, GRID, PAPER = "#1d1d1b", "#62625d", "#8b8b84", "#ebe8e1", "#ffffff"
RAMP = ((0.0, 0.80), (0.28, 1.0))  # the part of viridis that can be seen on light and on dark paper

# (hue, dash) of what is drawn most; a variant has its original's hue and another dash. Others: `slots`.
KNOWN = {
    "self_forcing": (0, 0), "deep_sink": (1, 0), "deep_forcing": (2, 0), "rolling_forcing": (3, 0), "longlive": (4, 0),
    "sink": (5, 0), "memrope": (6, 0), "infinity_rope": (7, 0), "deep_sink_release": (1, 1), "deep_forcing_release": (2, 1),
    "rolling_forcing_sink": (3, 1), "longlive_sink": (4, 1), "slot": (4, 2), "longlive_infinity": (4, 3),
    "memrope_adaptive": (6, 1), "infinity_rope_release": (7, 1), "rolling_sink": (5, 1),
}  # fmt: skip

COLUMN, PAGE = 3.4, 7.0  # widths in inches of a column and of a page of text
PANEL = (2.33, 1.75)  # inches of a panel, three of which are a page wide
LINE, THIN, MARKER = 1.4, 0.7, 4.0  # points
BAND = 0.15  # opacity of an interval
NOTE = 5.8  # points: letters of a name at the end of a line
LETTERS = 13  # of a title in an inch, about
DOTS_PER_INCH, SCREEN = 200, 120  # of a .png; in a notebook

RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same letters on every machine
    "font.size": 7.5, "axes.titlesize": 8, "axes.labelsize": 7.5, "xtick.labelsize": 6.5, "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5, "legend.handlelength": 3.2,  # of which the longest dash fits
    "figure.titlesize": 8, "axes.titlelocation": "left", "axes.titleweight": "bold",
    "text.color": INK, "axes.labelcolor": SOFT, "axes.titlecolor": INK, "xtick.color": SOFT, "ytick.color": SOFT,
    "axes.edgecolor": FAINT, "axes.linewidth": THIN, "xtick.major.width": THIN, "ytick.major.width": THIN,
    "xtick.major.size": 2.5, "ytick.major.size": 2.5, "axes.spines.top": False, "axes.spines.right": False,
    "axes.grid": True, "axes.grid.axis": "y", "grid.color": GRID, "grid.linewidth": THIN, "axes.axisbelow": True,
    "lines.linewidth": LINE, "lines.markersize": MARKER, "legend.frameon": False, "figure.facecolor": PAPER,
    "axes.facecolor": "none", "savefig.dpi": DOTS_PER_INCH, "figure.dpi": SCREEN, "image.interpolation": "nearest",
    "text.parse_math": False,  # a dollar sign in a label or prompt is one
    "pdf.fonttype": 42, "svg.fonttype": "none",  # text that can be searched and edited
    "svg.hashsalt": "deepforcing",  # the same figure is the same file
}  # fmt: skip


@dataclass(frozen=True)
class Ink:
    """How a run is drawn: its colour on light and on dark paper, and an SVG dash pattern."""

    light: str
    dark: str
    dash: str

    @property
    def line(self) -> Any:
        """The dash pattern in matplotlib's words."""
        return "-" if self.dash == "none" else (0, tuple(float(part) for part in self.dash.split()))

    @property
    def mark(self) -> str:
        """matplotlib's word for its points, by which two of one colour are told apart where there are no lines."""
        return MARKS[DASHES.index(self.dash)] if self.dash in DASHES else "o"


def wrapped(title: str, inches: float = PANEL[0]) -> str:
    """A panel's title in as many lines as it takes not to reach into the next panel's."""
    return textwrap.fill(title, int(LETTERS * inches))


def inks_of(runs: Sequence[Run]) -> list[Ink]:
    """`inks` of runs, whatever they are labelled."""
    labels = [run.label for run in runs]
    return inks(labels, [run.is_real for run in runs], [str(run.record.get("name") or run.label) for run in runs])


def inks(labels: Sequence[str], real: Sequence[bool], policies: Sequence[str] | None = None) -> list[Ink]:
    """One ink per run, in order. Real video is a dashed grey; a sweep's runs have an ordered ramp, in which neighbours are told
    apart whatever the steps are; all others the colour of their policy. policies: their names; None: first words of labels."""
    names = [label.split(" ")[0] for label in labels] if policies is None else policies
    found: dict[int, Ink] = {i: Ink(*GREY, dash="4 3") for i, is_real in enumerate(real) if is_real}
    for group in sweeps([None if is_real else label for label, is_real in zip(labels, real, strict=True)]):
        values = sorted(group.values())
        found |= {i: ordered_ink(values.index(value) / (len(values) - 1)) for i, value in group.items()}
    rest = [i for i in range(len(labels)) if i not in found]
    for i, (hue, dash) in zip(rest, slots([names[i] for i in rest]), strict=True):
        found[i] = Ink(LIGHT[hue], DARK[hue], DASHES[dash])
    return [found[i] for i in range(len(labels))]


def sweeps(labels: Sequence[str | None]) -> list[dict[int, float]]:
    """{index of a label: its number} for each three or more labels that are the same text but for one number."""
    groups: dict[tuple[str, str], dict[int, float]] = {}
    for i, label in enumerate(labels):
        parts = re.split(r"(?<![A-Za-z0-9])(-?\d+(?:\.\d+)?)(?![A-Za-z0-9])", label or "")
        if len(parts) == 3:
            groups.setdefault((parts[0], parts[2]), {})[i] = float(parts[1])
    return [group for group in groups.values() if len(group) > 2]


def ordered_ink(place: float) -> Ink:
    """The ink of a place in 0..1 along an ordered scale."""
    import matplotlib

    scale = matplotlib.colormaps["viridis"]
    light, dark = (matplotlib.colors.to_hex(scale(low + (high - low) * place)) for low, high in RAMP)
    return Ink(light, dark, "none")


def slots(policies: Sequence[str]) -> list[tuple[int, int]]:
    """(hue, dash) of each policy, no two the same while there are any left. Those of KNOWN have theirs. Another one has the
    hue that its name leads to, or the next one that is free in this figure."""
    everything = [(hue, dash) for dash in range(len(DASHES)) for hue in range(len(LIGHT))]
    taken: list[tuple[int, int]] = []
    found: dict[int, tuple[int, int]] = {}
    for i, policy in enumerate(policies):
        if policy in KNOWN and KNOWN[policy] not in taken:
            found[i] = KNOWN[policy]
            taken.append(found[i])
    hues = {hue for hue, _ in taken}
    for i in (i for i in range(len(policies)) if i not in found):
        first = zlib.crc32(policies[i].encode()) % len(LIGHT)
        order = sorted(everything, key=lambda slot: (slot[1], slot[0] in hues, (slot[0] - first) % len(LIGHT)))
        free = [slot for slot in order if slot not in taken]
        found[i] = (free or order)[0]
        taken.append(found[i])
        hues.add(found[i][0])
    return [found[i] for i in range(len(policies))]
