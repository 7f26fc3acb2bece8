"""Reading run directories for tables and reports: which runs, under which label, with which finished samples."""

from __future__ import annotations

import glob
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from deepforcing.records import read_run, read_sample
from experiments.results.configs import flatten
from experiments.results.marks import mark

SUMS = "SHA256SUMS"  # what an exported folder has (exported.py)
REAL = "real video"  # label of the reference run whose frames come from a world's renderer


@dataclass(frozen=True)
class Run:
    """One run directory as written by `experiments.rollout`. `label` is unique among the runs read together, and ends
    with what was lossy in making it (marks.py): the one place where labels of tables, figures and pages come from."""

    path: Path
    label: str
    record: dict[str, Any]  # run.json
    samples: tuple[dict[str, Any], ...]  # samples/*.json in order of prompt id and seed: finished samples only
    left_out: int = 0  # finished samples that are not in `samples` because another run does not have them
    exported: Path | None = None  # the folder that it came in, without videos (results.exported)

    @property
    def name(self) -> str:
        """The directory's name: what the column `run` of the tidy score table holds."""
        return self.path.name

    @property
    def spec(self) -> dict[str, Any]:
        return self.record.get("spec") or {}

    @property
    def config(self) -> dict[str, Any]:
        """The spec, but prompts and seeds as counts of `samples`: a run can be extended, its spec is the first request."""
        counts = {
            "prompts": len({s["prompt_id"] for s in self.samples}),
            "seeds": len({s["seed"] for s in self.samples}),
        }
        return {**self.spec, **counts}

    @property
    def mark(self) -> str:
        """What the label ends with, from the run's identity."""
        return mark(self.record.get("identity") or {})

    @property
    def is_real(self) -> bool:
        return bool(self.record.get("label") == REAL)

    @property
    def train_seconds(self) -> float | None:
        """Length of the clips that the model was trained on, where the run says so."""
        model = self.spec.get("model")
        value = self.spec.get("train_seconds", model.get("train_seconds") if isinstance(model, dict) else None)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            return None
        return float(value) if value > 0 else None


def find_runs(patterns: Sequence[str]) -> list[Path]:
    """Run directories for paths and glob patterns, in the order given, each once.

    Raises ValueError naming the first path or pattern that leads to no run directory.
    """
    found: dict[Path, Path] = {}
    for pattern in patterns:
        literal = Path(pattern)
        matches = [literal] if literal.exists() else matching(pattern)
        runs = [path for path in matches if (path / "run.json").is_file()]
        if not matches:
            raise ValueError(f"no such run directory: {pattern} (a run directory is <runs_root>/<name>-<8 hex>)")
        if not runs:
            if (literal / SUMS).is_file():
                raise ValueError(of_folder(literal, literal))
            inside = sorted(path.parent for path in literal.glob("*/run.json")) if literal.is_dir() else []
            hint = f"; it holds {len(inside)} runs, write '{pattern.rstrip('/')}/*' for all of them" if inside else ""
            raise ValueError(f"{pattern} is no run directory (it has no run.json){hint}")
        for run in runs:
            if (run.parent / SUMS).is_file() and not (run / "samples").exists():
                raise ValueError(of_folder(run, run.parent))
            found.setdefault(run.resolve(), run)
    if not found:
        raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
    return list(found.values())


def of_folder(path: Path, folder: Path) -> str:
    what = "is an exported folder" if path == folder else f"is of the exported folder {folder}"
    return f"{path} {what}: scores without videos; table, leaderboard and figure read it by folders={folder}"


def matching(pattern: str) -> list[Path]:
    """What a glob pattern leads to. As much of it as is there by its literal name is taken literally, brackets and all."""
    parts = Path(pattern).parts
    for count in range(len(parts) - 1, 0, -1):
        folder = Path(*parts[:count])
        if folder.is_dir():
            return sorted(folder / match for match in glob.glob(str(Path(*parts[count:])), root_dir=folder))
    return sorted(Path(match) for match in glob.glob(pattern))


def read_runs(paths: Sequence[Path]) -> list[Run]:
    """Every run with its finished samples; labels that occur twice are told apart by what differs between the runs.

    Raises ValueError naming the first record that is none (deepforcing.records).
    """
    runs = []
    for path in paths:
        if not (path / "run.json").is_file() and ((path / SUMS).is_file() or (path / "scores.parquet").is_file()):
            raise ValueError(
                f"{path} has scores alone, and more is needed here: give run directories, runs=[DIR,DIR,...]"
            )
        record = read_run(path)
        samples = (read_sample(file) for file in (path / "samples").glob("[!.]*.json"))
        ordered = sorted(samples, key=lambda s: (s["prompt_id"], s["seed"]))
        runs.append(Run(path=path, label=path.name, record=record, samples=tuple(ordered)))
    return labelled(runs)


def labelled(runs: Sequence[Run]) -> list[Run]:
    """The runs with labels that tell them apart, made from their records alone. Raises ValueError if two have one name."""
    names = Counter(run.name for run in runs)
    for run in runs:
        if names[run.name] > 1:
            both = " and ".join(str(other.path) for other in runs if other.name == run.name)
            raise ValueError(
                f"two of the runs are called {run.name}, by which tables tell them apart: {both}; rename one"
            )
    told = [str(run.record.get("label") or run.record.get("name") or run.name) for run in runs]
    runs = [replace(run, label=label) for run, label in zip(runs, told, strict=True)]
    counts = Counter((run.label, run.mark) for run in runs)
    labels = [run.label if counts[run.label, run.mark] == 1 else _telling_label(run, runs) for run in runs]
    return [replace(run, label=label + run.mark) for run, label in zip(runs, labels, strict=True)]


def with_common_samples(runs: Sequence[Run]) -> list[Run]:
    """The runs with only the samples (prompt and seed) that all of them have, so that means are over the same prompts.

    Runs without any sample do not count; where nothing is common, everything stays.
    """
    started = [{sample["sample"] for sample in run.samples} for run in runs if run.samples]
    common = set.intersection(*started) if started else set()
    if not common:
        return list(runs)
    found = []
    for run in runs:
        kept = tuple(sample for sample in run.samples if sample["sample"] in common)
        found.append(replace(run, samples=kept, left_out=len(run.samples) - len(kept)))
    return found


def _telling_label(run: Run, runs: Sequence[Run]) -> str:
    same = [flatten(other.spec) for other in runs if (other.label, other.mark) == (run.label, run.mark)]
    requests = ("prompts", "seeds")  # which videos were asked for at first says nothing about the run
    keys = [key for key in same[0] if key not in requests and len({str(flat.get(key)) for flat in same}) > 1]
    short = [key for key in keys if not key.rsplit(".", 1)[-1].startswith("_")][:2]

    def told(flat: dict[str, Any]) -> str:
        return " ".join(f"{key.rsplit('.', 1)[-1]}={flat.get(key)}" for key in short)

    unique = len({told(flat) for flat in same}) == len(same)
    return f"{run.label} {told(flatten(run.spec)) if unique else run.name.rsplit('-', 1)[-1]}"
