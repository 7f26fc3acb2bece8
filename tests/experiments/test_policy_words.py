"""What cannot be of a policy's settings, in one line that names the key, before anything is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from commands import composed
from hydra.errors import InstantiationException
from omegaconf import OmegaConf

from deepforcing.cache.quantised import kivi, prq
from experiments.cli import CONF
from experiments.command.kinds import parameters
from experiments.command.words import unknown_key
from experiments.request import build_spec


def said(*words: str, frames: int = 60) -> str:
    """Of a wrong configuration."""
    try:
        spec = build_spec(composed("rollout", "model=tiny", *words))
        spec.check_sizes(frames)
    except InstantiationException as error:  # the command shows its cause
        return str(error.__cause__)
    except ValueError as error:
        return str(error)
    pytest.fail(f"{words} passed")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("cache=dummy_forcing cache.commit_frames=two", "commit_frames=two must be a whole number or null"),
        ("cache=forcing_kv cache.alignment=null", "alignment=null must be a name"),
        ("cache=forcing_kv cache.alignment=3", "alignment=3 must be a name"),
        (
            "cache=deep_forcing_decoprune cache.retention.scorer.before_last=one",
            "before_last=one must be a whole number",
        ),
        ("cache=deep_forcing_decoprune cache.retention.scorer.before_last=4", "before_last=4 denoising .* chunks in 4"),
        ("cache=deep_forcing_decoprune generator=causal_forcing_1step", "before_last=1 denoising .* chunks in 1"),
    ],
)
def test_wrong_settings_of_policies(words: str, says: str) -> None:
    line = said(*words.split())
    assert re.search(says, line), line
    assert "\n" not in line


def test_a_key_of_a_store_that_is_not_chosen_says_so() -> None:
    line = unknown_key("cache.store.bits", "rollout", ["cache=deep_sink"])
    assert line == (
        "cache.store.bits is no key of the cache.store that is chosen; choose one of dense, kivi, prq, quarot, rtn, as in "
        "cache.store=..."
    )
    assert "did you mean cache.store.bits?" in unknown_key("cache.store.bit", "rollout", ["cache/store=rtn"])


@pytest.mark.parametrize("where", ["value_bits", "residual_bits"])
def test_bits_are_named_as_they_are_typed(where: str) -> None:
    with pytest.raises(ValueError, match=rf"^store\.{where}=5 must be one of 2, 4, 8"):
        {"value_bits": kivi, "residual_bits": prq}[where](**{where: 5})


def test_a_window_of_any_size_is_looked_through_no_longer_than_the_video() -> None:
    """Going through all that a window of 100000 would do took half an hour."""
    build_spec(
        composed("rollout", "model=tiny", "cache=deep_sink", "cache.retention.window_frames=100000")
    ).check_sizes(60)


def targets(node: Any) -> set[str]:
    if isinstance(node, dict):
        own = {node["_target_"]} if "_target_" in node else set()
        return own.union(*map(targets, node.values()))
    return set()


@pytest.mark.parametrize("path", sorted(CONF.glob("cache/**/*.yaml")), ids=lambda path: path.stem)
def test_every_setting_has_a_kind_that_it_is_held_against(path: Path) -> None:
    for target in targets(OmegaConf.to_container(OmegaConf.load(path))):
        hints = parameters(target)
        assert hints is not None, target
        assert Any not in hints.values(), (target, hints)
