"""The published way, re-enacted, makes our latents: rolled, and compressed as the Deep Forcing release does it."""

from __future__ import annotations

import pytest
import torch

from benchmarks.published import CACHES, SAME, compare, main


@pytest.mark.slow
@pytest.mark.parametrize("cache", CACHES)
def test_the_same_latents(cache: str) -> None:
    with torch.inference_mode():
        found = compare(cache, 4)
    assert max(found["differ_by"].values()) < SAME[cache]
    assert found["seconds"].keys() == {"published", "plain", "packed"}


@pytest.mark.parametrize("word", ["chunks=2", "cache=deep_sink", "threads=0", "packed"])
def test_other_words_are_one_line(word: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word]) == 2
    said = capsys.readouterr().err
    assert said.startswith(
        f"error: {word!r} is no key here; known: cache= one of self_forcing, deep_forcing_release, chunks="
    )
    assert said.count("\n") == 1
