"""Recorded systems by what options.repo of a fixture's config.json calls them. One line for each further one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from deepforcing.wan.transformer import Backend
from experiments.parity import (
    causvid,
    commit_forcing,
    dummy_forcing,
    echo_forcing,
    forcing_kv,
    infinity_rope,
    kv_quant,
    memrope,
    published,
    relax_forcing,
    rolling,
    rolling_sink,
)
from experiments.parity.recording import Produced, Recording, refuse_what_is_not_replayed

SYSTEMS: dict[str, Callable[[Recording], Produced]] = {
    "sf": published.run,
    "causalf": published.run,
    "deepf": published.run,
    "longlive1": published.run,
    "rolling": rolling.run,
    "causvid": causvid.run,
    "dummy": dummy_forcing.run,
    "fkv": forcing_kv.run,
    "sf+commit": commit_forcing.run,
    "memrope": memrope.run,
    "sf+kvq": kv_quant.run,
    "infinity_rope": infinity_rope.run,
    "rsink": rolling_sink.run,
    "relax_forcing": relax_forcing.run,
    "echo": echo_forcing.run,
}


def run(directory: Path, config: dict[str, Any], backend: Backend = "plain") -> Produced:
    """Generate the fixture's video with our engine. Raises ValueError for a system that is not in SYSTEMS."""
    system = config["options"].get("repo")
    if system not in SYSTEMS:
        raise ValueError(f"system {system!r} is not one that this engine replays: {', '.join(SYSTEMS)}")
    refuse_what_is_not_replayed(config)
    return SYSTEMS[system](Recording(directory, config, backend))
