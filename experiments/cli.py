"""What every Hydra command shares: help for a newcomer, and one clear line for whatever goes wrong.

A command is a function of a resolved config, wrapped by `command`. Mistakes in the configuration are found by composing
it once before Hydra runs; mistakes in the work (ValueError, OSError, out of memory ...) become one line and status 2.
"""

from __future__ import annotations

import difflib
import itertools
import math
import os
import re
import select
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, TextIO

import hydra
import torch
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException, OverrideParseException
from omegaconf import DictConfig, ListConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).parent.parent / "conf"
Task = Callable[[DictConfig], int | None]
Check = Callable[[DictConfig], object]
FAILED = 2
SWEEP = ("-m", "--multirun")


def command(config_name: str, check: Check | None = None) -> Callable[[Task], Callable[[], None]]:
    """Decorator: make `main()` out of a task on conf/<config_name>.yaml; the task may return an exit status.

    check: what the task itself looks at first. Before a sweep begins it is called with every point's config: a mistake in
    the last point is told before the first one's long work.
    """

    def decorate(task: Task) -> Callable[[], None]:
        def main() -> None:
            arguments = sys.argv[1:]
            if any(a in ("-h", "--help") for a in arguments):
                print(help_text(config_name))
                return
            try:
                problem = check_arguments(config_name, arguments, check)
                if problem:
                    fail(problem)
                status = run_hydra(task, config_name)
            except KeyboardInterrupt:  # a sweep ends too
                print("interrupted: what is finished stays; run the same command again to go on", file=sys.stderr)
                sys.exit(130)
            if status:
                sys.exit(status)

        return main

    return decorate


def run_hydra(task: Task, config_name: str) -> int:
    """Run the task on the config of the command line, or on every point of its sweep; the largest exit status."""
    statuses = [0]

    def guarded(config: DictConfig) -> None:
        OmegaConf.resolve(config)
        statuses.append(run_task(task, config))

    wrapped = hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(guarded)
    if not any(a in SWEEP for a in sys.argv):
        wrapped()
        return max(statuses)
    with tempfile.TemporaryDirectory() as scratch:  # Hydra leaves a multirun.yaml in a sweep's directory
        overrides = [a for a in sys.argv[1:] if a not in SWEEP]
        sys.argv[1:] = ["-m", *overrides, f"hydra.sweep.dir='{scratch}'"]  # it wants its options first
        wrapped()
    return max(statuses)


def run_task(task: Task, config: DictConfig) -> int:
    """The task's exit status; FAILED after one line on stderr for whatever went wrong."""
    try:
        return task(config) or 0
    except (torch.OutOfMemoryError, MemoryError):
        say("out of memory: use a smaller model, window_frames or dtype=bfloat16; what is finished stays")
    except Exception as error:
        if isinstance(error, BrokenPipeError) and closed(sys.stdout):  # the reader, as in `| head`, has what it wanted
            return FAILED
        if os.environ.get("DEEPFORCING_TRACEBACK"):
            raise
        say(describe(error))
    return FAILED


def closed(stream: TextIO) -> bool:
    """Whether nobody reads a stream any more. If so it leads nowhere from now on: at exit Python would write once more."""
    try:
        ends = select.poll()
        ends.register(stream.fileno(), select.POLLOUT)
    except (OSError, ValueError):  # no file behind it
        return False
    gone = any(event & (select.POLLERR | select.POLLHUP) for _, event in ends.poll(0))
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return gone


def describe(error: BaseException) -> str:
    """One line for an exception; kinds that users do not cause keep their name."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename and error.strerror:  # without "[Errno 2]"
        return f"{error.filename}: {error.strerror}"
    if "not enough memory" in text or "can't allocate memory" in text:
        return f"out of memory: {text[:160]}; what is finished stays"
    if isinstance(error, (ValueError, OSError, ArithmeticError)):
        return text
    return f"{type(error).__name__}: {text} (DEEPFORCING_TRACEBACK=1 shows where)"


def say(message: str) -> None:
    print(f"error: {message}", file=sys.stderr, flush=True)


def fail(message: str) -> None:
    say(message)
    sys.exit(FAILED)


def groups() -> dict[str, list[str]]:
    """Config groups and their options."""
    return {d.name: sorted(f.stem for f in d.glob("*.yaml")) for d in sorted(CONF.iterdir()) if d.is_dir()}


def used_groups(text: str) -> list[str]:
    """The groups in the defaults of a main configuration."""
    return [name for name in groups() if re.search(rf"^  - {name}:", text, re.M)]


def top_keys(config_name: str) -> set[str]:
    """The keys that a command takes, without composing its configuration."""
    path = CONF / f"{config_name}.yaml"
    own = {str(key) for key in OmegaConf.load(path)} - {"defaults", "hydra"}
    return own | set(used_groups(path.read_text()))


def help_text(config_name: str) -> str:
    text = (CONF / f"{config_name}.yaml").read_text()
    text = text.split("\nhydra:")[0]
    lines = [line for line in text.splitlines() if "override hydra" not in line and line.strip() != "- _self_"]
    used = used_groups(text)
    options = "\n".join(f"  {name:<12}{', '.join(groups()[name])}" for name in used)
    tail = f"\n\nChoices:\n{options}" if options else ""
    shown = re.sub(r"^defaults:\n(?!  -)", "", "\n".join(lines), flags=re.M)
    return shown + tail + "\n\nAny key can be set: key=value, nested.key=value. Sweeps: -m key=a,b,c"


def positive(value: Any, key: str) -> float:
    """A number above 0 and finite. Raises ValueError that names the key."""
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{key}={shown(value)} must be a positive number, for example {key}=5")
    return float(value)


def whole(value: Any, key: str) -> int:
    """A whole number of at least 1. Raises ValueError that names the key."""
    if type(value) is not int or value < 1:
        raise ValueError(f"{key}={shown(value)} must be a whole number of at least 1")
    return value


def shown(value: Any) -> str:
    """A value as it is typed on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def is_list(value: Any) -> bool:
    return isinstance(value, (list, tuple, ListConfig))


