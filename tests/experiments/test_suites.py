"""Suites: ours are usable as they are; a published list counts only byte by byte, wherever it was copied from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from deepforcing.prompts import Prompt
from deepforcing.tiny.worlds import WORLDS
from experiments.rollout import find_prompts
from experiments.suites import Published, load_suite, published_suites, suite_files

MOVIEGEN = ("moviegen", "moviegen_128", "moviegen_128_refined", "rollf200")


def test_our_suites_are_distinct_prompts() -> None:
    published = published_suites()
    assert set(published) == set(MOVIEGEN)
    for name, path in suite_files().items():
        if name not in published:
            texts = [str(t) for t in OmegaConf.load(path).prompts]
            assert [p.text for p in load_suite(name)] == texts, name  # no repeats, nothing to strip
    assert 20 <= len(load_suite("wan")) <= 30


@pytest.mark.parametrize("name", [name for name in WORLDS if name != "tiny"])
def test_a_worlds_suites_are_the_draw_that_they_say(name: str) -> None:
    generator, drawn = torch.Generator().manual_seed(48), []
    while len(drawn) < 68:
        text = WORLDS[name].caption(WORLDS[name].random_classes(1, generator)[0])
        drawn += [text] if text not in drawn else []
    suites = [[prompt.text for prompt in load_suite(f"{name}_{part}")] for part in ("heldout", "dev", "demo")]
    assert suites == [drawn[:48], drawn[48:64], drawn[64:]]


def test_pinned_digests_are_whole() -> None:
    assert [published_suites()[n].sha256[:12] for n in MOVIEGEN] == [
        "50293c2717c8", "50293c2717c8", "f497cf94af9f", "50293c2717c8",
    ]  # fmt: skip
    assert all(len(p.sha256) == 64 and p.url.startswith("https://") for p in published_suites().values())


@pytest.mark.parametrize("name", MOVIEGEN)
def test_a_published_list_that_is_not_there(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DEEPFORCING_WEIGHTS", str(tmp_path))
    with pytest.raises(
        ValueError, match=rf"python -m experiments.weights {name} download=true, or copy it to"
    ) as caught:
        find_prompts(name)
    assert "\n" not in str(caught.value)


def test_a_published_list_is_verified_and_cut(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import experiments.suites as suites

    text = "".join(f"prompt number {i}\n" for i in range(9)).encode()
    monkeypatch.setenv("DEEPFORCING_WEIGHTS", str(tmp_path))
    digest = hashlib.sha256(text).hexdigest()
    made = suites.Published("moviegen_128", "list.txt", digest, "https://nowhere", "none", first=4)
    monkeypatch.setattr(suites, "published_of", lambda *_: made)
    path = tmp_path / "prompts" / "list.txt"
    path.parent.mkdir()
    path.write_bytes(text)
    assert find_prompts("moviegen_128") == [Prompt(f"prompt number {i}") for i in range(4)]
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=rf"is not the published list.txt: its sha256 begins .*, not {digest[:12]}"):
        find_prompts("moviegen_128")


def published(lines: tuple[int, ...], text: bytes, root: Path) -> Published:
    path = root / "prompts" / "list.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(text)
    return Published("some", "list.txt", hashlib.sha256(text).hexdigest(), "https://nowhere", "none", lines=lines)


def test_a_suite_by_line_numbers_counts_the_file_s_lines_from_0(tmp_path: Path) -> None:
    """Also those that a list read whole would drop: blank lines and repeats."""
    text = b"zero\n\ntwo \ntwo\nfour\nfive\n"
    made = published((4, 0, 3), text, tmp_path)
    assert made.read(made.local(tmp_path)) == [Prompt("four"), Prompt("zero"), Prompt("two")]
    for lines, words in (
        ((0, 7), r"has 7 lines, so no line 7 \(from 0\)"),
        ((0, 1), r"prompt 2|are empty or hold the same prompt"),
        ((2, 3), r"are empty or hold the same prompt"),
    ):
        wrong = published(lines, text, tmp_path)
        with pytest.raises(ValueError, match=words) as caught:
            wrong.read(wrong.local(tmp_path))
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("lines", [(0, 0), (-1,), (True,), ("1",)])
def test_what_is_no_line_number_is_refused(lines: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="different whole numbers from 0"):
        Published("some", "list.txt", "0" * 64, "https://nowhere", "none", lines=lines)
    with pytest.raises(ValueError, match="first or lines, not both"):
        Published("some", "list.txt", "0" * 64, "https://nowhere", "none", first=3, lines=(1,))


def test_the_200_lines_are_spread_over_the_whole_list() -> None:
    lines = published_suites()["rollf200"].lines
    assert lines is not None
    assert len(lines) == len(set(lines)) == 200
    assert list(lines) == sorted(lines)
    assert (lines[:5], lines[-1]) == ((0, 5, 10, 15, 24), 996)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "has no prompts"),
        (b" \n\n", "has no prompts"),
        (b"a dog\n" + b"x" * 10_000, r"line 2: the prompt has 10000 characters, the limit is 2000"),
        ("ein Hund\nein Bär".encode("latin-1"), r"is not UTF-8: byte 0xe4 in line 2"),
        (b"a dog\x00", r"control character U\+0000"),
    ],
)
def test_bad_prompt_files_are_one_line(content: bytes, words: str, tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_bytes(content)
    with pytest.raises(ValueError, match=words) as caught:
        find_prompts(str(tmp_path / "p.txt"))
    assert "\n" not in str(caught.value)
