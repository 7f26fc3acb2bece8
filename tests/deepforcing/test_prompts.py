from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from deepforcing.prompts import MAX_CHARACTERS, Prompt, Sample, load_prompts, plan_samples, prompts_from_texts, shard


def test_identity_is_content() -> None:
    text = "a réd disc"
    assert Prompt(text).id == hashlib.sha256(text.encode()).hexdigest()[:10]
    assert Sample(Prompt(text), 7).name == f"{Prompt(text).id}-s7"
    assert Prompt("a").id != Prompt("b").id


def test_load_drops_blanks_spaces_and_repeats(tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(b"\xef\xbb\xbf  one \r\n\r\n   \ntwo\none\n\xc3\xa9")
    assert [p.text for p in load_prompts(path)] == ["one", "two", "é"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has no prompts"),
        (b" \n\n", "has no prompts"),
        (b"fine\nbr\xffken", r"not UTF-8: byte 0xff in line 2 \(byte 7"),
        (b"fine\n" + b"x" * (MAX_CHARACTERS + 1), rf"line 2: .*{MAX_CHARACTERS + 1} characters, the limit is 2000"),
        (b"a\tb", r"line 1: .*U\+0009 at character 2"),
        (b"\n\na\x1b[31mb", r"line 3: .*U\+001B"),
        ("a\u2028b".encode(), r"U\+2028"),
    ],
)
def test_unusable_files_say_where(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "prompts.txt"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as caught:
        load_prompts(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["p.csv", "p.tsv", "p.json", "p.jsonl", "p.yaml", "p.md", "p.parquet", "p"])
def test_other_kinds_of_lists_are_not_read_line_by_line(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("video,prompt\na.mp4,a cat\n")
    with pytest.raises(ValueError, match=r"end in \.txt") as caught:
        load_prompts(tmp_path / name)
    assert name in str(caught.value)
    (tmp_path / "P.TXT").write_text("a cat")
    assert load_prompts(tmp_path / "P.TXT") == [Prompt("a cat")]


def test_missing_file_and_directory_are_value_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "none.txt", tmp_path):
        with pytest.raises(ValueError, match="cannot read prompts from"):
            load_prompts(path)


def test_texts_get_the_same_checks() -> None:
    assert prompts_from_texts([" a", "b", "a"]) == [Prompt("a"), Prompt("b")]
    assert len(prompts_from_texts(["x" * MAX_CHARACTERS])) == 1
    with pytest.raises(ValueError, match="no prompts"):
        prompts_from_texts([])
    with pytest.raises(ValueError, match=r"prompt 2: .*control character U\+000A"):
        prompts_from_texts(["a", "b\nc"])
    with pytest.raises(ValueError, match=r"U\+DCFF"):  # what a broken byte on a command line becomes
        prompts_from_texts(["\udcff"])


def test_plan_is_prompts_times_seeds() -> None:
    a, b = Prompt("a"), Prompt("b")
    assert plan_samples([a, b], [0, 1, 0]) == [Sample(a, 0), Sample(a, 1), Sample(b, 0), Sample(b, 1)]
    with pytest.raises(ValueError, match="nothing to do: 2 prompts x 0 seeds"):
        plan_samples([a, b], [])
    for seed in (-1, 2**63, True, 1.0):
        with pytest.raises(ValueError, match="seed="):
            plan_samples([a], [seed])  # type: ignore[list-item]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers()), st.integers(1, 9))
def test_shards_are_disjoint_and_complete(plan: list[int], n: int) -> None:
    parts = [shard(plan, f"{i}/{n}") for i in range(n)]
    assert sorted(item for part in parts for item in part) == sorted(plan)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("part", ["", "1", "2/2", "-1/2", "0/0", "1/", "a/b", "0/2/3", " 0/2", "0.0/2"])
def test_bad_shards(part: str) -> None:
    with pytest.raises(ValueError, match="0 <= i < n"):
        shard([1, 2], part)
