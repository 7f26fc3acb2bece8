"""Labels of runs in figures: what of them is left out for want of room, and which colour goes with them; what a line joins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from report_runs import write_run

from experiments.figures.drift import short_labels
from experiments.figures.end_labels import LABEL_LETTERS, shortened
from experiments.figures.figure import drawn
from experiments.figures.style import inks
from experiments.figures.sweep import Sweep


@pytest.mark.parametrize(
    ("label", "short"),
    [
        ("deep_sink", "deep_sink"),
        ("deep_forcing_release", "deep_forcing_rel…"),
        ("deep_sink (tiny decoder)", "deep_sink (tiny)"),
        ("deep_forcing_release (tiny decoder)", "deep_forc… (tiny)"),
        ("sink_frames=3 (tiny decoder)", "sink_fram… (tiny)"),
        ("(tiny decoder)", "(tiny decoder)"),
        ("sink (rtn 4)", "sink (rtn 4)"),
        ("deep_sink (teacache)", "deep_… (teacache)"),
        ("deep_forcing (tiny decoder, teacache)", "deep_for… (lossy)"),
        ("deep_forcing (mine)", "deep_forcing (mi…"),
    ],
)
def test_a_label_at_the_end_of_a_line_keeps_what_was_lossy(label: str, short: str) -> None:
    assert shortened(label) == short
    assert len(short) <= LABEL_LETTERS


def test_a_label_in_plain_words_keeps_the_policys_colour_and_its_words() -> None:
    names = ["deep_forcing", "deep_sink"]
    assert inks(["Deep Forcing (paper)", "Deep Sink (S = 10)"], [False] * 2, names) == inks(names, [False] * 2)
    plain = ["Deep Forcing (paper)", "Deep Sink (S = 10)", "Deep Sink as released (S = 14)", "Sink"]
    assert short_labels(plain) == plain
    sweep = ["deep_sink sink_frames=3", "deep_sink sink_frames=6 seed=1 (tiny decoder)", "sink sink_frames=3"]
    assert short_labels(sweep) == ["sink_frames=3", "sink_frames=6 seed=1 (tiny decoder)", "sink sink_frames=3"]


def test_a_line_joins_one_sweep_and_nothing_else(tmp_path: Path) -> None:
    """Of two policies; of one in which another number follows the swept one; and runs that have no like are points."""

    def run(name: str, sink: int, **more: Any) -> Path:
        spec = {"cache": {"sink_frames": sink, **more}}
        return write_run(
            tmp_path, name, {"presence": lambda i, t: 1.0}, spec, name=f"{name}-{len([*tmp_path.iterdir()])}"
        )

    runs = [
        *(run("sink", s, window=12 + s) for s in (3, 0, 6)),
        *(run("grid", s, window=w) for w in (9, 12) for s in (3, 6)),
        run("alone", 3, kind="a"),
    ]
    (swept,) = Sweep(key="cache.sink_frames").read(runs).panels
    axes = drawn(Sweep(), Sweep(key="cache.sink_frames").read(runs)).axes[0]
    joined = sorted(tuple(map(float, line.get_xdata())) for line in axes.lines if line.get_linestyle() == "-")
    assert joined == [(0, 3, 6), (3,), (3, 6), (3, 6)]
    names = {line.get_label() for line in axes.lines if not str(line.get_label()).startswith("_")}
    assert len(names) == 4
    assert names >= {"sink", "alone", "grid window=9", "grid window=12"}
    assert len({point.ink for point in swept.points}) == 4
