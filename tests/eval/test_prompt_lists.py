"""Lists of prompts: no video gets another one's in silence. What can be read in two ways is refused, and where it says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from eval.csv_cells import bare, guarded
from eval.prompt_lists import read_prompts

VIDEOS = [Path(name) for name in ("a.mp4", "b c.mp4", "é.mp4")]
PROMPTS = {"a.mp4": 'a "big", red ball', "b c.mp4": "it's blue;\tround", "é.mp4": "two\nlines"}


def read(tmp_path: Path, name: str, content: str | bytes, videos: list[Path] = VIDEOS) -> dict[str, str]:
    file = tmp_path / name
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return read_prompts(file, videos)[0]


def quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize(("name", "separator"), [("p.csv", ","), ("p.tsv", "\t"), ("P.CSV", ",")])
def test_tables_as_spreadsheets_write_them(tmp_path: Path, name: str, separator: str, mark: str, ends: str) -> None:
    """Quoted cells, a byte-order mark, any line ends, empty lines, other columns, capitals and accents of the other kind."""
    rows = [["id", " Video ", "Prompt", "note"]]
    rows += [["7", quoted(video.replace("é", "e\u0301")), quoted(prompt), ""] for video, prompt in PROMPTS.items()]
    lines = [separator.join(row) for row in rows]
    lines[2:2] = ["", separator * 3]
    assert read(tmp_path, name, mark + ends.join([*lines, "", ""])) == PROMPTS


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("comma.csv", "video,prompt\na.mp4,fine\nb c.mp4,a cat, running\né.mp4,x\n", "line 3 has 3 columns.*double quotes"),
        ("comma.csv", 'video,prompt\na.mp4,"two\nlines"\n\nb c.mp4,a cat, running\n', "line 5 has 3 columns"),
        ("short.csv", "video,prompt,seed\na.mp4,x,1\nb c.mp4,y\n", "line 3 has 2 columns, the first line has 3"),
        ("short.csv", "video,prompt\na.mp4\n", "line 2 has 1 columns"),
        ("tab.tsv", "video\tprompt\na.mp4\tx\ty\n", "line 2 has 3 columns"),
        ("quote.csv", 'video,prompt\na.mp4,"a" cat\n', "line 2: .*each doubled"),
        ("quote.csv", 'video,prompt\na.mp4,x\nb c.mp4,"never closed\né.mp4,y\n', "line 3: .*each doubled"),
        ("header.csv", "a.mp4,x\nb c.mp4,y\né.mp4,z\n", "line 1 must name the columns, .* it is a.mp4,x"),
        ("header.csv", "video,caption\na.mp4,x\n", "line 1 must name the columns"),
        ("header.csv", "prompt\nx\ny\nz\n", "line 1 must name the columns"),
        ("header.csv", "video,prompt,prompt\na.mp4,x,y\n", "line 1 names a column twice"),
        ("semicolon.csv", "video;prompt\na.mp4;x\n", "separated by commas"),
        ("tabs.csv", "video\tprompt\na.mp4\tx\n", "separated by commas"),
        ("renamed.txt", "a.mp4,one\nb c.mp4,two\né.mp4,three\n", r"prompt 1 holds a\.mp4; give a \.json of"),
        ("renamed.txt", "one\ntwo\ne\u0301.mp4: three\n", r"prompt 3 holds é\.mp4; give a \.json of"),
        ("empty.csv", "", "it is empty"),
        ("nameless.csv", "video,prompt\n,x\n", "line 2: every row needs a video and a prompt"),
        ("wide.txt", "one\ntwo\nthree\n".encode("utf-16"), "is UTF-16; save it as UTF-8"),
        ("latin.csv", b"video,prompt\na.mp4,caf\xe9\n", "not UTF-8 .line 2, byte"),
        ("null.jsonl", '{"video": "a.mp4", "prompt": null}', "line 1, prompt is no text but null"),
        ("lines.jsonl", '\n{"video": "a.mp4", "prompt": "x"}\n{"video": \n', "line 3 is not JSON"),
        ("two.jsonl", '{"video": "a.mp4", "file": "b c.mp4", "prompt": "x"}', "line 1 names several videos: a.mp4, b c.mp4"),
        ("text.json", '"a prompt"', "neither names nor prompts"),
        ("nested.json", '{"a.mp4": {"prompt": "x"}}', "key a.mp4 is no text"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_told_with_its_line(tmp_path: Path, name: str, content: str | bytes, reason: str) -> None:
    with pytest.raises(ValueError, match=reason) as error:
        read(tmp_path, name, content)
    assert name in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "name", ["p.yaml", "p.yml", "p.toml", "p.parquet", "p.xlsx", "p.md", "p.ndjson", "p", "p.txt.bak"]
)
def test_other_endings_are_refused_with_those_that_are_understood(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="is not understood") as error:
        read(tmp_path, name, "x\ny\nz\n")
    assert all(ending in str(error.value) for ending in (".txt", ".json ", ".jsonl", ".csv", ".tsv"))


def two(kind: str, name: str, other: str) -> str:
    """A list that has a.mp4 twice, under the same name."""
    rows = [("a.mp4", name), ("b c.mp4", "y"), ("é.mp4", "z"), ("a.mp4", other)]
    return {
        "json": "{" + ", ".join(f'"{video}": "{prompt}"' for video, prompt in rows) + "}",
        "jsonl": "\n".join(json.dumps({"video": video, "prompt": prompt}) for video, prompt in rows),
        "csv": "\n".join(["video,prompt", *(f"{video},{prompt}" for video, prompt in rows)]),
        "tsv": "\n".join(["video\tprompt", *(f"{video}\t{prompt}" for video, prompt in rows)]),
        "rows.json": json.dumps([{"video": video, "prompt": prompt} for video, prompt in rows]),
        "folders.json": json.dumps({("x/" if i else "y/") + video: prompt for i, (video, prompt) in enumerate(rows)}),
        "windows.json": json.dumps({("x\\" if i else "") + video: prompt for i, (video, prompt) in enumerate(rows)}),
        "stem.json": json.dumps({video if i else "a": prompt for i, (video, prompt) in enumerate(rows)}),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["json", "jsonl", "csv", "tsv", "rows.json", "folders.json", "windows.json", "stem.json"]
)
def test_two_prompts_for_one_video_are_refused_and_one_twice_is_fine(tmp_path: Path, kind: str) -> None:
    with pytest.raises(ValueError, match=r"a\.mp4 has two prompts, in .* and in "):
        read(tmp_path, f"p.{kind}", two(kind, "first", "last"))
    assert read(tmp_path, f"p.{kind}", two(kind, "same", "same"))["a.mp4"] == "same"


def test_a_field_twice_in_one_row_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="line 1 has prompt twice"):
        read(tmp_path, "p.jsonl", '{"video": "a.mp4", "prompt": "x", "prompt": "y"}')


def test_names_that_differ_by_their_ending(tmp_path: Path) -> None:
    videos = [Path("a.mp4"), Path("a.mov"), Path("b.mp4")]
    assert read(tmp_path, "p.json", '{"a.mp4": "x", "a.mov": "y", "b": "z"}', videos) == {
        "a.mp4": "x",
        "a.mov": "y",
        "b.mp4": "z",
    }
    with pytest.raises(ValueError, match=r"key a: a may be a\.mp4 or a\.mov; write the ending too"):
        read(tmp_path, "p.json", '{"a": "x", "b": "z"}', videos)
    with pytest.raises(ValueError, match=r"no prompt for a\.mov"):
        read(tmp_path, "p.json", '{"a.mp4": "x", "b": "z"}', videos)


def test_lists_in_order_go_by_value_and_are_refused_where_that_is_not_clear(tmp_path: Path) -> None:
    videos = [Path(f"{i}-0_ema.mp4") for i in range(12)]
    prompts = [f"prompt {i}" for i in range(12)]
    for name, content in (("p.txt", "\n".join(prompts)), ("p.json", json.dumps(prompts))):
        found = read(tmp_path, name, content, sorted(videos, key=str))
        assert [found[video.name] for video in videos] == prompts
        with pytest.raises(ValueError, match=r"it is not clear which of .*; give a \.json of"):
            read(tmp_path, name, content, [Path(f"video_{i}_{12 - i}.mp4") for i in range(12)])


def test_names_that_are_not_there_are_told(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text(json.dumps(PROMPTS | {"gone.mp4": "x"}))
    assert read_prompts(file, VIDEOS) == (PROMPTS, ["gone.mp4"])


@pytest.mark.parametrize("text", ["=1+1", "+1", "-1", "@x", "\tx", "'=1", "''-", "＝1"])
def test_no_cell_begins_like_a_formula_and_all_are_read_back(text: str) -> None:
    assert guarded(text) == f"'{text}"
    assert bare(guarded(text)) == text
    for harmless in ("a = b", "'quoted'", "", "it's"):
        assert guarded(harmless) == bare(harmless) == harmless
