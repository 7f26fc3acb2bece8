"""Loading transformer weights: strictly, straight to the target dtype and device. Files: see containers.py."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import IN_A_DIRECTORY, file_of, files_of, open_checkpoint
from deepforcing.wan.lora import Lora, LoraSpec, load_lora
from deepforcing.wan.names import listed
from deepforcing.wan.recognise import looks_like
from deepforcing.wan.transformer import CausalWan

WAN_1_3B = WanConfig()
LARGE = 1 << 28  # bytes; hashing 11 GB takes a while


@lru_cache(maxsize=64)
def _sha256(path: str, size: int, mtime_ns: int) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def sha256(path: Path) -> str:
    """Hex digest of a file; remembered while size and time stay the same, of large files also beside them on disk."""
    known = remembered(path)
    if known is not None:
        return known
    stat = path.stat()
    digest = _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    note = _note(path)
    with contextlib.suppress(OSError):  # a read-only directory: hashed again next time
        partial = note.with_name(f"{note.name}.{os.getpid()}.partial")
        partial.write_text(json.dumps({"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns, "sha256": digest}))
        partial.replace(note)
    return digest


def remembered(path: Path) -> str | None:
    """The same if it takes no time: None for a large file whose digest is not on disk."""
    stat = path.stat()
    if stat.st_size < LARGE:
        return _sha256(str(path.resolve()), stat.st_size, stat.st_mtime_ns)
    state = {"bytes": stat.st_size, "mtime_ns": stat.st_mtime_ns}
    with contextlib.suppress(OSError, ValueError, AttributeError):
        known = json.loads(_note(path).read_text())
        if {k: known.get(k) for k in state} == state and re.fullmatch("[0-9a-f]{64}", str(known.get("sha256"))):
            return str(known["sha256"])
    return None


def _note(path: Path) -> Path:
    return path.with_name(f".{path.name}.sha256.json")


def sha256_of_all(path: Path, names: tuple[str, ...] = IN_A_DIRECTORY) -> str:
    """sha256 of what a path means (containers.file_of); of shards, over the digests of the index and of each of them."""
    digests = [sha256(file) for file in files_of(path, names)]
    return digests[0] if len(digests) == 1 else hashlib.sha256(" ".join(digests).encode()).hexdigest()


def check_fits(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Names, shapes and kinds of numbers. Raises ValueError naming what is missing, unexpected or misshapen."""
    wanted = module.state_dict()
    both = sorted(wanted.keys() & tensors.keys())
    misshapen = [
        f"{n} {tuple(tensors[n].shape)} instead of {tuple(wanted[n].shape)}"
        for n in both
        if tensors[n].shape != wanted[n].shape
    ]
    typed = [f"{n} {tensors[n].dtype}" for n in both if tensors[n].is_floating_point() != wanted[n].is_floating_point()]
    problems = [
        f"{len(names)} {kind} ({listed(names)})"
        for kind, names in (
            ("missing", sorted(wanted.keys() - tensors.keys())),
            ("unexpected", sorted(tensors.keys() - wanted.keys())),
            ("misshapen", misshapen),
            ("of another type", typed),
        )
        if names
    ]
    if problems:
        raise ValueError(f"{source} does not fit this model: {'; '.join(problems)}")


def load_strict(
    module: nn.Module,
    tensors: Mapping[str, Tensor],
    source: str,
    dtype: torch.dtype,
    device: torch.device | str = "cpu",
    change: Callable[[str, Tensor], Tensor] = lambda name, tensor: tensor,
) -> None:
    """Fill `module` (built on the meta device) with `tensors`, one after the other, cast and moved on their way.

    So beside the module there is never more than one tensor in memory, as long as `tensors` are memory-mapped. change:
    applied to each before. Raises ValueError naming what does not fit.
    """
    check_fits(module, tensors, source)

    def placed(name: str, tensor: Tensor) -> Tensor:
        tensor = change(name, tensor)
        return tensor.to(device, dtype if tensor.is_floating_point() else tensor.dtype)

    module.load_state_dict({n: placed(n, t) for n, t in tensors.items()}, assign=True)


def load_wan(
    path: Path,
    config: WanConfig = WAN_1_3B,
    dtype: torch.dtype = torch.bfloat16,
    device: torch.device | str = "cpu",
    use_ema: bool | None = None,
    lora: LoraSpec | None = None,
) -> CausalWan:
    """A transformer with the checkpoint's weights, in inference mode.

    use_ema: see open_checkpoint. lora: merged into the base in float32 before the cast to dtype. Raises ValueError,
    saying what the file looks like when it is not this transformer.
    """
    model, tensors, adapter = _opened(path, config, use_ema, lora)
    if adapter is None:
        load_strict(model, tensors, f"checkpoint {path}", dtype, device)
    else:
        load_strict(model, tensors, f"checkpoint {path}", dtype, device, adapter.merged)
    return model.eval().requires_grad_(False)


def check_wan(path: Path, config: WanConfig, use_ema: bool | None = None, lora: LoraSpec | None = None) -> Lora | None:
    """Everything that load_wan would refuse, without reading the checkpoint's weights; what it found of the LoRA."""
    return _opened(path, config, use_ema, lora)[2]


def _opened(
    path: Path, config: WanConfig, use_ema: bool | None, lora: LoraSpec | None
) -> tuple[CausalWan, Mapping[str, Tensor], Lora | None]:
    """The model on the meta device, the checkpoint's mapped tensors that fit it, and the LoRA that does."""
    with torch.device("meta"):
        model = CausalWan(config)
    contents = open_checkpoint(path, use_ema)
    try:
        check_fits(model, contents.tensors, f"checkpoint {path}")
    except ValueError as error:
        raise ValueError(f"{error}; it looks like {looks_like(contents)}") from None
    check_config(file_of(path), config)
    return model, contents.tensors, None if lora is None else load_lora(lora, config)


BESIDE = {
    "num_attention_heads": "num_heads", "in_channels": "in_dim", "out_channels": "out_dim", "patch_size": "patch",
    **{n: n for n in ("dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads", "num_layers", "text_dim", "eps")},
}  # fmt: skip


def check_config(path: Path, config: WanConfig) -> None:
    """What the config.json beside a checkpoint says must be ours: tensors do not show the number of heads, nor eps.

    Only beside files of the usual names: elsewhere it may be another model's. Raises ValueError.
    """
    beside = path.with_name("config.json")
    if path.name not in IN_A_DIRECTORY or not beside.is_file():
        return
    try:
        given = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        given = None
    if not isinstance(given, dict):
        raise ValueError(f"{beside}, beside the checkpoint, is damaged: it must be a JSON object")
    for theirs, ours in BESIDE.items():
        own = getattr(config, ours)
        said = tuple(given[theirs]) if isinstance(given.get(theirs), list) else given.get(theirs, own)
        if said != own:
            raise ValueError(
                f"checkpoint {path} is of a model with {theirs}={listed([said])} ({beside.name}), not {ours}={own}; "
                f"set model.config.{ours}"
            )


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
