"""The words of refusals: one line that says what is wrong and what would be right."""

from __future__ import annotations

import difflib
import math
import os
import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.command.conf import groups

PACKAGES = {
    "submitit_slurm": "hydra-submitit-launcher",
    "submitit_local": "hydra-submitit-launcher",
}  # others by their name


def refusal(error: BaseException) -> str:
    """The line for whatever stopped a command. DEEPFORCING_TRACEBACK=1 raises it again instead, to see where."""
    if os.environ.get("DEEPFORCING_TRACEBACK"):
        raise error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch's
        return "out of memory: use a smaller model, window_frames or dtype=bfloat16; what is finished stays"
    return describe(error)


def describe(error: BaseException) -> str:
    """One line for an exception; kinds that users do not cause keep their name."""
    while type(error).__name__ == "InstantiationException" and error.__cause__ is not None:  # Hydra's
        error = error.__cause__
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, OSError) and error.filename and error.strerror:  # without "[Errno 2]"
        return f"{error.filename2 or error.filename}: {error.strerror}"  # of two, where it was to go
    if "not enough memory" in text or "can't allocate memory" in text:
        return f"out of memory: {text[:160]}; what is finished stays"
    if isinstance(error, (ValueError, OSError, ArithmeticError)):
        return text
    return f"{type(error).__name__}: {text} (DEEPFORCING_TRACEBACK=1 shows where)"


def shown(value: Any) -> str:
    """A value as it is typed on the command line."""
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def is_list(value: Any) -> bool:
    """Also OmegaConf's lists, which are sequences."""
    return isinstance(value, Sequence) and not isinstance(value, (str, bytes))


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


def unreadable(argument: str) -> str:
    """What to say of an argument that Hydra's grammar does not take."""
    key, _, value = argument.partition("=")
    special = next((c for c in value if not (c.isascii() and (c.isalnum() or c in " _-/\\+.$%*@?|:,[]{}'\""))), None)
    inside = re.search(r"[\[,]\s*([\w.]+=[^\],'\"]*)", value) if value[:1] in "[{" else None
    if inside:
        return f"{argument} cannot be read: a word with = in a list needs quotes, as in ['{inside[1]}']"
    if special is None or value[:1] in "[{'\"":
        return f"{argument} cannot be read; are brackets and quotes closed?"
    inner = value.replace("\\", "\\\\").replace('"', '\\"')
    quoted = f'{key}="{inner}"'
    typed = shlex.quote(quoted)
    return (
        f"{argument} cannot be read: a value with {special} in it needs quotes, kept from the shell by others: {typed}"
    )


def by_name(choices: dict[str, list[str]]) -> str:
    return "choose by name, without +: " + "; ".join(f"{group}={'|'.join(names)}" for group, names in choices.items())


def explain(error: Exception | str, config_name: str, overrides: list[str]) -> str:
    """Hydra's message, shortened to what a user can act on, with the nearest right spelling."""
    message = str(error)
    first = message.splitlines()[0]
    inner = re.search(r"full_key: (\S+)", str(getattr(error, "__cause__", None)))
    plugin = re.search(r"Could not find '(hydra/\w+)/([^']*)'", message)
    if plugin:
        group, wrong = plugin.groups()
        available = re.search(r"Available options in '[^']*':\n((?:\t.*\n?)*)", message)
        have = ", ".join(available[1].split()) if available else ""
        package = PACKAGES.get(wrong, f"hydra-{wrong.partition('_')[0]}-{group.rpartition('/')[2]}")
        hint = f"; it comes with a plugin: pip install {package}"
        return f"{group}={wrong} is not installed{hint if wrong else ''}; choices here: {have}"
    option = re.search(r"Could not find '([\w/]+)/([^'/]*)'", message)
    if option:
        group, wrong = option.groups()
        known = groups().get(group, [])
        near = difflib.get_close_matches(wrong, known, 1)
        meant = f" did you mean {near[0]}?" if near else ""
        return f"{group.replace('/', '.')}={wrong} is unknown;{meant} choices: {', '.join(known)}"
    key = re.search(r"Could not override '([^']+)'", message) or re.search(r"Key '([^']+)' is not in struct", message)
    if key and key[1] in groups():
        return by_name({key[1]: groups()[key[1]]})
    if key:
        return unknown_key(inner[1] if inner else key[1], config_name, overrides)
    there = re.search(r"An item is already at '([^']+)'", first)
    if there:
        return f"{there[1]} is there already: set it without +"
    merged = re.search(r"Error merging override (.+)", first)
    if merged:
        why = str(getattr(error, "__cause__", None) or "it is of another kind").splitlines()[0]
        return f"{merged[1]}: {'it takes keys, {key: value}' if 'merge DictConfig' in why else why}"
    ambiguous = re.search(r"Ambiguous value for argument '([^']+)'", message)
    if ambiguous:
        name, _, values = ambiguous[1].partition("=")
        return f"{ambiguous[1]}: for one run each add -m, for one list write '{name}=[{values}]'"
    if "Config group override must be" in first or "Multiple values for" in first:
        named = {word.lstrip("+~").partition("=")[0] for word in overrides}
        return by_name({group: names for group, names in groups().items() if group in named})
    return first


def unknown_key(key: str, config_name: str, overrides: list[str]) -> str:
    """What to say of a key that is not there; with the chosen groups, which decide what keys there are."""
    from experiments.command.compose import composed

    own = key.startswith("hydra")
    chosen = [o for o in overrides if o.partition("=")[0] in groups() or (own and o.startswith("hydra/"))]
    from omegaconf import OmegaConf

    names = key_names(OmegaConf.to_container(composed(config_name, chosen, hydra_too=own), resolve=False))
    parent, _, last = key.rpartition(".")
    group = parent.replace(".", "/")
    if group in groups() and not any(name.startswith(f"{parent}.") for name in names):
        return f"{key} is no key of the {parent} that is chosen; choose one of {', '.join(groups()[group])}, as in {parent}=..."
    beside = {n.rpartition(".")[2]: n for n in names if n.rpartition(".")[0] == parent}
    near = [beside[m] for m in difflib.get_close_matches(last, beside, 1, 0.5)]
    known = ", ".join(beside.values() or [n for n in names if "." not in n])
    return f"{key} is not a key here; {f'did you mean {near[0]}?' if near else f'known: {known}'} (see --help)"


def key_names(config: Any, prefix: str = "") -> list[str]:
    """Dotted names of all keys of a config's plain values, without _target_."""
    names = []
    for key, value in config.items():
        if key != "_target_":
            names.append(f"{prefix}{key!s}")
            if isinstance(value, Mapping):
                names += key_names(value, f"{names[-1]}.")
    return names
