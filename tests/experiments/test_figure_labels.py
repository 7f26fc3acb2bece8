"""Labels of runs in figures: what of them is left out for want of room, and which colour goes with them."""

from __future__ import annotations

import pytest

from experiments.figures.drift import short_labels
from experiments.figures.end_labels import LABEL_LETTERS, shortened
from experiments.figures.style import inks


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
