"""What the numbers of a report say, in sentences. None says more than its interval does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from experiments.results.runs import Run
from experiments.tables.estimate import interval, number
from experiments.tables.layout import verdict
from experiments.tables.over_time import PROTOCOL, OverTime
from experiments.tables.table import Column
from experiments.tables.words import found_only, join, marks, plural

IN_FULL = 3  # metrics of one sentence that are told with their numbers; the others by name
UNTESTED = "untested"
KINDS = (
    ("better", "better in"),
    ("worse", "worse in"),
    ("different", "different, in no better direction, in"),
    (UNTESTED, "differs by"),
)


def findings(
    numbers: OverTime, runs: Sequence[Run], metrics: Sequence[str], baseline: int, ends: float
) -> list[dict[str, Any]]:
    """One entry per run: how the baseline moves, and how the others' last seconds differ from the baseline's."""
    base, found = runs[baseline], []
    known = [metric for metric in metrics if numbers.scored(base.name, metric)]
    tested = has_intervals(numbers)
    moved = [metric for metric in known if not tested or numbers.cell("drift", base.name, metric).excludes_zero]
    if known:
        full = [_moved(numbers, base.name, metric) for metric in moved[:IN_FULL]]
        names = [Column(metric).words for metric in moved[IN_FULL:] if tested]
        parts = ["; ".join(full)] if full else []
        parts += [f"{'also ' if full else ''}{join(names)}"] if names else []
        still = len(known) - len(moved)
        parts += [f"in {plural(still, 'metric')} the interval of the drift includes zero"] if still else []
        found.append({"run": baseline, "text": f"from the first to the last {ends:g} s: {'; '.join(parts)}."})
    for i, run in enumerate(runs):
        if i != baseline and not run.is_real and any(numbers.scored(run.name, metric) for metric in metrics):
            found.append({"run": i, "text": _against(numbers, run, base, metrics, ends)})
    return found


def has_intervals(numbers: OverTime) -> bool:
    """Whether there are two prompts anywhere. One gives no interval, and nothing is said of any."""
    return any(
        numbers.cell("drift", row.name, m).n > 1 for row in numbers.tables["drift"].rows for m in numbers.metrics
    )


def _moved(numbers: OverTime, run: str, metric: str) -> str:
    decimals = numbers.decimals(metric)
    first, last = (number(numbers.cell(which, run, metric).value, decimals) for which in ("first", "last"))
    drift = numbers.cell("drift", run, metric)
    told, around = number(drift.value, decimals, sign=True), interval(drift, decimals, sign=True)
    told = f"{told} {around}".strip()
    return f"{Column(metric).words} {first} → {last} (drift {told}{drift.star})"


def _against(numbers: OverTime, run: Run, base: Run, metrics: Sequence[str], ends: float) -> str:
    groups: dict[str, list[str]] = {kind: [] for kind, _ in KINDS}
    unclear, tested = 0, has_intervals(numbers)
    for metric in metrics:
        difference = numbers.difference("last", run.name, metric)
        if not difference.n:
            continue
        kind = verdict(difference, Column(metric, "last", PROTOCOL)) if tested else UNTESTED
        if not kind:
            unclear += 1
            continue
        decimals = numbers.decimals(metric)
        told, around = number(difference.value, decimals, sign=True), interval(difference, decimals, sign=True)
        groups[kind].append(f"{Column(metric).words} {f'{told} {around}'.strip()}{difference.star}")
    parts = []
    for kind, words in KINDS:
        if items := groups[kind]:
            more = [item.split(" [")[0].rsplit(" ", 1)[0] for item in items[IN_FULL:]]
            parts.append(f"{words} {join([*items[:IN_FULL], *more])}")
    if unclear:
        parts.append(f"the interval includes zero in {plural(unclear, 'metric')}")
    if not parts:
        return f"shares no scored video with {base.label}."
    return f"against {base.label} in the last {ends:g} s: {'; '.join(parts)}."


def findings_notes(numbers: OverTime, metrics: Sequence[str]) -> list[str]:
    """metrics: those that the findings speak of; Holm's adjustment is among the comparisons of all metrics of the report."""
    last = numbers.tables["last"]
    found = [numbers.difference("last", row.name, metric) for row in last.rows for metric in metrics]
    compared = [difference for difference in found if difference.n > 1]
    counts = sorted({difference.n for difference in compared})
    if not compared:
        return ["One prompt: nothing here can be told from chance."]
    prompts = plural(counts[0], "prompt") if len(counts) == 1 else f"{counts[0]} to {counts[-1]} prompts"
    note = (
        f"In brackets: 95 % intervals over {prompts}, differences paired by prompt and seed. Of "
        f"{len(compared)} comparisons about {max(1, round(0.05 * len(compared)))} would exclude zero by chance alone. *: also "
        f"told from zero after Holm's adjustment for all {last.comparisons} differences from the baseline, or all "
        f"{numbers.tables['drift'].tests} drifts, of this report."
    )
    names = [Column(metric).words for _, _, some in found_only(metrics) for metric in some]
    return [note + (f" Of {join(names)} see the note at the table." if names else "")]


def survivors(numbers: OverTime, metrics: Sequence[str], ends: float) -> list[str]:
    """What numbers of only a part of the frames mean: a note on sprite metrics, and one where windows lack a value."""
    found = []
    for thing, share, some in found_only(metrics):
        names = [Column(metric).words for metric in some]
        one = len(names) == 1
        beside = Column(share).words if share in metrics else "the videos"
        found.append(
            f"{join(names)} {'counts' if one else 'count'} only frames in which a {thing} was found: a run that loses "
            f"{thing}s is scored on what is left, and can look better for it, also in paired differences. Read "
            f"{'it' if one else 'them'} beside {beside}."
        )
    runs = [row.name for row in numbers.tables["last"].rows]
    if any(numbers.share(run, metric) < 1 for run in runs for metric in metrics):
        found.append(
            f"“% of windows”: the share of the windows in the last {ends:g} s that have a value at all, where not all do."
        )
    return found


def movement_note(numbers: OverTime) -> str:
    note = "Slope: least squares over the windows of a video. Fluctuation: standard deviation over them."
    if not has_intervals(numbers):
        return note
    return f"{note} Means over prompts, with 95 % intervals; slope: {marks(numbers.tables['slope'].tests)}."
