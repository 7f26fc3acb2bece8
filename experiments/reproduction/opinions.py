"""Tables 2 and 3 of the paper: what people preferred, and what a model in their place scored."""

from __future__ import annotations

import glob
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.command.compose import compose
from experiments.raters.answers import find_files, gather
from experiments.raters.judging import SCALE, grid, judges_of, scores
from experiments.raters.key import KEY, read_key
from experiments.raters.preference import grid as preference_grid
from experiments.raters.preference import notes, preference
from experiments.results.runs import Run
from experiments.tables.render import markdown
from experiments.tables.text import markdown_code, markdown_text
from experiments.tables.words import plural

PAIRS = 16  # of the paper's study; few videos make fewer


@dataclass(frozen=True)
class Opinion:
    """text: Markdown, empty where nobody was asked. missing: what is not there. commands: that make it. problems: files that do
    not count."""

    text: str = ""
    missing: tuple[str, ...] = ()
    commands: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


def of_people(runs: Sequence[Run], study: Path, answers: str) -> Opinion:
    """Table 2. runs: that a study is made of, the subject first, where there is none yet; what is printed is the study's own.
    answers: a pattern of files."""
    made = f"study={shlex.quote(str(study))}"
    table = f"python -m experiments.study table {made} answers={shlex.quote(answers)}"
    if not (study / KEY).is_file():
        if len(runs) < 2:
            return Opinion(missing=(f"{study}: no study, and not the runs to make one of",))
        of = ",".join(str(run.path) for run in runs)
        videos = len(set.intersection(*({str(sample["sample"]) for sample in run.samples} for run in runs)))
        pairs = min(PAIRS, videos * (len(runs) - 1))
        make = f"python -m experiments.study make {shlex.quote(f'runs=[{of}]')} pairs={pairs} out={shlex.quote(str(study))}"
        return Opinion(missing=(f"{study}: no study has been made (study=)",), commands=(make, table))
    key = read_key(study)
    if not glob.glob(answers):
        why = f"{answers}: nobody has answered study {key.study} (answers=); give {study / 'page'} to the raters"
        return Opinion(missing=(why,), commands=(table,))
    gathered = gather(find_files([answers]), key)
    left_out = (*gathered.inattentive, *gathered.problems)
    if not gathered.answers:
        return Opinion(
            missing=(f"{answers}: no answers that count", *left_out), commands=(table,), problems=gathered.problems
        )
    found = preference(gathered.answers, key)
    paper = {(row.generator, row.cache): {q: float(row[q]) for q in key.questions if q in row}
             for row in compose("study_table", []).paper}  # fmt: skip
    text = [markdown(preference_grid(found, paper)), *map(markdown_text, notes(found, paper))]
    text += [f"- {markdown_text(f'left out: {line}')}" for line in left_out]
    return Opinion("\n\n".join(text) + "\n", problems=gathered.problems)


def of_judges(runs: Sequence[Run], paper_model: bool) -> Opinion:
    """Table 3, a table for every judge that has scored a video of these runs."""
    asked = ",".join(str(run.path) for run in runs)
    ask = f"python -m experiments.judge {shlex.quote(f'runs=[{asked}]')} endpoint=http://127.0.0.1:8000/v1 vlm=NAME"
    judges = judges_of(runs)
    if not judges:
        return Opinion(missing=("no judge has been asked about these videos",), commands=(ask,) if runs else ())
    paper = {(str(row.generator), str(row.cache)): float(row.score) for row in compose("judge", []).paper}
    text, missing = [], []
    for digest, judge in judges.items():
        name = f"{judge.get('model')} ({digest[:8]})"
        by = ", ".join(map(str, judge.get("answered_by") or ["no model that it named"]))
        text += [
            f"## Judge {markdown_text(name)}",
            markdown(grid(runs, digest, paper)),
            markdown_text(
                f"The server answered by {by}; it saw {judge.get('frames')} frames a video of {judge.get('size')} px."
            ),
            f"Asked: {markdown_code(str(judge.get('prompt')))}",
        ]
        lacking = {run.label: len(run.samples) - len(scores(run, digest)) for run in runs}
        missing += [f"{name}: {plural(n, 'video')} of {label} not judged" for label, n in lacking.items() if n > 0]
    other = "" if paper_model else " **Another model than the paper's made the videos: only orders can be compared.**"
    return Opinion("\n\n".join([*text, SCALE + other]) + "\n", tuple(missing), (ask,) if missing else ())
