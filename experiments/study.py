"""A study with people: blind pairs to choose from, and the table of what they chose.

    python -m experiments.study make runs=[A,B,...] pairs=16 out=FOLDER       a page for the raters, and a key to keep
    python -m experiments.study table study=FOLDER answers='*.csv'            preferences, intervals, agreement
    python -m experiments.study make --help, or table --help

docs/study.md tells it from beginning to end.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command, program, say

if TYPE_CHECKING:
    from omegaconf import DictConfig

PARTS = ("make", "table")


def make_task(config: DictConfig) -> None:
    from experiments.command.terminal import console
    from experiments.raters.make import Study, make
    from experiments.tables.comparisons import words  # pandas: --help does without

    if config.runs is None:
        raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
    study = Study(
        tuple(words(config.runs)), Path(str(config.out)), config.subject, config.pairs, config.checks, config.raters,
        config.seed, str(config.title),
    )  # fmt: skip
    make(study, console())


def table_task(config: DictConfig) -> int:
    """Exit status 1 where a file could not be counted: the table is of the others."""
    from deepforcing.runs import atomic_write_text
    from experiments.command.outputs import check_output
    from experiments.raters.answers import find_files, gather
    from experiments.raters.key import read_key
    from experiments.raters.preference import flat, grid, notes, preference
    from experiments.tables.comparisons import choose_format, words
    from experiments.tables.render import latex, markdown
    from experiments.tables.text import csv_text, markdown_text

    out = None if config.out is None else Path(str(config.out))
    kind = choose_format(config.format, out)
    if kind == "parquet":
        raise ValueError("format=parquet is not for this table: use markdown, latex or csv")
    key = read_key(Path(str(config.study)))
    if config.answers is None:
        raise ValueError("no answers given: say answers='*.csv', the files that raters downloaded")
    gathered = gather(find_files(words(config.answers)), key)
    if out is not None:
        check_output(out)
    for line in (*gathered.inattentive, *gathered.problems):
        say(line)
    found = preference(gathered.answers, key)
    paper = {(row.generator, row.cache): {q: float(row[q]) for q in key.questions if q in row} for row in config.paper}
    said = notes(found, paper)
    if gathered.inattentive:
        said.append(f"Left out for preferring a spoiled video: {len(gathered.inattentive)} raters.")
    if kind == "csv":
        text = csv_text(flat(found, paper))
    elif kind == "latex":
        text = latex([("", grid(found, paper))], " ".join(said))
    else:
        text = "\n\n".join([markdown(grid(found, paper)), *map(markdown_text, said)]) + "\n"
    if out is None:
        print(text, end="")
    else:
        atomic_write_text(out, text)
        print(f"{kind}: {out.absolute()}")
    return int(bool(gathered.problems))


def unknown_part(arguments: list[str]) -> int:
    raise ValueError(f"say study make or study table{f', not {arguments[0]!r}' if arguments else ''}; see --help")


run_make, run_table = command("study_make")(make_task), command("study_table")(table_task)
without_part = program(unknown_part, lambda: str(__doc__))


def main() -> None:
    part = sys.argv[1] if sys.argv[1:2] and sys.argv[1] in PARTS else None
    if part is None:
        without_part()
        return
    del sys.argv[1]
    (run_make if part == "make" else run_table)()


if __name__ == "__main__":
    main()
