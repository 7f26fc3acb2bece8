"""Checkpoint files as they are published: every container and naming, opened safely, told apart when they do not fit.

A file holds tensors directly, or under "generator_ema", "generator" or "model" beside a critic and counters; training
wrappers leave their names anywhere in a tensor's name. Safetensors are read tensor by tensor, also in shards. A .pt file
is opened with torch's restricted unpickler (weights_only), which refuses anything but tensors and plain containers, so
code in a checkpoint cannot run. Both are memory-mapped: what is opened here occupies no memory until it is used.
"""

from __future__ import annotations

import json
import pickle
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

WRAPPERS = ("_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod.")
AVERAGED = "generator_ema"
CONTAINERS = (AVERAGED, "generator", "model")
LORA = "generator_lora"
SHARDS = ".safetensors.index.json"
IN_A_DIRECTORY = (
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model" + SHARDS,
    "model.safetensors",
    "model" + SHARDS,
)
SIZES = {(1536, 30): "Wan2.1 1.3B", (5120, 40): "Wan2.1 14B", (3072, 30): "Wan2.2 5B"}


@dataclass(frozen=True)
class Contents:
    """What was found in a checkpoint.

    tensors: by bare name, without wrappers and without a leading "model.". held: the top-level entries of the file,
    empty when it holds tensors directly. taken: the path of entries to the tensors. wrapped: whether training wrappers
    were in the names. prefixed: whether names began with "model.".
    """

    tensors: dict[str, Tensor]
    held: tuple[str, ...] = ()
    taken: tuple[str, ...] = ()
    wrapped: bool = False
    prefixed: bool = False


def read_tensors(path: Path, use_ema: bool | None = None) -> dict[str, Tensor]:
    """All tensors of a checkpoint by bare name, see open_checkpoint."""
    return open_checkpoint(path, use_ema).tensors


def open_checkpoint(path: Path, use_ema: bool | None = None) -> Contents:
    """Open a .pt, .pth or .safetensors file, a shard index, or a directory with one of the usual names.

    use_ema: take a training checkpoint's averaged generator (True), its raw one (False), or the averaged one if it is
    there (None). Raises ValueError in one line for anything unreadable and for a choice that the file does not offer.
    """
    path = file_of(path)
    return _unwrap(_content(path), path, use_ema)


def open_lora(path: Path) -> dict[str, Tensor]:
    """A LoRA's tensors by their names in the file: those under "generator_lora", or at the top. Raises ValueError."""
    content = _content(file_of(path))
    inner = content.get(LORA, content)
    return {str(k): v for k, v in inner.items() if isinstance(v, Tensor)} if isinstance(inner, Mapping) else {}


def _content(path: Path) -> Mapping[Any, Any]:
    try:
        if path.name.endswith(SHARDS):
            content: Any = _shards(path)
        elif path.suffix == ".safetensors":
            content = _safetensors(path)
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of unusual pickle protocols; what cannot be read is told below
                content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
        if not isinstance(content, Mapping):
            raise RuntimeError("no state dict inside")
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
    return content


def file_of(path: Path) -> Path:
    """The file that a path means: itself, or the checkpoint of a directory. Raises ValueError if there is none."""
    if path.is_dir():
        found = next((path / name for name in IN_A_DIRECTORY if (path / name).is_file()), None)
        if found is None:
            raise ValueError(
                f"checkpoint {path} is a directory without {' or '.join(IN_A_DIRECTORY[::2])}; name a file"
            )
        return found
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    return path


