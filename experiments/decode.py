"""Decode latents that rollouts kept, by another decoder. `python -m experiments.decode --help`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.command import command
from experiments.command.terminal import console

if TYPE_CHECKING:
    from omegaconf import DictConfig


def decode_task(config: DictConfig) -> None:
    from experiments.decoding import decode_runs  # torch: --help does without

    decode_runs(config, console())


main = command("decode")(decode_task)

if __name__ == "__main__":
    main()
