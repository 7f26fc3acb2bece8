"""Sweeps: every point of -m by any launcher of Hydra's, with each point's end told.

Where points run elsewhere, in other processes or on other machines, nothing of theirs comes back by itself: each leaves
a file in the sweep's directory, and what left none did not end well.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from experiments.command.conf import CONF
from experiments.command.terminal import say, say_quietly
from experiments.command.words import describe, refusal

if TYPE_CHECKING:
    from experiments.command.entry import Check, Task

FAILED_POINTS = 1  # exit status of a sweep in which some failed


@dataclass(frozen=True)
class Point:
    """The task as a launcher calls it, here or elsewhere: it travels by pickle.

    typed: the sweep's own command line. parent: the process that a point ends with; None: it goes on, as cluster jobs do.
    """

    task: Task
    config_name: str
    typed: tuple[str, ...]
    parent: int | None = None

    def __call__(self, config: DictConfig) -> None:
        from experiments.command.keys import check_keys

        if self.parent not in (None, os.getpid()):
            threading.Thread(target=end_with, args=(self.parent,), daemon=True).start()
        here = sys.argv
        sys.argv = list(self.typed)  # what records say made a run
        status, why = 2, ""
        try:
            OmegaConf.resolve(config)
            check_keys(self.config_name, config)
            status = self.task(config) or 0
        except Exception as error:
            why = refusal(error)
            say(why)
        finally:
            sys.argv = here
        of = HydraConfig.get()
        report = Path(of.sweep.dir) / f"{of.job.num}.ended.json"
        partial = report.with_suffix(".partial")
        partial.write_text(json.dumps({"status": status, "why": why, "words": list(of.overrides.task)}))
        partial.replace(report)


def end_with(process: int) -> None:
    """End this process, and lose nothing that is finished, once the other is gone."""
    while True:
        try:
            os.kill(process, 0)
        except OSError:
            os._exit(128 + signal.SIGTERM)
        time.sleep(0.5)


def runs_here(overrides: Sequence[str]) -> bool:
    """Whether the chosen launcher runs points in this process."""
    return launcher(overrides).endswith("=basic")


def on_this_machine(overrides: Sequence[str]) -> bool:
    return launcher(overrides).partition("=")[2] in ("basic", "joblib", "submitit_local")


def launcher(overrides: Sequence[str]) -> str:
    return next((word for word in reversed(overrides) if word.startswith("hydra/launcher=")), "hydra/launcher=basic")


@contextmanager
def directory(overrides: Sequence[str], configs: Sequence[DictConfig]) -> Iterator[Path]:
    """Where a sweep's files lie. Points that run elsewhere need one that they see too: beside the runs, and it stays."""
    given = [word.partition("=")[2].strip("'\"") for word in overrides if word.startswith("hydra.sweep.dir=")]
    if given or not runs_here(overrides):
        root = configs[0].get("runs_root") or "runs"
        stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        path = Path(given[-1]) if given else Path(str(root)) / ".sweeps" / stamp
        path.mkdir(parents=True, exist_ok=True)
        for old in path.glob("*.ended.json"):
            old.unlink()
        yield path.absolute()
        return
    with tempfile.TemporaryDirectory() as scratch:
        yield Path(scratch)


def run_sweep(
    task: Task,
    config_name: str,
    overrides: Sequence[str],
    configs: Sequence[DictConfig],
    wanted: Sequence[Sequence[str]],
) -> int:
    """Run every point; which failed is said at the end, with exit status 1."""
    from experiments.command.compose import QUIET

    with directory(overrides, configs) as path:
        typed = tuple(sys.argv)
        launch = hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")
        if not runs_here(overrides):
            say_quietly(f"{len(wanted)} points by {launcher(overrides)}; what they say is under {path}")
        own = [word for word in overrides if not word.startswith("hydra.sweep.dir=")]
        sys.argv[1:] = ["-m", *own, *QUIET, f"hydra.sweep.dir='{path}'"]  # it wants its options first
        try:
            with raising():
                launch(Point(task, config_name, typed, os.getpid() if on_this_machine(overrides) else None))()
        except Exception as error:  # of the launcher: no such cluster, a job that was killed
            say(f"the sweep's launcher: {str(error).partition(chr(10))[0][:300] or describe(error)}")
        finally:
            sys.argv[:] = typed
        return tell(path, wanted)


@contextmanager
def raising() -> Iterator[None]:
    """Let Hydra's launchers raise what went wrong, which they would print on many lines and exit."""
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    try:
        yield
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def tell(path: Path, wanted: Sequence[Sequence[str]]) -> int:
    """Say which points failed, from what they left in the sweep's directory."""
    ended = {int(file.name.split(".")[0]): json.loads(file.read_text()) for file in path.glob("*.ended.json")}
    failed = []
    for number, overrides in enumerate(wanted):
        words = " ".join(word for word in overrides if not word.startswith("hydra"))
        if number not in ended:
            failed.append(f"  {words}: has not ended well or not yet; what it said is under {path}")
        elif ended[number]["status"]:
            why = ended[number]["why"] or "its errors are above, or in its own log"
            failed.append(f"  {words}: {why}")
    if failed:
        say("\n".join([f"{len(failed)} of {len(wanted)} points failed:", *failed]))
    return FAILED_POINTS if failed else 0


def first_mistake(check: Check, configs: Sequence[tuple[Sequence[str], DictConfig]], here: bool) -> None:
    """Raises ValueError for the first of a sweep's points that the check refuses, after its overrides."""
    for overrides, config in configs:
        restore: Callable[[], None] = remembering_threads()
        try:
            check(config, here)
        except Exception as error:
            raise ValueError(f"{' '.join(overrides)}: {refusal(error)}") from None
        finally:
            restore()


def remembering_threads() -> Callable[[], None]:
    """A check may set the number of torch's threads; a call of the result sets it back."""
    import torch

    threads = torch.get_num_threads()
    return lambda: torch.set_num_threads(threads)
