"""What is known of files of weights: revision and sha256, in manifest.json and in the metrics' metrics.json.

Both are flat objects of entries by name; "schema" among them is the number of the layout, which files of before lack.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, TypeAdapter, ValidationError

from deepforcing.records import Sha256, Size, Strict, Text, first_problem, read_object
from deepforcing.runs import atomic_write_json
from deepforcing.wan.catalogue import HubFile
from deepforcing.wan.weights import sha256

SCHEMA = 1


class Entry(Strict):
    repo: Text | None = None
    path: Text | None = None
    sha256: Sha256 | None = None
    bytes: Size | None = None
    revision: Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9_/-]|\.[A-Za-z0-9_/-]){0,200}$")] | None = None


def read_entries(path: Path, kind: TypeAdapter[Any]) -> dict[str, Any]:
    """The entries of a manifest, empty if there is no file. Raises ValueError naming the file and the field, and what to do."""
    if not path.exists():
        return {}
    try:
        entries = read_object(path)
        schema = entries.pop("schema", SCHEMA)
        if type(schema) is not int or schema != SCHEMA:
            raise ValueError(f"{path} has schema {str(schema)[:40]}, this version reads schema {SCHEMA}")
        kind.validate_python(entries)
    except ValidationError as error:
        raise ValueError(f"{path}: {first_problem(error)}; remove it to record everything anew") from None
    except ValueError as error:
        raise ValueError(f"{error}; remove it to record everything anew") from None
    return entries


def write_entries(path: Path, entries: dict[str, Any]) -> None:
    atomic_write_json(path, {"schema": SCHEMA, **dict(sorted(entries.items()))})


class Manifest:
    """root/manifest.json: what was fetched or found, by path under the root."""

    def __init__(self, root: Path) -> None:
        self.root, self.path = root, root / "manifest.json"
        self.entries: dict[str, dict[str, Any]] = read_entries(self.path, TypeAdapter(dict[Text, Entry]))

    def revision(self, repo: str) -> str | None:
        """That an earlier file of the repository was fetched at."""
        found = (entry.get("revision") for entry in self.entries.values() if entry.get("repo") == repo)
        return next(filter(None, found), None)

    def digest(self, path: Path) -> str | None:
        """sha256 of a file under the root as it was recorded."""
        known: str | None = self.entries.get(str(path.relative_to(self.root)), {}).get("sha256")
        return known

    def record(self, file: HubFile, path: Path, revision: str | None = None) -> str:
        """Digest of a file that is there, recorded; raises ValueError when an earlier record or a known digest differs."""
        digest = sha256(path)
        for wanted in (file.sha256, self.digest(path)):
            if wanted not in (None, digest):
                raise ValueError(f"{path} has changed: its sha256 begins {digest[:12]}, recorded is {wanted[:12]}")
        entry = {"repo": file.repo, "path": file.path, "sha256": digest, "bytes": path.stat().st_size}
        if revision is not None:
            entry["revision"] = revision
        key = str(path.relative_to(self.root))
        self.entries[key] = {**self.entries.get(key, {}), **entry}
        self.root.mkdir(parents=True, exist_ok=True)
        write_entries(self.path, self.entries)
        return digest
