"""Search settings of a cache policy with Optuna. `python -m experiments.search --help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig


def search_task(config: DictConfig) -> None:
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise ValueError("experiments.search needs Optuna: pip install optuna, or the extra search") from None
    from experiments.command.compose import chosen
    from experiments.command.outputs import check_output
    from experiments.command.terminal import console
    from experiments.request import set_threads
    from experiments.searching.report import report
    from experiments.searching.study import checked_search, open_study, run

    choices, typed = chosen()
    out = Path(str(config.out or f"reports/search_{config.name}.md"))
    if out.suffix != ".md":
        raise ValueError(f"out={out} must end in .md; the figures go beside it")
    check_output(out)
    set_threads(config.threads)
    groups = [f"{group}={choices[group]}" for group in ("generator", "model")]
    words = [word for word in typed if word.lstrip("+~").startswith(("model.", "generator."))]
    search = checked_search(config, [*groups, *words])
    study = open_study(search)
    run(search, study, console())
    print(f"\n{report(search, study, out)}\nreport: {out.absolute()}")


main = command("search")(search_task)

if __name__ == "__main__":
    main()
