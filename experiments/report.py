"""Draw any set of runs as one self-contained HTML page, with the table beside it and in the terminal.

python -m experiments.report runs=[DIR,DIR,...] out=reports/name.html
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from experiments.command import command
from experiments.command.moved import moved

if TYPE_CHECKING:
    from omegaconf import DictConfig


def main_task(config: DictConfig) -> None:
    from experiments.command.terminal import console
    from experiments.page.make import make  # pandas and torch: --help does without
    from experiments.page.settings import from_config

    make(from_config(config), console())


main = command("report")(main_task)

__getattr__ = moved(
    __name__,
    {
        "experiments.page.make": "commands compare_protocols make markdown_tables",
        "experiments.page.settings": "Report baseline_index from_config",
    },
)

if __name__ == "__main__":
    main()
