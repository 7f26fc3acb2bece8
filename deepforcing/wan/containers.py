"""Checkpoint files as they are published: every container and naming, opened safely.

A file holds tensors directly, or under entries such as "generator_ema", "generator", "model" or "state_dict", which may
nest; training wrappers and prefixes stand anywhere in a tensor's name (names.py). Safetensors are read tensor by tensor.
A .pt file is read by deepforcing.torch_files: tensors and plain containers, nothing that could run. Either may come in
shards with an index. All are memory-mapped: what is opened here occupies no memory until it is used.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from deepforcing.pickles import MAX_BYTES, ForeignObjectError, line
from deepforcing.torch_files import is_safetensors, is_torch_file, not_a_checkpoint, read_torch_file
from deepforcing.wan.names import PREFIXES, bare_name, is_diffusers, listed, official_name, shown, unwrapped
from deepforcing.wan.recognise import AVERAGED, AVERAGED_ENTRIES, LORA, RAW_ENTRIES, Contents, quantised

TORCH_ENDINGS = (".pt", ".pth", ".bin", ".ckpt")
INDEX = (".safetensors.index.json", ".bin.index.json")
IN_A_DIRECTORY = tuple(
    f"{name}{ending}"
    for name, endings in (
        ("diffusion_pytorch_model", (".safetensors", *INDEX, ".bf16.safetensors", ".fp16.safetensors", ".bin")),
        ("model", (".safetensors", *INDEX)),
        ("pytorch_model", (".bin", *INDEX)),
    )
    for ending in endings
)
LORA_IN_A_DIRECTORY = tuple(
    f"{name}{ending}" for name in ("adapter_model", "pytorch_lora_weights") for ending in (".safetensors", ".bin")
)
DEPTH = 8  # entries in entries; a file can hold itself
# The parts of one file for a whole pipeline, besides the transformer under model.diffusion_model.
COMFYUI = "model.diffusion_model."
OTHER_PARTS = ("vae.", "first_stage_model.", "text_encoders.", "cond_stage_model.", "conditioner.", "model_ema.")


def read_tensors(path: Path, use_ema: bool | None = None) -> dict[str, Tensor]:
    """All tensors of a checkpoint by bare name, see open_checkpoint."""
    return open_checkpoint(path, use_ema).tensors


def open_checkpoint(path: Path, use_ema: bool | None = None) -> Contents:
    """Open a torch or safetensors file, a shard index, or a directory with one of the usual names (file_of).

    use_ema: take a training checkpoint's averaged generator (True), its raw one (False), or the averaged one if it is
    there (None). Raises ValueError in one line for anything unreadable, quantised weights, and a choice that the file
    does not offer.
    """
    path = file_of(path)
    contents = _unwrap(read_entries(path), path, use_ema)
    unusable = quantised(contents)
    if unusable is not None:
        raise ValueError(f"checkpoint {path} {unusable}")
    return contents


def open_lora(path: Path) -> dict[str, Tensor]:
    """A LoRA's tensors by their names in the file, see lora_entry."""
    return lora_entry(path)[0]


def lora_entry(path: Path) -> tuple[dict[str, Tensor], bool]:
    """A LoRA's tensors: those under LongLive's "generator_lora" (True), or where a checkpoint's would be (False).

    path: a file, or a directory of peft or diffusers. Raises ValueError.
    """
    content = read_entries(file_of(path, LORA_IN_A_DIRECTORY))
    own = isinstance(content.get(LORA), Mapping)
    for _ in range(DEPTH):
        inner = next((content[c] for c in (LORA, *RAW_ENTRIES) if isinstance(content.get(c), Mapping)), None)
        if inner is None:
            break
        content = inner
    return {str(k): v for k, v in content.items() if isinstance(v, Tensor)}, own


