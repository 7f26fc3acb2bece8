"""What the classes of a config take: Hydra passes on whatever was typed, so every value is held against the annotation of
the parameter that it is for, by pydantic, strictly."""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, Union

from pydantic import ConfigDict, TypeAdapter, ValidationError

from experiments.command.words import is_list, shown

PLAIN = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}
STRICT = ConfigDict(strict=True, allow_inf_nan=False)


def check_values(node: Mapping[Any, Any], where: str) -> None:
    """See that every value under a _target_ has a taker, and the kind that its taker declares. Raises ValueError."""
    hints = parameters(str(node.get("_target_")))
    if "_target_" not in node:
        raise ValueError(
            f"{where} says no _target_, the class or function that it is for; choose by name, as in {where}=..."
        )
    if hints is None:
        raise ValueError(f"{where}._target_={node.get('_target_')} is not a class or function to import")
    for key, value in node.items():
        name = f"{where}.{key!s}"
        if key == "_target_":
            continue
        if key not in hints:
            raise ValueError(f"{name} is not a key of {node['_target_']}; known: {', '.join(hints)}")
        if isinstance(value, Mapping):
            check_values(value, name)
        else:
            check_value(value, hints[str(key)], name)


@cache
def parameters(target: str) -> dict[str, Any] | None:
    """The parameters of a class or function by its dotted path, with their annotations; None if there is no such thing."""
    module, _, attribute = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
        names = list(inspect.signature(found).parameters)
    except (ImportError, ValueError, TypeError, AttributeError):
        return None
    try:
        # Of a dataclass the class: annotations that it inherits are of names in its base's module.
        itself = inspect.isfunction(found) or dataclasses.is_dataclass(found)
        hints = typing.get_type_hints(found if itself else found.__init__)
    except (NameError, AttributeError, TypeError):  # of a class of the user's, whose annotations lead nowhere
        hints = {}
    return {name: hints.get(name, Any) for name in names}


def check_value(value: Any, hint: Any, name: str) -> None:
    """Raises ValueError for a plain value, or a list, that its parameter does not take."""
    choices = typing.get_args(hint) if typing.get_origin(hint) in (Union, types.UnionType) else (hint,)
    plain = [choice for choice in choices if is_plain(choice)]
    given = tuple(value) if is_list(value) else value
    if Any in choices or Path in choices:
        return
    if isinstance(value, str) and any(typing.get_origin(choice) is Literal for choice in plain):
        return  # one of several words: the class itself says which
    for choice in plain:
        try:
            TypeAdapter(choice, config=STRICT).validate_python(given)
            return
        except ValidationError:
            pass
    raise ValueError(f"{name}={shown(value)} must be {wanted(plain, choices)}")


def is_plain(choice: Any) -> bool:
    """Whether a kind is written as a value; others, such as a retention, are keys with a _target_."""
    origin = typing.get_origin(choice)
    return choice in PLAIN or origin is Literal or (origin in (tuple, list) and all(map(is_plain, items(choice))))


def items(choice: Any) -> tuple[Any, ...]:
    return tuple(item for item in typing.get_args(choice) if item is not Ellipsis)


def wanted(plain: list[Any], choices: tuple[Any, ...]) -> str:
    words = [kind_words(choice) for choice in plain if choice is not type(None)]
    if len(plain) < len(choices):  # an object, and perhaps its name
        objects = [choice.__name__.lower() for choice in choices if choice not in plain]
        words = ["a name, such as absolute, sink, unified, one_shift or slot"] if objects == ["alignment"] else words
        words.append("keys with a _target_")
    if type(None) in plain:
        words.append("null")
    return " or ".join(words)


def kind_words(choice: Any) -> str:
    if typing.get_origin(choice) is Literal:
        *first, last = (str(value) for value in typing.get_args(choice))
        return f"{', '.join(first)} or {last}" if first else last
    if typing.get_origin(choice) in (tuple, list):
        inner = PLAIN.get(items(choice)[0], "value").removeprefix("a ")
        return f"a list of {inner}s, such as [1000,500]"
    return PLAIN[choice]
