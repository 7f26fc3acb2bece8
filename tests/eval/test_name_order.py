"""The order of numbered files: by value where it is clear, refused where another reading gives another order."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eval.name_order import in_order


def ordered(names: list[str]) -> list[str]:
    return [file.name for file in in_order([Path(name) for name in names])]


CLEAR = {
    "Self-Forcing's outputs": [f"{i}-0_ema.mp4" for i in range(12)],
    "the same with the prompt's number second": [f"ema_0-{i}.mp4" for i in range(12)],
    "plain numbers": [f"{i}.mp4" for i in range(105)],
    "leading zeros": [f"video_{i:04d}.mp4" for i in range(12)],
    "leading zeros that are too few": [f"{i:02d}.mp4" for i in range(98, 103)],
    "gaps": ["clip3.mp4", "clip20.mp4", "clip100.mp4"],
    "one number, then a title": ["1_zebra.mp4", "2_ape.mp4", "10_Lion.mp4"],
    "numbers that count together": [f"{i}-seed{100 + i}.mp4" for i in range(9, 12)],
    "days": ["20240131.mp4", "20240201.mp4"],
    "no numbers": ["ape.mp4", "bear_and_cub.mp4", "cat.mp4"],
    "one number for all (vbench)": ["a cat-0.mp4", "a dog-0.mp4", "the sea-0.mp4"],
    "one with a number": ["a red-0.mp4", "b_blue.mp4", "c.mp4"],
    "hexadecimal letters as variants": ["cat_1a.mp4", "cat_2b.mp4"],
    "roman numbers that sort as letters do": ["act_i.mp4", "act_ii.mp4", "act_iii.mp4", "act_iv.mp4"],
    "letters": ["c.mp4", "d.mp4", "l.mp4"],
    "words that are no numbers": ["a cat sits.mp4", "a mix of one.mp4"],
    "other endings": ["1.webm", "2.mp4", "10.mov"],
}


@pytest.mark.parametrize("case", CLEAR)
def test_numbers_go_by_value(case: str) -> None:
    names = CLEAR[case]
    for seed in range(3):
        assert ordered(random.Random(seed).sample(names, len(names))) == names


UNCLEAR = {
    "two numbers": [["video_10_2.mp4", "video_2_10.mp4"], ["0-0_ema.mp4", "0-1_ema.mp4", "1-0_ema.mp4", "1-1_ema.mp4"]],
    "one number for two": [["1_a.mp4", "1_b.mp4", "2_a.mp4"], ["a_1.mp4", "b_1.mp4", "c_2.mp4"], ["1.mp4", "01.mp4"]],
    "the ending alone": [["a.mp4", "a.mov"], ["7.mkv", "7.webm", "8.mkv"]],
    "the prefix": [["cat_2.mp4", "dog_1.mp4"], ["seed9_clip1.mp4", "take2_clip3.mp4"]],
    "with and without": [["video.mp4", "video (1).mp4", "video (2).mp4"], ["intro.mp4", "1.mp4", "2.mp4"]],
    "dates": [["2024-01-31.mp4", "2024-02-01.mp4"], ["31.01.2024.mp4", "01.02.2024.mp4"]],
    "decimals": [["cfg1.9.mp4", "cfg1.10.mp4"], ["v0.5.mp4", "v0.25.mp4"]],
    "hexadecimal": [["1f.mp4", "20.mp4", "9.mp4"], ["0x0a-9.mp4", "0x0b-8.mp4"], ["frame_00a.mp4", "frame_009.mp4"]],
    "signs": [["t-1.mp4", "t0.mp4", "t2.mp4"]],
    "roman numbers": [["v.mp4", "ix.mp4", "x.mp4"], ["Act IX, scene.mp4", "Act V, scene.mp4"]],
    "numbers in words": [
        ["scene_one.mp4", "scene_two.mp4", "scene_three.mp4"],
        ["first.mp4", "third.mp4", "fifth.mp4"],
    ],
    "columns of a table": [["a.mp4", "z.mp4", "aa.mp4"]],
    "other characters": [["一.mp4", "二.mp4", "三.mp4"], ["x¹.mp4", "x².mp4"], ["²_a.mp4", "¹_a.mp4"]],
    "capitals and punctuation": [["B.mp4", "a.mp4"], ["a_c.mp4", "ab.mp4"]],
}


@pytest.mark.parametrize("case", UNCLEAR)
def test_what_is_not_clear_is_refused(case: str) -> None:
    for names in UNCLEAR[case]:
        with pytest.raises(ValueError) as error:
            ordered(names)
        assert sum(name in str(error.value) for name in names) >= 1


@given(
    st.sets(st.integers(0, 10**6), min_size=1, max_size=20), st.text("ab -_", max_size=4), st.text("xy_", max_size=4)
)
def test_one_number_always_goes_by_value(values: set[int], before: str, after: str) -> None:
    assert ordered([f"{before}{value}{after}.mp4" for value in values]) == [
        f"{before}{value}{after}.mp4" for value in sorted(values)
    ]


@given(st.lists(st.text("a1.-B0", min_size=1, max_size=5), min_size=2, max_size=6, unique=True))
def test_the_answer_does_not_depend_on_the_order_asked_in(stems: list[str]) -> None:
    def answer(names: list[str]) -> list[str] | None:
        try:
            return ordered(names)
        except ValueError:
            return None

    names = [f"{stem}.mp4" for stem in stems]
    assert answer(names) == answer(names[::-1]) == answer(sorted(names))