def read_entries(path: Path) -> Mapping[Any, Any]:
    """What a file holds, as it is. Raises ValueError in one line that says what the file is when it is no checkpoint."""
    try:
        if path.name.lower().endswith(INDEX):
            return _shards(path)
        return _one_file(path)
    except ForeignObjectError as error:
        what = (
            "quantised tensors"
            if re.search("qtensor|torchao|quanto|bitsandbytes", str(error))
            else "pickled code or objects"
        )
        reason = f"it holds {what}, which are never loaded ({error}); convert it to safetensors where you trust it"
    except MemoryError:
        raise
    except OSError as error:
        reason = error.strerror or line(error)
    except ValueError as error:
        reason = str(error)
    except Exception as error:  # a damaged file may fail in any way
        reason = f"it is truncated or not a checkpoint ({line(error)})"
    raise ValueError(f"checkpoint {path} cannot be read: {reason}")


def file_of(path: Path, names: tuple[str, ...] = IN_A_DIRECTORY) -> Path:
    """The file that a path means: itself, or one of a directory, by its usual names; of a pipeline, the transformer's.

    Raises ValueError if there is none.
    """
    if not path.is_dir():
        if not path.is_file():
            raise ValueError(f"checkpoint {path} does not exist")
        return path
    places = [path, path / "transformer"] if (path / "model_index.json").is_file() else [path]
    found = next((place / name for place in places for name in names if (place / name).is_file()), None)
    if found is not None:
        return found
    if (path / ".metadata").is_file() or any(path.glob("*.distcp")):
        raise ValueError(
            f"checkpoint {path} is a distributed checkpoint (.distcp); make one file of it with python -m "
            "torch.distributed.checkpoint.format_utils dcp_to_torch DIRECTORY FILE.pt"
        )
    inside = sorted(p.name for p in path.iterdir() if p.suffix.lower() in (".safetensors", *TORCH_ENDINGS))
    raise ValueError(
        f"checkpoint {path} is a directory without {names[0]}; name a file"
        + (f" of it: it holds {listed(inside)}" if inside else "")
    )


def files_of(path: Path, names: tuple[str, ...] = IN_A_DIRECTORY) -> list[Path]:
    """All files that a path's tensors are in: one, or an index and its shards. Raises ValueError."""
    path = file_of(path, names)
    if not path.name.lower().endswith(INDEX):
        return [path]
    try:
        return [path, *(_shard(path, name) for name in sorted(set(_places(path).values())))]
    except (OSError, ValueError) as error:
        raise ValueError(f"checkpoint {path} cannot be read: {line(error)}") from None


def notes_of(path: Path) -> dict[str, str]:
    """A safetensors file's own notes; empty for other files and for what cannot be read."""
    if path.suffix.lower() != ".safetensors" or not path.is_file() or not is_safetensors(path):
        return {}
    try:
        from safetensors import safe_open  # random weights do without

        with safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except Exception:  # damaged: told when the tensors are read
        return {}


def _one_file(path: Path) -> Mapping[Any, Any]:
    what = not_a_checkpoint(path)
    if what is not None:
        raise ValueError(f"it is {what}")
    safe, ending = is_safetensors(path), path.suffix.lower()
    if safe and ending in TORCH_ENDINGS:
        raise ValueError(f"it is a safetensors file, not a torch file; rename it to {path.stem}.safetensors")
    if not safe and ending == ".safetensors":
        if not is_torch_file(path):
            raise ValueError("it is truncated or not a safetensors file")
        raise ValueError(f"it is a torch file, not safetensors; rename it to {path.stem}.pt")
    content = _safetensors(path) if safe else read_torch_file(path)
    if not isinstance(content, Mapping):
        raise ValueError(f"no state dict inside: it holds one {type(content).__name__}")
    return content


