"""Runs by VBench dimensions as papers print them. `python -m experiments.table --help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command
from experiments.command.moved import moved

if TYPE_CHECKING:
    from omegaconf import DictConfig


def table_task(config: DictConfig) -> None:
    from experiments.command.outputs import check_output
    from experiments.command.words import is_list
    from experiments.tables.comparisons import (  # pandas: --help does without
        choose_format,
        choose_number,
        find_sources,
        read_comparison,
        words,
        written,
    )  # fmt: skip

    out = None if config.out is None else Path(str(config.out))
    kind = choose_format(config.format, out)
    if out is not None:
        check_output(out)
    window = config.window_seconds
    runs = find_sources(words(config.runs), words(config.folders))
    wanted = str(config.metrics) if not is_list(config.metrics) else [str(name) for name in config.metrics]
    protocol = None if config.protocol is None else str(config.protocol)
    baseline = None if config.baseline is None else str(config.baseline)
    number, ends = choose_number(config.number), config.ends
    comparison = read_comparison(runs, wanted, baseline, protocol, config.common, window, number, ends)
    text = written(comparison, kind, out)
    if out is None:
        print(text, end="")
    else:
        print(f"{kind}: {out.absolute()}")


main = command("table")(table_task)

__getattr__ = moved(
    __name__,
    {
        "experiments.tables.comparisons": "choose_format choose_number find_baseline find_sources read_comparison written"
    },
)

if __name__ == "__main__":
    main()
