"""The sentences of an experiment's report: what was run, ours beside the paper's, and what was not run, in plain sentences."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from deepforcing.prompts import Sample
from eval.metrics.vbench.quality import QUALITY, REWARD
from experiments.results.runs import Run
from experiments.tables.layout import means
from experiments.tables.published import PaperRow, beside, beside_differences, signs
from experiments.tables.render import markdown
from experiments.tables.table import FPS, Table
from experiments.tables.text import markdown_code, markdown_text
from experiments.tables.vbench import PROTOCOLS
from experiments.tables.versions import version_notes
from experiments.tables.words import INTERVALS, found_only, join, marks, plural


@dataclass(frozen=True)
class Done:
    """What the sentences are about. prompts_said: how ours are the paper's prompts, or not. paper_model: whether it is the
    paper's. own_prompts: whether others than the experiment's were asked for. source: None where no paper has numbers. dtype:
    the paper's is bfloat16. runs: by row; not_run: {row: why}; absent: {metric: why}; other_world: metrics that do not apply;
    figure: a file's name.
    """

    title: str
    source: str | None
    prompts_said: str
    said: str | None
    model: str
    paper_model: bool
    own_prompts: bool
    dtype: str
    protocol: str
    seconds: float
    samples: Sequence[Sample]
    paper_seconds: float
    paper_prompts: int
    window_seconds: float
    ends: float
    runs: Mapping[str, Run]
    not_run: Mapping[str, str]
    absent: Mapping[str, str]
    other_world: Sequence[str]
    problems: int
    figure: str | None

    @property
    def prompts(self) -> int:
        return len({sample.prompt.id for sample in self.samples})

    @property
    def differs(self) -> list[str]:
        """In what ours is not what the paper measured."""
        found = [] if self.paper_model else [f"the model {self.model} instead of Wan2.1-T2V-1.3B"]
        if self.seconds != self.paper_seconds:
            found.append(f"videos of {self.seconds:g} s instead of {self.paper_seconds:g} s")
        if self.prompts != self.paper_prompts:
            found.append(f"{plural(self.prompts, 'prompt')} instead of {self.paper_prompts}")
        elif self.own_prompts:
            found.append("prompts of your own")
        if self.dtype != "bfloat16":
            found.append(f"{self.dtype} instead of bfloat16")
        if self.protocol != "vbench_long":
            length = f" of {self.window_seconds:g} s" if self.protocol == "windows" else ""
            found.append(f"the protocol, which is no VBench-Long ({self.protocol}{length})")
        return found


def written(done: Done, published: Table, windows: Table, cost: Table) -> str:
    """Markdown. published: the paper's columns; windows: those measured without any network; cost: see tables.cost."""
    parts = [
        f"# {done.title}",
        *opening(done),
        "## Ours beside the paper's" if done.source else "## Scores",
        beside(published),
    ]
    fps = (
        " FPS as measured here, once the window is full."
        if any(c.metric == FPS.name for c in published.columns)
        else ""
    )
    told = f" {INTERVALS}" if done.prompts > 1 else ""  # one prompt gives none
    printed = "Scores × 100, as the paper prints them;" if done.source else "VBench's scores × 100;"
    parts.append(f"{protocol_words(done)} {printed} a dash: no number.{fps}{told}")
    if any(column.metric == QUALITY.name for column in published.columns):
        parts.append(REWARD)
    if done.said:
        parts.append(done.said)
    label = markdown_text(published.label(published.baseline))
    differences = beside_differences(published)
    if differences:
        parts += [
            f"Differences from {label}, ours paired by prompt and seed; {marks(published.comparisons)}.",
            differences,
        ]
    parts += sign_words(published)
    if windows.columns:
        parts += ["## Without any network", *window_words(done, windows), beside(windows)]
        differences = beside_differences(windows)
        parts += (
            [f"Differences from {label}, paired; {marks(windows.comparisons)}.", differences] if differences else []
        )
    if cost.columns:
        parts += ["## Cost", markdown(means(cost)), *map(markdown_text, cost.notes)]
    if done.figure:
        parts += ["## Sweep", f"![{done.title}]({done.figure})", "Lines: 95 % intervals over prompts."]
    made = [row for row in published.rows if isinstance(row, PaperRow) and row.name in done.runs]
    parts += ["## What was run", "\n".join(run_words(done, row) for row in made), *versions_of(done, made)]
    missing = not_run_words(done, published)
    parts += ["## What was not run", "\n".join(missing) if missing else "Nothing was left out."]
    return "\n\n".join(part for part in parts if part) + "\n"