def check_arguments(config_name: str, arguments: list[str], check: Check | None = None) -> str | None:
    """Compose the configuration, every point of a sweep, as Hydra will; what is wrong with it in one line, or None.

    check: of the points of a sweep, see `command`.
    """
    for argument in arguments:
        if argument.startswith("-") and argument not in SWEEP:
            return f"{argument} is not an option; there are --help and -m (sweep), everything else is key=value"
        if argument not in SWEEP and not re.match(r"[^=]+=|~", argument):
            return f"{argument!r} is not key=value; see --help"
    chosen: list[str] = []
    composed: list[tuple[list[str], DictConfig]] = []
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            known = top_keys(config_name)
            for chosen in points(arguments):
                config = hydra.compose(config_name, chosen)
                OmegaConf.resolve(config)
                given = {str(key) for key in config}
                if known - given:
                    return f"{', '.join(sorted(known - given))} cannot be left out; see --help"
                if given - known:
                    return unknown_key(min(given - known), config_name, chosen)
                composed.append((chosen, config))
    except OverrideParseException as error:
        return f"{error.override} cannot be read ({str(error).splitlines()[0]}); are brackets and quotes closed?"
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        return explain(str(error), config_name, chosen)
    if check is not None and any(argument in SWEEP for argument in arguments):
        return first_mistake(check, composed)
    return None


def first_mistake(check: Check, points: Sequence[tuple[list[str], DictConfig]]) -> str | None:
    """What is wrong with the first of a sweep's points that the check refuses, after its overrides; or None."""
    threads = torch.get_num_threads()  # a check may set them
    try:
        for overrides, config in points:
            try:
                check(config)
            except Exception as error:
                if os.environ.get("DEEPFORCING_TRACEBACK"):
                    raise
                return f"{' '.join(overrides)}: {describe(error)}"
    finally:
        torch.set_num_threads(threads)
    return None


def points(arguments: list[str]) -> list[list[str]]:
    """The overrides of every run that the arguments ask for: one, or with -m all combinations."""
    overrides = [a for a in arguments if a not in SWEEP]
    if len(overrides) == len(arguments):
        return [overrides]
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    choices = []
    for text, parsed in zip(overrides, parser.parse_overrides(overrides), strict=True):
        if parsed.is_sweep_override() and not parsed.is_discrete_sweep():
            raise ValueError(
                f"{text} is no list of values; write {parsed.key_or_group}=a,b,c or range(start,stop,step)"
            )
        key = parsed.get_key_element()
        choices.append([f"{key}={v}" for v in parsed.sweep_string_iterator()] if parsed.is_sweep_override() else [text])
    return [list(point) for point in itertools.product(*choices)]


def explain(message: str, config_name: str, overrides: list[str]) -> str:
    """Hydra's message, shortened to what a user can act on, with the nearest right spelling."""
    first = message.splitlines()[0]
    option = re.search(r"Could not find '(\w+)/([^']*)'", message)
    if option:
        group, wrong = option.groups()
        known = groups().get(group, [])
        near = difflib.get_close_matches(wrong, known, 1)
        return f"{group}={wrong} is unknown;{f' did you mean {near[0]}?' if near else ''} choices: {', '.join(known)}"
    key = re.search(r"Could not override '([^']+)'", message) or re.search(r"Key '([^']+)' is not in struct", message)
    if key:
        return unknown_key(key[1], config_name, overrides)
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", message)
    if ambiguous:
        name, _, values = ambiguous[1].partition("=")
        return f"{ambiguous[1]}: for one run each add -m, for one list write '{name}=[{values}]'"
    if "Config group override must be" in first or "Multiple values for" in first:
        choices = [f"{group}={'|'.join(names)}" for group, names in groups().items() if group != "suites" and names]
        return f"choose by name, without +: {'; '.join(choices)}"
    return first


def unknown_key(key: str, config_name: str, overrides: list[str]) -> str:
    """What to say of a key that is not there; with the chosen groups, which decide what keys there are."""
    chosen = [o for o in overrides if o.partition("=")[0] in groups()]
    running = GlobalHydra.instance().is_initialized()
    with nullcontext() if running else hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        names = key_names(hydra.compose(config_name, chosen))
    parent, _, last = key.rpartition(".")
    beside = {n.rpartition(".")[2]: n for n in names if n.rpartition(".")[0] == parent}
    near = [beside[m] for m in difflib.get_close_matches(last, beside, 1, 0.5)]
    hint = (
        f"did you mean {near[0]}?"
        if near
        else f"known: {', '.join(beside.values() or [n for n in names if '.' not in n])}"
    )
    return f"{key} is not a key here; {hint} (see --help)"


def key_names(config: DictConfig, prefix: str = "") -> list[str]:
    names = []
    for key in config:
        if key == "_target_":
            continue
        name = f"{prefix}{key!s}"
        names.append(name)
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            names += key_names(config[key], f"{name}.")
    return names