def _safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import safe_open  # random weights do without

    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _places(index: Path) -> dict[str, str]:
    """Shard by tensor. Raises ValueError."""
    if index.stat().st_size > MAX_BYTES:
        raise ValueError("the index is larger than any checkpoint's")
    try:
        places = json.loads(index.read_text(encoding="utf-8"))["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"the index is damaged or has no weight_map ({line(error)})") from None
    if not isinstance(places, dict) or not all(isinstance(p, str) for p in places.values()):
        raise ValueError("the index is damaged: its weight_map gives no file for each tensor")
    return places


def _shard(index: Path, name: str) -> Path:
    """Raises ValueError for one that is not there, and for a path out of the directory."""
    if Path(name).name != name:
        raise ValueError(f"shard {shown(name)!r} is not a file beside the index")
    if not (index.parent / name).is_file():
        raise ValueError(f"shard {shown(name)} is missing")
    return index.parent / name


def _shards(index: Path) -> dict[str, Tensor]:
    places = _places(index)
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        content = _one_file(_shard(index, name))
        twice = sorted(content.keys() & tensors.keys())
        if twice:
            raise ValueError(f"{shown(twice[0])} is in two shards")
        tensors |= content
    lost = sorted(places.keys() - tensors.keys())
    if lost:
        raise ValueError(f"{len(lost)} tensors of the index are in no shard, such as {shown(lost[0])}")
    return tensors


def _unwrap(content: Mapping[Any, Any], path: Path, use_ema: bool | None) -> Contents:
    content = _flattened(content)
    held = tuple(shown(k) for k, v in content.items() if not isinstance(v, Tensor))
    taken: list[str] = []
    averaged = False
    for _ in range(DEPTH):
        means = [c for c in AVERAGED_ENTRIES if _has_tensors(content.get(c))]
        raws = [c for c in RAW_ENTRIES if _has_tensors(content.get(c))]
        if means and use_ema is False and not raws:
            raise ValueError(f"checkpoint {path} holds averaged weights ({means[0]}) alone; use use_ema=true")
        found = means if means and use_ema is not False else raws
        if not found:
            break
        if len(found) > 1:
            raise ValueError(f"checkpoint {path} holds several models ({listed(found)}); save the one that is meant")
        averaged = averaged or found is means
        taken.append(found[0])
        content = _flattened(content[found[0]])
    if use_ema and not averaged:
        there = f"it holds {listed(held)}" if held else "it holds tensors directly"
        raise ValueError(f"checkpoint {path} has no averaged weights ({AVERAGED}): {there}; use use_ema=false")
    names = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    if any(n.startswith(COMFYUI) for n in names):
        names = {n: t for n, t in names.items() if not n.startswith(OTHER_PARTS)}
    bare = {name: bare_name(name) for name in names}
    diffusers = is_diffusers(bare.values())
    tensors: dict[str, Tensor] = {}
    for name, tensor in names.items():
        own = official_name(bare[name]) if diffusers else bare[name]
        if own in tensors:
            raise ValueError(f"checkpoint {path} cannot be read: it holds {shown(own)} twice, under different wrappers")
        tensors[own] = tensor
    wrapped = any(unwrapped(name) != name for name in names)
    prefixed = any(unwrapped(name).split(".")[0] in PREFIXES for name in names)
    return Contents(tensors, held, tuple(taken), wrapped, prefixed, diffusers)


def _flattened(content: Mapping[Any, Any]) -> Mapping[Any, Any]:
    """A training checkpoint whose entries became prefixes, as in safetensors, with its entries again."""
    tops = {str(k).partition(".")[0] for k in content}
    if not tops & {*AVERAGED_ENTRIES, "critic"} or not all(isinstance(v, Tensor) for v in content.values()):
        return content
    grouped: dict[str, dict[str, Tensor]] = {}
    for name, tensor in content.items():
        top, _, rest = str(name).partition(".")
        grouped.setdefault(top, {})[rest] = tensor
    return grouped


def _has_tensors(entry: Any) -> bool:
    """Whether an entry holds tensors, directly or where _unwrap would look for them."""
    waiting, seen = [entry], set()
    while waiting:
        value = waiting.pop()
        if isinstance(value, Mapping) and id(value) not in seen:  # a file can hold itself
            seen.add(id(value))
            if any(isinstance(v, Tensor) for v in value.values()):
                return True
            waiting += [value.get(c) for c in (*AVERAGED_ENTRIES, *RAW_ENTRIES)]
    return False
