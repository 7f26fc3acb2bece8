"""What a report is asked for: the keys of conf/report.yaml, checked."""

from __future__ import annotations

import difflib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from eval.metrics import VALUES
from experiments.results.runs import Run


@dataclass(frozen=True)
class Report:
    """The keys of conf/report.yaml, checked. Raises ValueError with one line for a value that cannot work."""

    runs: tuple[str, ...]
    out: Path
    title: str | None
    baseline: str | None
    ends: float
    window_seconds: float | None
    chief: tuple[str, ...]
    common: bool
    max_rows: int
    page_megabytes: float

    def __post_init__(self) -> None:
        if not self.runs:
            raise ValueError("no runs given: say runs=[DIR,DIR,...] or runs='runs/*'")
        if self.out.suffix != ".html":
            raise ValueError(f"out={self.out} must end in .html, as in out=reports/report.html")
        for key in ("ends", "window_seconds", "page_megabytes"):
            value = getattr(self, key)
            if value is None and key == "window_seconds":
                continue
            if not isinstance(value, int | float) or not value > 0 or not math.isfinite(value):
                raise ValueError(f"{key}={value} must be a positive number")
        if not isinstance(self.max_rows, int) or self.max_rows < 1:
            raise ValueError(f"max_rows={self.max_rows} must be a whole number of at least 1")
        known = sorted(value.name for value in VALUES)
        unknown = [name for name in self.chief if name not in known]
        if unknown:
            near = difflib.get_close_matches(unknown[0], known, 1)
            hint = f" did you mean {near[0]}?" if near else ""
            raise ValueError(f"chief={unknown[0]} is no metric;{hint} there are {', '.join(known)}")


def from_config(config: DictConfig) -> Report:
    """Plain values out of Hydra's config; a single word is taken for a list of one."""
    values = OmegaConf.to_container(config, resolve=True)
    assert isinstance(values, dict)

    def words(key: str) -> tuple[str, ...]:
        value = values[key]
        return tuple(str(v) for v in value) if isinstance(value, list) else () if value is None else (str(value),)

    return Report(
        runs=words("runs"),
        out=Path(str(values["out"])),
        title=None if values["title"] is None else str(values["title"]),
        baseline=None if values["baseline"] is None else str(values["baseline"]),
        ends=values["ends"],
        window_seconds=values["window_seconds"],
        chief=words("chief"),
        common=values["common"],
        max_rows=values["max_rows"],
        page_megabytes=values["page_megabytes"],
    )


def baseline_index(runs: Sequence[Run], wanted: str | None) -> int:
    """Index of the run with this label or directory name; the first for None. Raises ValueError naming the choices."""
    if wanted is None:
        return 0
    found = [i for i, run in enumerate(runs) if wanted in (run.label, run.name)]
    if not found:
        raise ValueError(f"baseline={wanted} is none of the runs: {', '.join(run.label for run in runs)}")
    return found[0]
