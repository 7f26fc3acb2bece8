"""What a LoRA file holds, under every usual naming: parts by layer of the model, and the alphas that the file knows.

    <before><layer>.lora_A[.<adapter>].weight     peft, diffusers, ComfyUI     lora_B
    <before><layer>.lora_down.weight              kohya, ComfyUI               lora_up
    <before><layer>.lora.down.weight              diffusers before peft        lora.up
    <before><layer>.alpha                         kohya, ComfyUI
    <before><layer>.diff, .diff_b, .diff_m        added to the layer's weight, bias, modulation as they are

before: base_model.model., transformer., diffusion_model., model., lora_unet_ and the like, wrappers between. layer: by our
names or by diffusers' (names.py), kohya's with "_" for every ".". peft keeps alpha in adapter_config.json beside the file,
diffusers in the file's notes; neither kohya's nor LongLive's need any.

Sources: files and loaders of peft, diffusers, ComfyUI and kohya's trainers, by their names only.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from deepforcing.pickles import MAX_BYTES
from deepforcing.wan.containers import LORA_IN_A_DIRECTORY, file_of, lora_entry, notes_of
from deepforcing.wan.names import bare_name, diffusers_name, listed, shown, unwrapped

PARTS = (
    (re.compile(r"(.+)\.lora_([AB])(?:\.(?!weight$)([^.]+))?(?:\.weight)?"), {"A": "A", "B": "B"}),
    (re.compile(r"(.+)\.lora_(down|up)(?:\.(?!weight$)([^.]+))?\.weight"), {"down": "A", "up": "B"}),
    (re.compile(r"(.+)[._]lora\.(down|up)()\.weight"), {"down": "A", "up": "B"}),
    (re.compile(r"(.+)\.(alpha|diff|diff_b|diff_m)()"), {n: n for n in ("alpha", "diff", "diff_b", "diff_m")}),
)
OTHERS = {
    r"\.(dora_scale|lora_magnitude_vector)\b": "DoRA",
    r"\.(hada_|lokr_|oft_|boft_|glora_|lora_mid|w_norm|b_norm)": "a LyCORIS adapter (LoHa, LoKr, OFT or the like)",
    r"\.(lora_E|ranknum)\b": "AdaLoRA",
    r"\.(lora_embedding_|lora_B\.(\w+\.)?bias|reshape_weight|set_weight)": "a LoRA with further parts",
    r"\.(ia3_|vera_lambda)": "another kind of adapter",
}
# Initialisations of peft that also change the base weights, which an adapter's file does not hold.
CHANGES_BASE = ("pissa", "olora", "corda", "loftq")


@dataclass(frozen=True)
class Alphas:
    """What is said of alpha beside the tensors. patterns, ranks: peft's overrides of single layers, by regular expression."""

    alpha: float | None = None
    patterns: Mapping[str, float] = field(default_factory=dict)
    root: bool = False  # alpha is divided by the rank's square root (peft's rslora)

    def of(self, layer: str) -> float | None:
        """layer: as the file has it."""
        for pattern, alpha in self.patterns.items():
            if layer == pattern or layer.endswith(f".{pattern}"):
                return alpha
        return self.alpha


@dataclass(frozen=True)
class LoraFile:
    """parts: layer of the model -> {"A", "B", "alpha", "diff", "diff_b", "diff_m"} as far as the file has them.

    raw: the layer's name in the file. unmatched: names of tensors that belong to no layer of the model. longlive: it is in
    LongLive's container.
    """

    path: Path
    parts: dict[str, dict[str, Tensor]]
    raw: dict[str, str]
    unmatched: tuple[str, ...]
    alphas: Alphas
    longlive: bool


