"""Generate videos into run directories. `python -m experiments.rollout --help`"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.command import command
from experiments.command.moved import moved
from experiments.command.terminal import console

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main_task(config: DictConfig) -> None:
    from experiments.videos import rollout  # torch: --help does without

    rollout(config, console())


def check(config: DictConfig, here: bool) -> object:
    from experiments.request import check_request

    return check_request(config, here)


main = command("rollout", check)(main_task)

__getattr__ = moved(
    __name__,
    {
        "experiments.request": "Request build_spec check_request default_name find_prompts find_seeds pick_device set_threads",
        "experiments.command.kinds": "check_values",
        "experiments.videos": "command_line make_sample peak_memory rollout run_record sample_record start_record",
    },
)

if __name__ == "__main__":
    main()
