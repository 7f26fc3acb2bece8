"""Headings of somebody else's csv: what reads, and what a refusal says of those that do not."""

from __future__ import annotations

from pathlib import Path

import pytest

from experiments.results.foreign import read_foreign

HEAD, ROW = "label,seed,prompt,imaging_quality", "sf,0,3,0.5"


def read(path: Path, text: str) -> list[float]:
    path.write_bytes(text.encode())
    return [float(value) for value in read_foreign(path, None).table["value"]]


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{HEAD}\r\n{ROW}\r\n",
        f"{HEAD}\n{ROW}\n\n",
        f"{HEAD}\r{ROW}",
        " label , seed,prompt, imaging_quality\nsf, 0,3, 0.5",
        'label,seed,prompt,imaging_quality\nsf,0,"a dog, a cat",0.5',
    ],
    ids=["byte order mark", "blank lines", "old line ends", "spaces", "a comma in quotes"],
)
def test_what_spreadsheets_write_is_read(text: str, tmp_path: Path) -> None:
    assert read(tmp_path / "scores.csv", text) == [0.5]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"{HEAD}\n{ROW}".replace(",", ";"), "no column label, seed, prompt; .* with commas between the cells$"),
        (f"{HEAD}\n{ROW}".replace(",", "\t"), "with commas between the cells$"),
        (f"{HEAD.upper()}\n{ROW}", "no column label, seed, prompt; .* all in small letters$"),
        (f"Label,seed,prompt,imaging_quality\n{ROW}", "no column label; .* all in small letters$"),
        ("label,seed,imaging_quality\nsf,0,0.5", "no column prompt; it needs label, seed, prompt, then metrics$"),
        (f"{HEAD}\nsf,0,3,0_1", "line 2: imaging_quality is '0_1'"),
        (f"{HEAD}\nsf,0,3,\"0,5\"", "line 2: imaging_quality is '0,5'"),
        (f"{HEAD}\n{ROW}\nsf,0,3,0.6", "line 3: label sf, seed 0, prompt 3 is in line 2 too"),
    ],
)  # fmt: skip
def test_what_does_not_read_says_what_would(text: str, said: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=said):
        read(tmp_path / "scores.csv", text)
