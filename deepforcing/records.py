"""What a run directory says of itself, read back: run.json and samples/*.json, whoever wrote them.

Every reader of a run goes through here, so a record that was damaged, edited by hand, written by a later version or made
to mislead is refused in one line that names file and field, and no reader meets a key that is missing or of another kind.
Records are returned as the plain objects that they are; what they must hold is said by `RunRecord` and `SampleRecord`,
which writers are checked against as well. Other fields may stand beside those.
"""

from __future__ import annotations

import json
import math
import re
import unicodedata
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Never

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, ValidationError, model_validator

SCHEMA = 1
LARGEST = 1 << 23  # bytes of a record; an hour of video has one of less than 1 MB
MOST_CHUNKS = 60_000
DEEPEST = 32  # objects and lists inside each other
LARGEST_INTEGER = 2**64
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


class DamagedError(ValueError):
    """A record is cut off, empty or no JSON object: what a full disk or a copy that broke off may leave of it."""


def printable(text: str) -> str:
    """As deepforcing.prompts has it: nothing that could act on a terminal or break a line of a table, and not nothing."""
    if not text.strip():
        raise ValueError("is empty")
    for place, letter in enumerate(text, start=1):
        if unicodedata.category(letter) in ("Cc", "Cs", "Zl", "Zp"):
            raise ValueError(f"has the control character U+{ord(letter):04X} at character {place}")
    return text


def _plain_name(name: str) -> str:
    if not NAME.fullmatch(name):
        raise ValueError("must be 1 to 100 letters, digits, dots, dashes and underscores")
    return name


