"""What the tests of the commands share: prompts of the embedded world, what a command call gives, and configurations."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import hydra
from omegaconf import DictConfig, OmegaConf

from experiments.cli import CONF

RED = "a red disc starts at the left and circles clockwise on a slate background"
BLUE = "a blue ring starts at the top and circles counterclockwise on a sand background"


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Outcome]


def composed(main: str, *overrides: str) -> DictConfig:
    """The resolved configuration of a command, as hydra composes it."""
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose(main, list(overrides))
    OmegaConf.resolve(config)
    return config
