"""Suites: ours are usable as they are; a published list counts only byte by byte, wherever it was copied from."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from deepforcing.prompts import Prompt
from experiments.rollout import find_prompts
from experiments.suites import load_suite, published_suites, suite_files

MOVIEGEN = ("moviegen_128", "moviegen_128_refined")


def test_our_suites_are_distinct_prompts() -> None:
    published = published_suites()
    assert set(published) == set(MOVIEGEN)
    for name, path in suite_files().items():
        if name not in published:
            texts = [str(t) for t in OmegaConf.load(path).prompts]
            assert [p.text for p in load_suite(name)] == texts, name  # no repeats, nothing to strip
    assert 20 <= len(load_suite("wan")) <= 30


def test_pinned_digests_are_whole() -> None:
    assert [published_suites()[n].sha256[:12] for n in MOVIEGEN] == ["50293c2717c8", "f497cf94af9f"]
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
    monkeypatch.setattr(suites, "published_suites", lambda: {"moviegen_128": made})
    path = tmp_path / "prompts" / "list.txt"
    path.parent.mkdir()
    path.write_bytes(text)
    assert find_prompts("moviegen_128") == [Prompt(f"prompt number {i}") for i in range(4)]
    path.write_bytes(text.replace(b"\n", b"\r\n"))
    with pytest.raises(ValueError, match=rf"is not the published list.txt: its sha256 begins .*, not {digest[:12]}"):
        find_prompts("moviegen_128")


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
