"""attention=measured: the fastest of a GPU's kernels for what a rollout computes most, self-attention over the full window."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from deepforcing.generator import DTYPES, GeneratorSpec
from deepforcing.runs import atomic_write_json
from deepforcing.wan import kernels
from deepforcing.wan.kernels import ATTENTION, seconds_of

FILE = ".attention.json"  # in runs_root: what was timed there holds for all its runs, or resuming would not find them again


def with_attention(
    spec: GeneratorSpec, word: str, device: torch.device, runs_root: str | None = None, batch: int = 1, here: bool = True,
    timer: Callable[..., float | str] = seconds_of,
) -> GeneratorSpec:  # fmt: skip
    """The spec with the kernel that a word of `attention=` means. Raises ValueError in one line for one that is not here.

    runs_root: where what was timed is kept; None: nowhere. here: whether the rollout will run on this machine."""
    if word != "measured":
        if here:
            kernels.check(spec.attention, device, DTYPES[spec.dtype])
        return spec
    if not here:
        raise ValueError("attention=measured is timed where the rollout runs, and that is not here: name a kernel")
    if device.type != "cuda":
        return spec  # a CPU has one kernel
    return replace(spec, attention=kernels.fastest(timed(spec, device, runs_root, batch, timer)))


def timed(
    spec: GeneratorSpec, device: torch.device, runs_root: str | None, batch: int = 1,
    timer: Callable[..., float | str] = seconds_of,
) -> dict[Any, float | str]:  # fmt: skip
    """Seconds by kernel, or why there are none, from the file or taken now."""
    config, tokens = spec.model.config, spec.model.geometry.tokens_per_frame
    keys = tokens * (spec.cache.retention.capacity(spec.chunk_frames) or spec.model.train_frames)
    shape = (batch, config.num_heads, spec.chunk_frames * tokens, config.head_dim)
    name = f"{torch.cuda.get_device_name(device)}, torch {torch.__version__}, {spec.dtype}, {shape} over {keys}"
    path = None if runs_root is None else Path(runs_root) / FILE
    known: dict[str, Any] = {}
    if path is not None and path.exists():
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
            found = known.get(name)
        except (ValueError, AttributeError):
            raise ValueError(f"{path} is no list of kernels' times: remove it, and they are taken again") from None
        if isinstance(found, dict):
            return found
    seconds: dict[Any, float | str] = {
        k: timer(k, device, DTYPES[spec.dtype], shape, keys) for k in ATTENTION if k != "math"
    }
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        atomic_write_json(path, {**known, name: seconds})
    return seconds
