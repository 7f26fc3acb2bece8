"""Loading transformer weights: safely, strictly, straight to the target dtype and device.

Safetensors are read tensor by tensor. A .pt file is opened with torch's restricted unpickler (weights_only), which
refuses anything but tensors and plain containers, so code in a checkpoint cannot run.
"""

from __future__ import annotations

import hashlib
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan

WAN_1_3B = WanConfig()
WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
CONTAINERS = ("generator_ema", "generator", "model")


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file; remembered within the process while size and time stay the same."""
    stat = path.stat()
    return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name, on the CPU, memory-mapped where the format allows.

    Wrapper prefixes of FSDP, activation checkpointing and torch.compile are dropped, and so is a leading "model.".
    A training checkpoint's averaged generator is preferred. Raises ValueError in one line for anything unreadable.
    """
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, framework="pt") as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unusual pickle protocols; what cannot be read is told below
                tensors = _unwrap(
                    torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
                )
    except MemoryError:
        raise
    except Exception as error:  # a damaged pickle may fail in any way
        unsafe = isinstance(error, pickle.UnpicklingError) and "weights_only" in str(error).lower()
        reason = (
            "it holds pickled code or objects, which are never loaded; convert it to safetensors where you trust it"
            if unsafe
            else f"it is truncated or not a checkpoint ({(str(error) or type(error).__name__).splitlines()[0][:120]})"
        )
        raise ValueError(f"checkpoint {path} cannot be read: {reason}") from None
    return {_bare(name): tensor for name, tensor in tensors.items()}


def _unwrap(content: Any) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next((content[c] for c in CONTAINERS if isinstance(content.get(c), Mapping)), None)
        if inner is None:
            return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
        content = inner
    raise RuntimeError("no state dict inside")


def _bare(name: str) -> str:
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name.removeprefix("model.")


def load_strict(module: nn.Module, tensors: Mapping[str, Tensor], source: str, dtype: torch.dtype) -> None:
    """Fill `module` (built on the meta device) with `tensors`. Raises ValueError naming what does not fit."""
    wanted = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    missing = sorted(wanted.keys() - tensors.keys())
    unexpected = sorted(tensors.keys() - wanted.keys())
    misshapen = [
        f"{n} {tuple(tensors[n].shape)} instead of {wanted[n]}"
        for n in sorted(wanted.keys() & tensors.keys())
        if tuple(tensors[n].shape) != wanted[n]
    ]
    problems = [
        f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise ValueError(f"{source} does not fit this model: {'; '.join(problems)}")
    cast = {n: t.to(dtype) if t.is_floating_point() else t for n, t in tensors.items()}
    module.load_state_dict(cast, assign=True)


def load_wan(
    path: Path, config: WanConfig = WAN_1_3B, dtype: torch.dtype = torch.bfloat16, device: torch.device | str = "cpu"
) -> CausalWan:
    """A transformer with the checkpoint's weights, in inference mode."""
    with torch.device("meta"):
        model = CausalWan(config)
    load_strict(model, read_tensors(path), f"checkpoint {path}", dtype)
    return model.to(device).eval().requires_grad_(False)


def random_wan(
    config: WanConfig, dtype: torch.dtype = torch.float32, device: torch.device | str = "cpu", seed: int = 0
) -> CausalWan:
    """A transformer with random weights of a plausible scale: for benchmarks and for testing the full-size path."""
    with torch.device("meta"):
        model = CausalWan(config)
    model = model.to_empty(device="cpu" if torch.device(device).type == "meta" else device).to(dtype)
    generator = torch.Generator(device).manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 1:
                p.fill_(1.0 if name.endswith("weight") else 0.0)
            else:
                p.normal_(0.0, 0.5 / p[0].numel() ** 0.5, generator=generator)
    return model.eval().requires_grad_(False)