def told_of_pictures(done: Done, rows: Sequence[PaperRow]) -> str:
    """Markdown of what was run and what was not, where the result is pictures."""
    labels = {row.name: row.label for row in rows}
    there = [row for row in rows if row.name in done.runs]
    made = [run_words(done, row) for row in there]
    missing = [f"- row {markdown_text(f'{labels.get(name, name)}: {why}')}" for name, why in done.not_run.items()]
    if others := [each for each in done.differs if not each.startswith("the protocol")]:
        missing.append(f"- what the paper drew: here are {join(others)}")
    if done.paper_model and not done.own_prompts:
        missing.append(f"- the paper's prompts: {done.prompts_said}")
    parts = [*opening(done), done.said, "## What was run", "\n".join(made)]
    parts += [*versions_of(done, there), "## What was not run", "\n".join(missing)]
    return "\n\n".join(part for part in parts if part) + "\n"


def opening(done: Done) -> list[str]:
    videos = f"{plural(done.prompts, 'prompt')}, {plural(len(done.samples), 'video')} of {done.seconds:g} s a row"
    devices = sorted(
        {
            markdown_text(str((run.record.get("environment") or {}).get("device") or "unrecorded"))
            for run in done.runs.values()
        }
    )
    of = (
        " (an embedded world, which is not Wan)"
        if any(r.record.get("world") is not None for r in done.runs.values())
        else ""
    )
    first = f"Ours: model {markdown_text(done.model)}{of}, {videos}, made on {join(devices) if devices else 'nothing'}."
    if done.source is None:
        return [first]
    paper = f"The paper's numbers: Wan2.1-T2V-1.3B, {plural(done.paper_prompts, 'prompt')} ({done.source})."
    if done.differs:
        last = (
            f"Ours differ from the paper's in {join(done.differs)}: **levels are not comparable, only signs and orders "
            "of differences, and even these are of another model.**"
            if not done.paper_model
            else f"Ours differ from the paper's in {join(done.differs)}: **levels are not comparable.**"
        )
    else:
        last = f"Model, length, number of prompts and protocol are the paper's; {done.prompts_said}. FPS are of this device."
    return [f"{first} {paper}", last]


def protocol_words(done: Done) -> str:
    if done.protocol == "windows":
        return f"Protocol: windows of {done.window_seconds:g} s; first and last: {done.ends:.3g} s."
    return f"Protocol: {PROTOCOLS.get(done.protocol, done.protocol)}."


def sign_words(published: Table) -> list[str]:
    clear, same, every = signs(published)
    if not every:
        return []
    if not clear:
        return [
            f"Of the paper's {every} differences none can be compared: ours is not there, or its interval holds zero."
        ]
    return [
        f"Of the paper's {every} differences ours has an interval without zero in {clear}; in {same} of these the sign is "
        "the paper's."
    ]


def window_words(done: Done, windows: Table) -> list[str]:
    words = f"Windows of {done.window_seconds:g} s; means over the last {done.ends:.3g} s. "
    for thing, share, metrics in found_only([column.metric for column in windows.columns]):
        names = join([metric.replace("_", " ") for metric in metrics])
        words += (
            f"Only frames in which a {thing} was found count for {names}: read them beside {share.replace('_', ' ')}. "
        )
    return [f"{words}{'The paper has no such numbers.' if done.source else ''}".strip()]


def run_words(done: Done, row: PaperRow) -> str:
    run = done.runs[row.name]
    wanted = {sample.name for sample in done.samples}
    there = len({str(sample["sample"]) for sample in run.samples} & wanted)
    command, path = markdown_code(" ".join(row.overrides)), markdown_code(str(run.path))
    return f"- {markdown_text(row.label)}: {command}; {there} of {plural(len(wanted), 'video')}; {path}"


def versions_of(done: Done, rows: Sequence[PaperRow]) -> list[str]:
    """Which code, and which weights, made which rows, where they differ."""
    wanted = {sample.name for sample in done.samples}
    made = [(row.label, done.runs[row.name]) for row in rows]
    of = [replace(r, label=label, samples=tuple(s for s in r.samples if s["sample"] in wanted)) for label, r in made]
    return [markdown_text(note) for note in version_notes(of)]


def not_run_words(done: Done, published: Table) -> list[str]:
    labels = {row.name: row.label for row in published.rows}
    found = [f"- row {markdown_text(f'{labels.get(name, name)}: {why}')}" for name, why in done.not_run.items()]
    found += [f"- {markdown_text(f'{metric}: {why}')}" for metric, why in done.absent.items()]
    unmeasured = [c.title for c in published.columns if not published.measured(c) and c.metric not in done.absent]
    found += [f"- {title}: scored, but without any value" for title in unmeasured]
    if done.other_world:
        found.append(f"- {join(list(done.other_world))}: not of this model's videos")
    if done.problems:
        found.append(f"- {plural(done.problems, 'score')} that could not be had: the command's last lines name them")
    return found
