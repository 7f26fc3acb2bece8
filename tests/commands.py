"""What the tests of the commands share: prompts of the embedded world, and what a command call gives."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

RED = "a red disc starts at the left and circles clockwise on a slate background"
BLUE = "a blue ring starts at the top and circles counterclockwise on a sand background"


class Outcome(NamedTuple):
    status: int
    out: str
    err: str


Command = Callable[..., Outcome]