Text = Annotated[str, Field(max_length=10_000), AfterValidator(printable)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=1, le=2**31)]
Size = Annotated[int, Field(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
Free = dict[str, JsonValue]


class Strict(BaseModel):
    """No value is taken for another kind: "3", 3.0 and true are no whole numbers."""

    model_config = ConfigDict(strict=True, extra="allow", allow_inf_nan=False)


class Environment(Strict):
    """See deepforcing.environment."""

    git_commit: Text | None = None
    git_dirty: bool | None = None
    python: Text | None = None
    packages: dict[Text, Text | None] | None = None
    device: Text | None = None
    machine: Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")] | None = None
    threads: Count | None = None


class GeometryRecord(Strict):
    """See deepforcing.geometry."""

    height: Count | None = None
    width: Count | None = None
    fps: Annotated[float, Field(gt=0, le=1000)] | None = None
    spatial_stride: Count | None = None
    temporal_stride: Count | None = None
    latent_channels: Count | None = None


class Checkpoint(Strict):
    path: Text | None = None
    sha256: Annotated[str, Field(pattern=r"^([0-9a-f]{64}|random)$")] | None = None


class Identity(Strict):
    """What changes pixels. Free but for what readers look at."""

    model: Free | None = None
    chunk_frames: Count | None = None


class Spec(Strict):
    """The configuration as it was asked for. Free but for what readers look at."""

    model: Free | Text | None = None
    train_seconds: Seconds | None = None


class RunRecord(Strict):
    """run.json. pixel_scale: pixels of the file, a side, for one of the model. world: of the embedded world's metrics."""

    name: Text
    label: Text | None = None
    created: Text | None = None
    identity: Identity | None = None
    spec: Spec | None = None
    geometry: GeometryRecord | None = None
    pixel_scale: Annotated[int, Field(ge=1, le=1024)] | None = None
    world: Text | None = None
    environment: Environment | None = None
    checkpoint: Checkpoint | None = None
    command: Annotated[str, Field(max_length=100_000)] | None = None


class Chunk(Strict):
    """Seconds that the parts of a chunk took, and the tokens that a query attended to, on average. given: it was not made."""

    denoise_s: Seconds | None = None
    commit_s: Seconds | None = None
    decode_s: Seconds | None = None
    write_s: Seconds | None = None
    chunk_s: Seconds | None = None
    tokens: Annotated[float, Field(ge=0, le=1e15, allow_inf_nan=False)] | None = None
    given: bool | None = None


class LatentsRecord(Strict):
    """The latents that were kept of a sample: samples/<sample>.safetensors. shape: latent frames, channels, rows, columns."""

    bytes: Size
    sha256: Sha256
    dtype: Literal["float32", "bfloat16"]
    shape: Annotated[list[Count], Field(min_length=4, max_length=4)]


class SampleRecord(Strict):
    """samples/<sample>.json. bytes, sha256, frames, fps: of the video beside it; width and height in its pixels.
    cache_bytes: the most that the KV cache held for it."""

    sample: Annotated[str, AfterValidator(_plain_name)]
    prompt_id: Text
    prompt: Text
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    video: str
    sha256: Sha256
    fps: Annotated[float, Field(gt=0, le=1000)]
    frames: Count
    bytes: Size | None = None
    width: Count | None = None
    height: Count | None = None
    seconds: Seconds | None = None
    latent_frames: Count | None = None
    chunk_frames: Count | None = None
    wall_seconds: Seconds | None = None
    peak_memory_bytes: Size | None = None
    latents: LatentsRecord | None = None
    cache_bytes: Size | None = None
    environment: Environment | None = None
    chunks: Annotated[list[Chunk], Field(max_length=MOST_CHUNKS)] | None = None

    @model_validator(mode="after")
    def _of_one_name(self) -> SampleRecord:
        if self.video != f"{self.sample}.mp4":
            raise ValueError(f"video must be {self.sample}.mp4, the file beside the record")
        return self


def read_run(directory: Path) -> dict[str, Any]:
    """run.json. Raises DamagedError, or ValueError for a schema of another version and for fields that are not what they
    must be."""
    check_name(directory)
    path = directory / "run.json"
    check_place(path, directory)
    record = read_object(path)
    check(RunRecord, record, path)
    return record


def read_sample(path: Path) -> dict[str, Any]:
    """<run>/samples/<sample>.json, as read_run; its video is the file of that name beside it, inside the run directory.

    Whether the video is there is not looked at. Raises ValueError where it, or the record, is a link that leaves the run
    directory, or no file.
    """
    run = path.parent.parent
    check_place(path, run)
    record = read_object(path)
    check(SampleRecord, record, path)
    if record["sample"] != path.stem:
        raise ValueError(f"{path} is the record of sample {record['sample']}; a record has its sample's name")
    for suffix in (".mp4", ".safetensors"):
        check_place(path.with_suffix(suffix), run)
    return record


def check(kind: type[BaseModel], record: Mapping[str, Any], path: Path) -> None:
    """Raises ValueError naming the file and the first field that is not what `kind` says."""
    schema = record.get("schema")
    if type(schema) is not int or schema != SCHEMA:
        raise ValueError(f"{path} has schema {str(schema)[:40]!s}, this version reads schema {SCHEMA}")
    try:
        kind.model_validate(record)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_problem(error)}") from None


KINDS = {"dict_type": "an object", "model_type": "an object", "string_type": "text", "list_type": "a list"}


def first_problem(error: ValidationError) -> str:
    """The first field that is wrong and what would be right; never the value, which may be anything of any length."""
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    # A value that may be of several kinds is told once for each of them: those of the same field belong together.
    places = list(dict.fromkeys(_place(problem["loc"]) for problem in problems))
    kinds = [KINDS.get(problem["type"], "") for problem in problems if _place(problem["loc"]) == places[0]]
    said = re.sub(r"^(Value error,|Input|String|List|Dictionary) ", "", problems[0]["msg"]).replace(
        "Field required", "is missing"
    )
    if all(kinds):
        said = f"should be {' or '.join(dict.fromkeys(kinds))}"
    more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
    return f"{places[0]} {said}".strip()[:300] + more


def _place(location: tuple[int | str, ...]) -> str:
    """ "chunks[3].tokens" of what pydantic says, without the kinds of a union that it appends."""
    text = ""
    for part in location:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part.isidentifier() or not re.search(r"[\[(]", part):
            text += f".{part[:80]}"
    return text.removeprefix(".")


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises DamagedError if it is missing, cut off or something else, ValueError for what Python
    reads and JSON has not: NaN and infinities, a key twice; and for what no record is: depth, size, endless numbers.
    """
    try:
        if path.exists() and not path.is_file():
            raise DamagedError(f"{path} is not a file")
        with open(path, "rb") as file:
            data = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise DamagedError(f"{path} does not exist") from None
    except OSError as error:
        raise DamagedError(f"{path} cannot be read: {error.strerror}") from None
    if len(data) > LARGEST:
        raise ValueError(f"{path} has more than {LARGEST >> 20} MB, which no record has")
    try:
        value = json.loads(
            data.decode("utf-8"),
            parse_int=_integer,
            parse_float=_finite,
            parse_constant=_no_constant,
            object_pairs_hook=_once,
        )
    except _RefusedError as error:
        raise ValueError(f"{path} {error}") from None
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply to be a record") from None
    except UnicodeDecodeError as error:
        raise DamagedError(f"{path} is not UTF-8 (byte {error.start})") from None
    except ValueError as error:
        raise DamagedError(f"{path} is not readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise DamagedError(f"{path} is not a JSON object")
    _check_tree(value, path)
    return value


class _RefusedError(Exception):
    """Not a ValueError, which is what json raises itself."""


def _integer(digits: str) -> int:
    if len(digits) > 20 or abs(int(digits)) > LARGEST_INTEGER:
        raise _RefusedError(f"holds a whole number of {len(digits)} digits")
    return int(digits)


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise _RefusedError("holds a number too large to be one")
    return value


def _no_constant(name: str) -> Never:
    raise _RefusedError(f"holds {name}, which is no JSON")


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _RefusedError(f"has the key {key[:80]!r} twice")
        found[key] = value
    return found


def _check_tree(record: dict[str, Any], path: Path) -> None:
    """ValueError if it is deeper than any record, or holds half a surrogate pair, which no file or table can hold."""
    level: list[Any] = [record]
    for _ in range(DEEPEST):
        try:
            "".join(one for one in level if isinstance(one, str)).encode()
        except UnicodeEncodeError:
            raise ValueError(f"{path} holds half a surrogate pair, which is no text") from None
        below = [
            [*one.keys(), *one.values()] if isinstance(one, dict) else one
            for one in level
            if isinstance(one, dict | list)
        ]
        if not below:
            return
        level = [item for items in below for item in items]
    raise ValueError(f"{path} is nested too deeply to be a record")


def check_name(directory: Path) -> None:
    """ValueError if a directory, which is named in tables and on terminals, has a name that these cannot show."""
    try:
        printable(directory.absolute().name)
    except ValueError as error:
        raise ValueError(f"the name of the directory {str(directory)!a} {error}; rename it") from None


def check_inside(path: Path, directory: Path) -> None:
    """ValueError if a file or folder of a run directory, links followed, is outside of it."""
    try:
        inside = path.resolve().is_relative_to(directory.resolve())
    except (OSError, RuntimeError):  # links in a circle
        inside = False
    if not inside:
        raise ValueError(f"{path} leads out of its run directory; a run's files lie in it")


def check_place(path: Path, directory: Path) -> None:
    """As check_inside, and ValueError if it is there and no file: a pipe would be waited for."""
    check_inside(path, directory)
    if path.exists() and not path.is_file():
        raise ValueError(f"{path} is not a file")
