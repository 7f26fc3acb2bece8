"""What every Hydra command shares: help for a newcomer, and one clear line for whatever goes wrong.

A command is a function of a resolved config, wrapped by `command`. Mistakes in the configuration are found by composing
it once before Hydra runs; mistakes in the work (ValueError, OSError, out of memory ...) become one line and status 2.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path

import hydra
import torch
from hydra.errors import HydraException, InstantiationException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

CONF = Path(__file__).parent.parent / "conf"
Task = Callable[[DictConfig], int | None]
FAILED = 2


def command(config_name: str) -> Callable[[Task], Callable[[], None]]:
    """Decorator: make `main()` out of a task on conf/<config_name>.yaml; the task may return an exit status."""

    def decorate(task: Task) -> Callable[[], None]:
        def main() -> None:
            arguments = sys.argv[1:]
            if any(a in ("-h", "--help") for a in arguments):
                print(help_text(config_name))
                return
            problem = check_arguments(config_name, arguments)
            if problem:
                fail(problem)
            status = 0

            def guarded(config: DictConfig) -> None:
                nonlocal status
                OmegaConf.resolve(config)
                status = max(status, run_task(task, config))

            wrapped = hydra.main(config_path=str(CONF), config_name=config_name, version_base="1.3")(guarded)
            wrapped()
            if status:
                sys.exit(status)

        return main

    return decorate


def run_task(task: Task, config: DictConfig) -> int:
    try:
        return task(config) or 0
    except KeyboardInterrupt:
        print("\ninterrupted: what is finished stays; run the same command again to go on", file=sys.stderr)
        return 130
    except (torch.OutOfMemoryError, MemoryError):
        say("out of memory: use a smaller model, window_frames or dtype=bfloat16; what is finished stays")
    except Exception as error:
        if os.environ.get("DEEPFORCING_TRACEBACK"):
            raise
        say(describe(error))
    return FAILED


def describe(error: BaseException) -> str:
    """One line for an exception; kinds that users do not cause keep their name."""
    while isinstance(error, InstantiationException) and error.__cause__ is not None:
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
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


def help_text(config_name: str) -> str:
    text = (CONF / f"{config_name}.yaml").read_text()
    text = text.split("\nhydra:")[0]
    lines = [line for line in text.splitlines() if "override hydra" not in line and line.strip() != "- _self_"]
    used = [name for name in groups() if re.search(rf"^  - {name}:", text, re.M)]
    options = "\n".join(f"  {name:<12}{', '.join(groups()[name])}" for name in used)
    tail = f"\n\nChoices:\n{options}" if options else ""
    return "\n".join(lines) + tail + "\n\nAny key can be set: key=value, nested.key=value. Sweeps: -m key=a,b,c"


def check_arguments(config_name: str, arguments: list[str]) -> str | None:
    """Compose the configuration as Hydra will; the one line that says what is wrong with it, or None."""
    sweep = any(a in ("-m", "--multirun") for a in arguments)
    overrides = [a for a in arguments if not a.startswith("-")]
    if sweep:  # a sweep is checked at its first point
        overrides = [re.sub(r"=([^\[\]{}\"'(),]+),.*$", r"=\1", a) for a in overrides]
    try:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            config = hydra.compose(config_name, overrides)
            OmegaConf.resolve(config)
            return unknown_groups(config)
    except (HydraException, OmegaConfBaseException) as error:
        return explain(str(error), config_name)


def unknown_groups(config: DictConfig) -> str | None:
    missing = sorted(str(k) for k in OmegaConf.missing_keys(config))
    return f"give {', '.join(f'{k}=...' for k in missing)}; see --help" if missing else None


def explain(message: str, config_name: str) -> str:
    """Hydra's message, shortened to what a user can act on, with the nearest right spelling."""
    first = message.splitlines()[0]
    option = re.search(r"Could not find '(\w+)/([^']+)'", message)
    if option:
        group, wrong = option.groups()
        known = groups().get(group, [])
        near = difflib.get_close_matches(wrong, known, 1)
        return f"{group}={wrong} is unknown{f'; did you mean {near[0]}?' if near else ''} choices: {', '.join(known)}"
    key = re.search(r"Could not override '([^']+)'", message) or re.search(r"Key '([^']+)' is not in struct", message)
    if key:
        with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
            names = key_names(hydra.compose(config_name))
        near = difflib.get_close_matches(key[1], names, 1)
        hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(n for n in names if '.' not in n)}"
        return f"{key[1]} is not a key here; {hint} (see --help)"
    return first


def key_names(config: DictConfig, prefix: str = "") -> list[str]:
    names = []
    for key in config:
        name = f"{prefix}{key}"
        names.append(name)
        if not OmegaConf.is_missing(config, key) and isinstance(config[key], DictConfig):
            names += key_names(config[key], f"{name}.")
    return names