def read_lora(path: Path, layers: Iterable[str]) -> LoraFile:
    """layers: of the model, with a weight or a modulation. path: a file, or a directory of peft or diffusers.

    Raises ValueError in one line for a file that holds no LoRA, another kind of adapter, several adapters in one file, or
    a tensor twice.
    """
    path = file_of(path, LORA_IN_A_DIRECTORY)
    (tensors, longlive), where = lora_entry(path), f"LoRA {path}"
    for pattern, kind in OTHERS.items():
        found = [n for n in tensors if re.search(pattern, n)]
        if found:
            raise ValueError(
                f"{where} is {kind} ({listed(found[:1])}), which is not read; only LoRA and differences are"
            )
    known = aliases(layers)
    parts: dict[str, dict[str, Tensor]] = {}
    raw: dict[str, str] = {}
    adapters, unmatched = set(), []
    any_lora = False
    for name, tensor in tensors.items():
        split = split_name(name)
        any_lora = any_lora or (split is not None and split[1] != "alpha")
        layer = None if split is None else known.get(layer_name(split[0]))
        if split is None or layer is None:
            unmatched.append(name)
            continue
        if split[2]:
            adapters.add(split[2])
        if split[1] in parts.setdefault(layer, {}):
            raise ValueError(f"{where} holds {shown(layer)} twice, under different names or adapters")
        parts[layer][split[1]] = tensor
        raw[layer] = layer_name(split[0])
    if not any_lora:
        raise ValueError(
            f"{where} holds no LoRA: none of its {len(tensors)} tensors is called ...lora_A.weight, ...lora_down.weight or "
            f"...diff{f' ({listed(sorted(tensors), 1)})' if tensors else ''}"
        )
    if len(adapters) > 1:
        raise ValueError(f"{where} holds the adapters {listed(sorted(adapters))}; save the one that is meant")
    return LoraFile(path, parts, raw, tuple(sorted(unmatched)), _alphas(path), longlive)


def split_name(name: str) -> tuple[str, str, str] | None:
    """(layer as the file has it, part, adapter) of a tensor's name."""
    name = unwrapped(name)
    for pattern, kinds in PARTS:
        match = pattern.fullmatch(name)
        if match is not None:
            return match[1], kinds[match[2]], match[3] or ""
    return None


def layer_name(layer: str) -> str:
    """A layer as the file has it, without what stands before a transformer's own names."""
    while True:
        bare = bare_name(layer.removeprefix("base_model.")).removeprefix("base_model.")
        for prefix in ("lora_unet_", "lora_transformer_", "lycoris_", "unet."):
            bare = bare.removeprefix(prefix).replace("_orig_mod_", "")
        if bare == layer:
            return layer
        layer = bare


def aliases(layers: Iterable[str]) -> dict[str, str]:
    """Every way to write a layer's name, without prefixes -> the layer."""
    known: dict[str, str] = {}
    for layer in layers:
        for name in (layer, diffusers_name(layer)):
            known[name] = known[name.replace(".", "_")] = layer
    return known


def _alphas(path: Path) -> Alphas:
    """From adapter_config.json beside a peft file, or from the notes of diffusers and kohya. Raises ValueError."""
    notes = notes_of(path)
    if "lora_adapter_metadata" in notes:
        return _peft(_object(notes["lora_adapter_metadata"], f"the notes of LoRA {path}"), path)
    beside = path.with_name("adapter_config.json")
    if path.stem == "adapter_model" and beside.is_file():
        if beside.stat().st_size > MAX_BYTES:
            raise ValueError(f"{beside} is damaged: it is too large")
        return _peft(_object(beside.read_bytes(), str(beside)), path)
    return Alphas()


def _object(text: str | bytes, what: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ValueError(f"{what} are damaged: they must be a JSON object")
    return value


def _peft(given: Mapping[str, Any], path: Path) -> Alphas:
    """peft's configuration; in diffusers' notes its keys are those of a pipeline's parts, "transformer." before ours."""
    prefix = "transformer." if any(k.startswith("transformer.") for k in given) else ""
    known = {k.removeprefix(prefix): v for k, v in given.items() if k.startswith(prefix)}
    kind, start = known.get("peft_type", "LORA"), known.get("init_lora_weights")
    if kind != "LORA" or known.get("use_dora"):
        what = "DoRA" if kind == "LORA" else shown(kind)
        raise ValueError(f"LoRA {path} is {what} by its configuration, which is not read; only LoRA is")
    if isinstance(start, str) and start.lower().startswith(CHANGES_BASE):
        raise ValueError(
            f"LoRA {path} was begun by {shown(start)}, which changes the base too; save it as a plain LoRA"
        )
    alpha, patterns = known.get("lora_alpha"), known.get("alpha_pattern") or {}
    numbers = [alpha, *(patterns.values() if isinstance(patterns, dict) else ["?"])]
    if not all(n is None or (type(n) in (int, float) and math.isfinite(n)) for n in numbers):
        raise ValueError(f"LoRA {path} has a lora_alpha or an alpha_pattern in its configuration that is no number")
    if not all(re.fullmatch(r"[\w.]+", k) for k in patterns):
        raise ValueError(
            f"LoRA {path} has regular expressions in its alpha_pattern, which are not read; name the layers"
        )
    cleaned = {layer_name(str(k)): float(v) for k, v in patterns.items()}
    return Alphas(None if alpha is None else float(alpha), cleaned, bool(known.get("use_rslora")))
