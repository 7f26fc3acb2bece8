"""What must be equal in one table of a leaderboard, and the rows that have it: what differs stands in another table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from deepforcing.runs import canonical_json
from eval.store import other_weights
from experiments.results.cost import Costs
from experiments.results.foreign import Foreign
from experiments.results.runs import Run
from experiments.suites import load_suite, suite_files
from experiments.tables.vbench import PROTOCOLS


@dataclass(frozen=True)
class Setting:
    """prompts: ids (of foreign scores: texts or numbers). suite: the name of their suite, or how many they are. seconds:
    length of each video, None where nobody says it. weights: of the model that made them, and of its decoder; JSON.
    start: sha256 of the clip that videos begin with. protocol: of VBench's columns, "" without any. foreign: whose scores
    they are, "" for our own.
    """

    prompts: frozenset[str]
    suite: str
    seed: int
    seconds: float | None
    size: tuple[int, int, float]
    weights: str
    start: str
    protocol: str
    foreign: str = ""

    @property
    def length(self) -> str:
        return "length not said" if self.seconds is None else f"{self.seconds:.0f} s"

    @property
    def model(self) -> str:
        """In words: its name, and the first digits of its checkpoint's sha256."""
        import json

        told: dict[str, Any] = json.loads(self.weights) if self.weights else {}
        checkpoint = str(told.get("checkpoint") or "")[:8]
        return f"{told.get('name') or 'not said'}{f' (checkpoint {checkpoint})' if checkpoint else ''}"

    @property
    def title(self) -> str:
        """ "heldout (48 prompts), 60 s, seed 3"."""
        return f"{self.suite}, {self.length}, seed {self.seed}"


@dataclass(frozen=True)
class Entry:
    """A row: the videos of one run and seed. run: None for foreign scores."""

    name: str
    label: str
    run: Run | None = None
    samples: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class Group:
    """Rows that may be compared, and the scores, and costs, of their videos alone. cost: why a time is blank."""

    setting: Setting
    entries: tuple[Entry, ...]
    scores: pd.DataFrame = field(repr=False)
    cost: Costs | None = None
    foreign: Foreign | None = None


def groups_of_runs(runs: Sequence[Run], scores: pd.DataFrame, cost: Costs, shown: Sequence[str]) -> list[Group]:
    """Own scores, a group for each setting, in the order of the runs and seeds. cost: of these runs. shown: metrics of which
    every video must have a row, if any of its run has.

    Raises ValueError for runs of which some videos have no scores, and for other weights of a metric's networks.
    """
    if other := other_weights(scores[scores["metric"].isin(shown)]):
        raise ValueError(other[0])
    found: dict[Setting, list[Entry]] = {}
    suites = Suites()
    for run in runs:
        of_run = scores[scores["run"] == run.name]
        check_scored(run, of_run, shown)
        protocols = set(of_run["protocol"])
        protocol = next((name for name in ("vbench_long", *PROTOCOLS) if name in protocols), "")
        for seed in sorted({int(sample["seed"]) for sample in run.samples}):
            samples = tuple(sample for sample in run.samples if sample["seed"] == seed)
            for setting, part in settings_of(run, samples, protocol, suites).items():
                found.setdefault(setting, []).append(Entry(run.name, run.label, run, part))
    every = pd.concat([scores, cost.table], ignore_index=True) if len(cost.table) else scores
    ordered = sorted(found.items(), key=lambda item: item[0].seed)
    return [Group(setting, tuple(entries), of_entries(every, entries), cost) for setting, entries in ordered]


def settings_of(
    run: Run, samples: Sequence[Mapping[str, Any]], protocol: str, suites: Suites
) -> dict[Setting, tuple[Mapping[str, Any], ...]]:
    """Of the videos of one seed; videos of several lengths or sizes are several settings."""
    identity = run.record.get("identity") or {}
    weights = canonical_json(identity.get("model") or {"name": str(run.record.get("label"))})
    alike: dict[tuple[Any, ...], list[Mapping[str, Any]]] = {}
    for sample in samples:
        seconds = round(float(sample["frames"]) / float(sample["fps"]), 3)
        size = (int(sample.get("width") or 0), int(sample.get("height") or 0), float(sample["fps"]))
        alike.setdefault((seconds, size), []).append(sample)
    found = {}
    for (seconds, size), part in alike.items():
        prompts = frozenset(str(sample["prompt_id"]) for sample in part)
        start = str(identity.get("start_from") or "")
        setting = Setting(prompts, suites.name(prompts), int(part[0]["seed"]), seconds, size, weights, start, protocol)
        found[setting] = tuple(part)
    return found


def check_scored(run: Run, scores: pd.DataFrame, shown: Sequence[str]) -> None:
    """Raises ValueError if a metric was scored in some of a run's videos and not in others: its mean would be of these."""
    for (metric, protocol), rows in scores[scores["metric"].isin(shown)].groupby(["metric", "protocol"]):
        there = rows["sample"].nunique()
        if there < len(run.samples):
            option = "" if protocol == "windows" else f" protocol={protocol}"
            raise ValueError(
                f"{run.path}: {there} of {len(run.samples)} videos have scores of {metric} ({protocol}); "
                f"python -m experiments.evaluate runs={run.path}{option}"
            )


def of_entries(scores: pd.DataFrame, entries: Sequence[Entry]) -> pd.DataFrame:
    """The rows of these entries' videos."""
    wanted = {(entry.name, str(sample["sample"])) for entry in entries for sample in entry.samples}
    keep = [pair in wanted for pair in zip(scores["run"], scores["sample"], strict=True)]
    return scores[pd.Series(keep, index=scores.index, dtype=bool)]


def groups_of_foreign(foreign: Foreign) -> list[Group]:
    """Somebody else's scores, a group for each seed and set of prompts, in the file's order of labels."""
    found: dict[Setting, list[Entry]] = {}
    for (label, seed), prompts in foreign.prompts.items():
        suite = f"{len(prompts)} prompts of {foreign.file}"
        setting = Setting(prompts, suite, seed, None, (0, 0, 0.0), "", "", "", foreign.said)
        found.setdefault(setting, []).append(Entry(label, label))
    groups = []
    for setting, entries in sorted(found.items(), key=lambda item: item[0].seed):
        names, ending = {entry.name for entry in entries}, f"-s{setting.seed}"
        rows = foreign.table[foreign.table["run"].isin(names) & foreign.table["sample"].str.endswith(ending)]
        groups.append(Group(setting, tuple(entries), rows, foreign=foreign))
    return groups


class Suites:
    """Which suite of conf/suites a set of prompts is, as far as they can be read without a download."""

    def __init__(self) -> None:
        self.known: dict[frozenset[str], str] | None = None
        self.named: dict[frozenset[str], str] = {}

    def name(self, prompts: frozenset[str]) -> str:
        """ "heldout (48 prompts)", "12 prompts of heldout", or "12 prompts"."""
        if prompts not in self.named:
            self.named[prompts] = self._find(prompts)
        return self.named[prompts]

    def _find(self, prompts: frozenset[str]) -> str:
        if self.known is None:
            self.known = {}
            for suite in suite_files():
                try:
                    self.known[frozenset(prompt.id for prompt in load_suite(suite))] = suite
                except ValueError:  # a published list that is not here
                    continue
        count = f"{len(prompts)} prompt{'s' if len(prompts) > 1 else ''}"
        if prompts in self.known:
            return f"{self.known[prompts]} ({count})"
        inside = [suite for ids, suite in self.known.items() if prompts < ids]
        return f"{count} of {inside[0]}" if inside else count
