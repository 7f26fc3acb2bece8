"""Whose weights a checkpoint file holds: converted files, digests for identities, and the official model by mistake."""

from __future__ import annotations

import json
from pathlib import Path

from deepforcing.wan.catalogue import RELEASES
from deepforcing.wan.containers import file_of, notes_of, open_checkpoint
from deepforcing.wan.recognise import AVERAGED_ENTRIES, system_of
from deepforcing.wan.weights import sha256_of_all

SOURCE = "source_sha256"  # notes in a converted file: what it was made of, and the entries that were taken
TAKEN = "taken"


def converted(path: Path, averaged: bool | None) -> Path:
    """Where experiments.weights puts the safetensors of a checkpoint."""
    kind = {True: "ema.", False: "raw.", None: ""}[averaged]
    return path.with_name(f"{path.stem}.{kind}safetensors")


def preferred(path: Path, averaged: bool | None) -> Path:
    """The converted file where it is there, else the published one."""
    return converted(path, averaged) if converted(path, averaged).is_file() else path


def origin(path: Path) -> str:
    """sha256 of a checkpoint; of a converted one, its source's: the same weights make the same run."""
    return notes_of(file_of(path)).get(SOURCE) or sha256_of_all(path)


def took_averaged(path: Path, choice: bool | None) -> bool:
    """Whether `choice` (use_ema) takes a checkpoint's averaged weights; of a converted one, whether it holds them."""
    notes = notes_of(file_of(path))
    taken = notes.get(TAKEN, "").split("/") if SOURCE in notes else open_checkpoint(path, choice).taken
    return any(entry in AVERAGED_ENTRIES for entry in taken)


def refuse_official(path: Path) -> None:
    """Raises ValueError for the official bidirectional Wan: it fits, and few-step causal rollout of it is noise."""
    path = file_of(path)
    beside = path.with_name("config.json")
    if not beside.is_file() or not system_of(open_checkpoint(path)).startswith("an official"):
        return
    try:
        kind = json.loads(beside.read_text(encoding="utf-8")).get("_class_name")
    except (OSError, ValueError, AttributeError, RecursionError):
        return
    if kind == "WanModel":
        raise ValueError(
            f"checkpoint {path} is the official bidirectional Wan2.1 ({beside.name} says {kind}), not an autoregressive "
            f"generator; give one of {', '.join(RELEASES)}, or a file of yours"
        )