def _safetensors(path: Path) -> dict[str, Tensor]:
    with safe_open(path, framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def _shards(index: Path) -> dict[str, Tensor]:
    places: dict[str, str] = json.loads(index.read_text())["weight_map"]
    tensors: dict[str, Tensor] = {}
    for name in sorted(set(places.values())):
        if Path(name).name != name:
            raise RuntimeError(f"shard {name!r} is not a file beside the index")
        if not (index.parent / name).is_file():
            raise RuntimeError(f"shard {name} is missing")
        tensors |= _safetensors(index.parent / name)
    lost = sorted(places.keys() - tensors.keys())
    if lost:
        raise RuntimeError(f"{len(lost)} tensors of the index are in no shard, such as {lost[0]}")
    return tensors


def _unwrap(content: Mapping[Any, Any], path: Path, use_ema: bool | None) -> Contents:
    held = tuple(str(k) for k, v in content.items() if not isinstance(v, Tensor))
    order = CONTAINERS[1:] if use_ema is False else CONTAINERS
    if use_ema and not isinstance(content.get(AVERAGED), Mapping):
        there = f"it holds {', '.join(held)}" if held else "it holds tensors directly"
        raise ValueError(f"checkpoint {path} has no averaged weights ({AVERAGED}): {there}; use use_ema=false")
    if use_ema is False and isinstance(content.get(AVERAGED), Mapping) and not any(c in content for c in order):
        raise ValueError(f"checkpoint {path} holds averaged weights ({AVERAGED}) alone; use use_ema=true")
    taken: list[str] = []
    while True:
        inner = next((c for c in order if isinstance(content.get(c), Mapping)), None)
        if inner is None:
            break
        taken.append(inner)
        content = content[inner]
    names = {str(k): v for k, v in content.items() if isinstance(v, Tensor)}
    tensors: dict[str, Tensor] = {}
    for name, tensor in names.items():
        bare = bare_name(name)
        if bare in tensors:
            raise ValueError(f"checkpoint {path} cannot be read: it holds {bare} twice, under different wrappers")
        tensors[bare] = tensor
    return Contents(
        tensors,
        held,
        tuple(taken),
        any(w in name for name in names for w in WRAPPERS),
        any(unwrapped(name).startswith("model.") for name in names),
    )


def unwrapped(name: str) -> str:
    """A tensor's name without the names of training wrappers."""
    for wrapper in WRAPPERS:
        name = name.replace(wrapper, "")
    return name


def bare_name(name: str) -> str:
    """A tensor's name without wrappers and without a leading "model."."""
    return unwrapped(name).removeprefix("model.")


def looks_like(contents: Contents) -> str:
    """What a checkpoint seems to be, from its containers, names and shapes: for messages about the wrong one."""
    names, tensors = contents.tensors.keys(), contents.tensors
    if any(".lora_A." in n for n in names) or LORA in contents.held:
        return "a LoRA, which goes over a base checkpoint (model.lora)"
    if "token_embedding.weight" in names or any(n.startswith("encoder.block.") for n in names):
        return "a UMT5 text encoder (model.text_encoder)"
    if any(n.startswith(("decoder.upsamples.", "decoder.up_blocks.")) for n in names):
        return "a Wan VAE (model.vae)"
    if {"decoder.1.weight", "decoder.3.conv.0.weight"} <= names:
        width, channels = tensors["decoder.1.weight"].shape[:2]
        return f"a TAEHV tiny autoencoder of width {width} for {channels} latent channels (model.decoder=taehv)"
    if any(n.startswith("condition_embedder.") for n in names):
        return (
            "a transformer under diffusers' own names (WanTransformer3DModel); take the repository without -Diffusers"
        )
    if any(n.startswith("wan.blocks.") for n in names):
        return "a checkpoint of the embedded world (model=tiny)"
    patch = tensors.get("patch_embedding.weight")
    if patch is None or not any(n.startswith("blocks.") for n in names):
        return f"nothing known ({len(names)} tensors{f', such as {min(names)}' if names else ''})"
    layers = len({n.split(".")[1] for n in names if n.startswith("blocks.")})
    size = SIZES.get((patch.shape[0], layers), f"Wan of width {patch.shape[0]} with {layers} layers")
    if any(n.startswith("img_emb.") for n in names):
        size += ", image-to-video with a CLIP branch"
    return f"{system_of(contents)}, {size}"


def system_of(contents: Contents) -> str:
    """Which system's container a transformer came in. The weights themselves do not tell."""
    if AVERAGED in contents.held:
        return "a Rolling Forcing style checkpoint" if contents.wrapped else "a Self Forcing style checkpoint"
    if "critic" in contents.held:
        return "a CausVid style checkpoint"
    if "generator" in contents.held:
        return "a LongLive style base checkpoint"
    if contents.prefixed or contents.held:
        return "a generator's state dict"
    return "an official Wan file, not an autoregressive generator"
