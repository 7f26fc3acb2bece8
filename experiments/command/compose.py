"""Configs out of conf/ and words: composed by Hydra, checked key by key, run once or at every point of a sweep."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, OverrideParseException
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from experiments.command.conf import CONF, groups, top_keys
from experiments.command.keys import check_keys
from experiments.command.words import describe, explain, shown, unknown_key, unreadable

if TYPE_CHECKING:
    from experiments.command.entry import Check, Task

SWEEP = ("-m", "--multirun")
MOST_POINTS = 10_000  # of a sweep
# Hydra's own logs, folders and changes of directory are not wanted: runs have directories of their own.
QUIET = [
    "hydra/job_logging=none", "hydra/hydra_logging=none", "hydra.output_subdir=null", "hydra.run.dir=.",
    "hydra.sweep.subdir=.", "hydra.job.chdir=false",
]  # fmt: skip


@contextmanager
def started() -> Iterator[None]:
    """Hydra on conf/, unless it runs already."""
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        yield


def composed(config_name: str, overrides: Sequence[str], hydra_too: bool = False) -> DictConfig:
    with started():
        try:
            return hydra.compose(config_name, [*overrides], return_hydra_config=hydra_too)
        except ValueError as error:  # of a group that got null or a number
            raise HydraException(str(error)) from error


def compose(config_name: str, overrides: Sequence[str]) -> DictConfig:
    """Another command's config, checked, from words as they are typed. Raises ValueError in one line."""
    overrides = [expanded(word) for word in overrides]
    try:
        config = composed(config_name, overrides)
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain(error, config_name, overrides)) from None
    check_keys(config_name, config)
    return config


def run(task: Task, config_name: str, arguments: list[str], check: Check | None = None) -> int:
    """Run the task on the config of the words, or on every point of their sweep. Raises ValueError for words that are wrong.

    check: see entry.command.
    """
    from experiments.command import sweep

    words = [expanded(argument) for argument in arguments]
    known = read(words)
    overrides = [word for word in words if word not in SWEEP]
    if len(overrides) == len(words):
        if not sweep.runs_here(overrides):
            raise ValueError(f"{sweep.launcher(overrides)}: launchers are for sweeps: add -m, also for one point")
        with started():
            ((_, config),) = checked(config_name, [overrides], remembered=True)
            return task(config) or 0
    with started():
        wanted = points(overrides, known)
        configs = checked(config_name, wanted)
        if check is not None:
            sweep.first_mistake(check, configs, here=sweep.on_this_machine(overrides))
    return sweep.run_sweep(task, config_name, overrides, [config for _, config in configs], wanted)


def expanded(argument: str) -> str:
    """`~` at the start of a value, or of a list's item, as the shell would have replaced it: Hydra has no word for it."""

    def home(match: re.Match[str]) -> str:
        path = str(Path(match[1]).expanduser())
        return path if re.fullmatch(r"[\w./+@%-]*", path, re.ASCII) else f'"{path}"'

    key, equals, value = argument.partition("=")
    if key == "cache.store" and value:  # the config group of that name, said as its other keys are
        return f"cache/store={value}"
    if not equals or value[:1] in "'\"":
        return argument
    try:
        return key + equals + re.sub(r"(?<![^,\[])(~[^,\[\]\"']*)", home, value)
    except RuntimeError:
        raise ValueError(f"{argument}: there is no user of that name") from None


def read(words: Sequence[str]) -> list[Any]:
    """The words as Hydra's parser takes them, without -m. Raises ValueError for what it does not."""
    for word in words:
        if word.startswith("-") and word not in SWEEP:
            raise ValueError(f"{word} is not an option; there are --help and -m (sweep), everything else is key=value")
        if word not in SWEEP and not re.match(r"[^=]+=|~", word):
            raise ValueError(f"{word!r} is not key=value; see --help")
    parser = OverridesParser.create()
    found = []
    for word in words:
        if word not in SWEEP:
            try:
                found.append(parser.parse_override(word))
            except (HydraException, RecursionError):  # an OverrideParseException, or of a function in it
                raise ValueError(unreadable(word)) from None
    return found


def points(overrides: Sequence[str], parsed: Sequence[Any]) -> list[list[str]]:
    """The overrides of every point of a sweep: all combinations. Raises ValueError."""
    choices = []
    count = 1
    for text, override in zip(overrides, parsed, strict=True):
        if not override.is_sweep_override():
            choices.append([text])
            continue
        key = override.get_key_element()
        if not override.is_discrete_sweep():
            raise ValueError(
                f"{text} is no list of values; write {override.key_or_group}=a,b,c or range(start,stop,step)"
            )
        values = [f"{key}={v}" for v in itertools.islice(override.sweep_string_iterator(), MOST_POINTS + 1)]
        count *= len(values)
        if count > MOST_POINTS:
            raise ValueError(f"{text}: a sweep can have at most {MOST_POINTS} points")
        choices.append(values)
    return [list(point) for point in itertools.product(*choices)]


def checked(
    config_name: str, wanted: Sequence[Sequence[str]], remembered: bool = False
) -> list[tuple[Sequence[str], DictConfig]]:
    """The composed config of each point, with every key's value checked. Raises ValueError with the first mistake.

    remembered: let `chosen` know, as a sweep's launcher does by itself.
    """
    known = top_keys(config_name)
    found = []
    for overrides in wanted:
        try:
            config = composed(config_name, overrides, hydra_too=remembered)
            if remembered:
                remember(config, overrides)
            OmegaConf.resolve(config)
            given = {str(key) for key in config}
            if known - given:
                raise ValueError(f"{', '.join(sorted(known - given))} cannot be left out; see --help")
            if given - known:
                raise ValueError(unknown_key(min(given - known), config_name, list(overrides)))
            check_keys(config_name, config)
        except OverrideParseException as error:
            raise ValueError(unreadable(str(error.override))) from None
        except (HydraException, OmegaConfBaseException) as error:
            raise ValueError(explain(error, config_name, list(overrides))) from None
        found.append((overrides, config))
    return found


def remember(config: DictConfig, overrides: Sequence[str]) -> None:
    """Hydra's own part of a config goes where Hydra looks for it, so that one composing does for both."""
    with open_dict(config):
        config.hydra.overrides.task = [o for o in overrides if not o.startswith("hydra")]
        HydraConfig.instance().set_config(config)
        del config["hydra"]


def chosen() -> tuple[dict[str, str], list[str]]:
    """Of the command that runs: the choice of every group, and the words that were typed."""
    of = HydraConfig.get()
    return {str(group): str(choice) for group, choice in of.runtime.choices.items()}, [
        str(o) for o in of.overrides.task
    ]


__all__ = ["chosen", "compose", "composed", "describe", "groups", "run", "shown"]
