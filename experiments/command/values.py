"""The kinds of values that keys take, each with the words by which a refusal names it, and the check of a set of keys."""

from __future__ import annotations

import os
import typing
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainValidator, ValidationError

from deepforcing.limits import LARGEST_SIZE, LONGEST_SECONDS
from experiments.command.words import shown


def text(value: Any) -> Any:
    """Names and folders may look like numbers."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def path(value: Any) -> Any:
    value = text(value)
    return os.path.expanduser(value) if isinstance(value, str) else value


def words(value: Any) -> Any:
    """A word or a list of them."""
    found = [text(item) for item in value] if isinstance(value, list) else text(value)
    if not all(isinstance(item, str) for item in (found if isinstance(found, list) else [found])):
        raise ValueError
    return found


def names(value: Any) -> Any:
    return listed(words(value))


def paths(value: Any) -> Any:
    found = words(value)
    return [os.path.expanduser(item) for item in found] if isinstance(found, list) else os.path.expanduser(found)


def listed(value: Any) -> Any:
    return value if isinstance(value, list) else [value]


def number(low: float, high: float) -> Any:
    return Field(ge=low, le=high, description=f"a positive number of at least {low:g} and at most {high:g}")


def count(high: int, low: int = 1) -> Any:
    return Field(ge=low, le=high, description=f"a whole number of at least {low} and at most {high}")


LENGTH = f"a positive number of at most {LONGEST_SECONDS}, for example 5"
Any_ = Any  # checked where it is used: seeds where samples are planned, vbench by the demo
Group = Any  # a config of its own
Switch = Annotated[bool, Field(description="true or false")]
Text = Annotated[str, BeforeValidator(text), Field(description="text")]
Place = Annotated[str, BeforeValidator(path), Field(min_length=1, description="one path: give a directory or a file")]
Words = Annotated[Any, PlainValidator(words), Field(description="a name or a list of names, such as [a,b]")]
Names = Annotated[
    Any, PlainValidator(names), Field(description="a name or a list of names, such as [a,b]")
]  # a list, read
Places = Annotated[Any, PlainValidator(paths), Field(description="a path or a list of paths, such as [a,b]")]
Prompts = Annotated[Any, PlainValidator(paths), Field(description="a suite, a text file or a list of texts")]
Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, description=LENGTH)]
Lengths = Annotated[list[Seconds], BeforeValidator(listed), Field(description=LENGTH)]
Window = Annotated[float, number(0.01, LONGEST_SECONDS)]
Threads = Annotated[int, count(1024)]
Many = Annotated[int, count(10_000)]
Frames = Annotated[int, count(LARGEST_SIZE)]
Pixels = Annotated[int, count(8192)]
Backend = Annotated[
    Literal["plain", "packed", "compiled", "graphs"], Field(description="one of plain, packed, compiled, graphs")
]
Attention = Annotated[
    Literal["torch", "cudnn", "flash", "fa3", "efficient", "math", "measured"],
    Field(description="one of torch, cudnn, flash, fa3, efficient, math, measured"),
]
Dtype = Annotated[Literal["float32", "bfloat16"], Field(description="one of float32, bfloat16")]
Grid = Annotated[dict[str, list[Any]], Field(description="{key of a rollout: [values], ...}")]
NamedPoints = Annotated[dict[str, list[Text]], Field(description="{name: [words of a rollout], ...}")]


class Keys(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", protected_namespaces=())


M = TypeVar("M", bound=Keys)


def checked(model: type[M], given: Any, prefix: str = "") -> M:
    """The keys by their model. Raises ValueError that names the first key that is missing, unknown or of the wrong kind."""
    if not isinstance(given, dict):
        raise ValueError(f"{prefix.rstrip('.')}={shown(given)} must hold keys: {', '.join(model.model_fields)}")
    try:
        return model.model_validate(given)
    except ValidationError as error:
        where = error.errors()[0]["loc"]
    key = str(where[0])
    if key not in model.model_fields:
        raise ValueError(f"{prefix}{key} is not a key here; known: {', '.join(model.model_fields)}")
    if key not in given:
        raise ValueError(f"{prefix}{key} is missing: it must be {wanted(model, key)}")
    value = given[key]
    for index in where[1:]:
        if isinstance(index, int) and isinstance(value, list):
            value = value[index]
    raise ValueError(f"{prefix}{key}={shown(value)} must be {wanted(model, key)}")


def wanted(model: type[Keys], key: str) -> str:
    """What a key takes, in words."""
    field = model.model_fields[key]
    parts = [field.description] if field.description else list(descriptions(field.annotation))
    nothing = type(None) in typing.get_args(field.annotation)
    return " or ".join(parts) + (", or null" if nothing else "")


def descriptions(annotation: Any) -> typing.Iterator[str]:
    for inner in (*getattr(annotation, "__metadata__", ()), *typing.get_args(annotation)):
        if getattr(inner, "description", None):
            yield str(inner.description)
            return
        yield from descriptions(inner)
