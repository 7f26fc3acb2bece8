"""LoRA over a base checkpoint: W + scale B A for every layer that the file has, in whatever naming (lora_files.py)."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.lora_files import LoraFile, read_lora
from deepforcing.wan.names import listed
from deepforcing.wan.transformer import CausalWan

TARGETS = (
    *(f"{kind}.{part}" for kind in ("self_attn", "cross_attn") for part in "qkvo"),
    "ffn.0",
    "ffn.2",
)
ADDED = {"diff": "{}.weight", "diff_b": "{}.bias", "diff_m": "{}.modulation"}  # to which tensor of the layer


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA file, or a directory of peft's or diffusers', and what the file itself may not say.

    rank: of all its layers; None: as the file has them. alpha: the scale is alpha / rank; it counts where the file says
    none. None: the rank, a scale of 1, as diffusers and ComfyUI take such files. LongLive: 256, 256.
    """

    path: Path
    rank: int | None = None
    alpha: float | None = None

    def __post_init__(self) -> None:
        if self.rank is not None and self.rank < 1:
            raise ValueError(f"lora_rank={self.rank} must be at least 1")
        if self.alpha is not None and not math.isfinite(self.alpha):
            raise ValueError(f"lora_alpha={self.alpha} must be a number")

    @property
    def scale(self) -> float | None:
        """None: the file decides."""
        return None if self.alpha is None or self.rank is None else self.alpha / self.rank


@dataclass(frozen=True)
class Lora:
    """Everything about it has been checked against a model.

    pairs: layer -> A [rank, in], B [out, rank] (of a convolution with its kernel's dimensions), scale. added: tensor of
    the base -> difference. own_alpha: whether the file says alpha. layers: how many of the model a LoRA can update.
    """

    path: Path
    pairs: Mapping[str, tuple[Tensor, Tensor, float]]
    added: Mapping[str, Tensor]
    own_alpha: bool
    layers: int

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """A base tensor with its update, in float32; other tensors as they are."""
        pair = self.pairs.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if pair is None and name not in self.added:
            return weight
        weight = weight.float()
        if pair is not None:
            a, b, scale = pair
            weight = weight + scale * (b.float().flatten(1) @ a.float().flatten(1)).view(weight.shape)
        return weight + self.added[name].float().to(weight.device) if name in self.added else weight

    def scales(self) -> float | dict[str, float]:
        """The scale of all layers, or by layer where they differ: part of a run's identity."""
        by_layer = {layer: scale for layer, (_, _, scale) in sorted(self.pairs.items())}
        values = set(by_layer.values())
        return by_layer if len(values) > 1 else values.pop() if values else 1.0

    def summary(self) -> str:
        """How much of the model it updates, for the one who asked for it."""
        ranks = sorted({a.shape[0] for a, _, _ in self.pairs.values()})
        scales = sorted({scale for *_, scale in self.pairs.values()})
        parts = [f"{len(self.pairs)} of {self.layers} modules matched"]
        if self.pairs:
            parts.append(f"rank {_range(ranks)}")
            parts.append(
                f"scale {_range(scales)} ({'alpha from the file' if self.own_alpha else 'no alpha in the file'})"
            )
        if self.added:
            parts.append(f"{len(self.added)} tensors with a difference added")
        return f"LoRA {self.path}: {', '.join(parts)}"


def layer_shapes(config: WanConfig) -> dict[str, tuple[int, int]]:
    """(out, in) of every linear layer of the blocks: those that LongLive's LoRA updates."""
    dim, ffn = config.dim, config.ffn_dim
    shape = {"ffn.0": (ffn, dim), "ffn.2": (dim, ffn)}
    return {f"blocks.{i}.{t}": shape.get(t, (dim, dim)) for i in range(config.num_layers) for t in TARGETS}


def load_lora(spec: LoraSpec, config: WanConfig) -> Lora:
    """fit_lora, and a look at the numbers. Raises ValueError, also for NaN and quantised tensors."""
    lora = fit_lora(spec, config)
    for tensor in [*(t for a, b, _ in lora.pairs.values() for t in (a, b)), *lora.added.values()]:
        if not torch.isfinite(tensor.float() if tensor.dtype.itemsize == 1 else tensor).all():
            raise ValueError(f"LoRA {lora.path} holds NaN or Inf")
    return lora


def fit_lora(spec: LoraSpec, config: WanConfig) -> Lora:
    """Every tensor of the file must have its place in the model; the model's layers need not all have one in the file.

    LongLive's own container has every linear layer of the blocks and nothing else. The numbers themselves are not read.
    Raises ValueError in one line for what does not fit: unmatched or misshapen tensors, half a pair, another rank, another
    kind of adapter, a file that holds no LoRA.
    """
    with torch.device("meta"):
        state = CausalWan(config).state_dict()
    layers = {name.rpartition(".")[0] for name in state}
    file = read_lora(spec.path, layers)
    where = f"LoRA {file.path}"
    _check_rank(spec, file)
    pairs: dict[str, tuple[Tensor, Tensor, float]] = {}
    added: dict[str, Tensor] = {}
    complete = set(layer_shapes(config)) if file.longlive else set()
    missing = [f"{layer}.lora_A.weight" for layer in sorted(complete - file.parts.keys())]
    unexpected, misshapen = list(file.unmatched), []
    for layer, parts in file.parts.items():
        weight = state.get(f"{layer}.weight")
        both = parts.keys() & {"A", "B"}
        if both and (weight is None or weight.ndim < 2 or (complete and layer not in complete)):
            unexpected += [f"{layer}.lora_{part}.weight" for part in sorted(both)]
        elif len(both) == 1:
            missing.append(f"{layer}.lora_{'B' if 'A' in both else 'A'}.weight")
        elif both and weight is not None:
            misshapen += _misshapen(layer, parts["A"], parts["B"], weight.shape)
            pairs[layer] = parts["A"], parts["B"], 1.0
        elif "alpha" in parts:
            unexpected.append(f"{layer}.alpha")
        for part in sorted(parts.keys() & ADDED.keys()):
            target = ADDED[part].format(layer)
            if target not in state:
                unexpected.append(f"{layer}.{part}")
            elif parts[part].squeeze().shape != state[target].squeeze().shape:
                misshapen.append(f"{layer}.{part} {tuple(parts[part].shape)} instead of {tuple(state[target].shape)}")
            else:
                added[target] = parts[part].reshape(state[target].shape)
    problems = [
        f"{len(names)} {kind} ({listed(names)})"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshapen", misshapen))
        if names
    ]
    if problems:
        raise ValueError(f"{where} is not for this model: {len(pairs)} modules matched, {'; '.join(problems)}")
    whole = [t for a, b, _ in pairs.values() for t in (a, b) if not t.is_floating_point()]
    if whole:
        kind = str(whole[0].dtype).removeprefix("torch.")
        raise ValueError(f"{where} is quantised ({kind}), which is not read; use one in floating point")
    pairs = {layer: (a, b, _scale(spec, file, layer, a.shape[0])) for layer, (a, b, _) in pairs.items()}
    own_alpha = file.alphas.alpha is not None or any("alpha" in parts for parts in file.parts.values())
    linear = sum(name.endswith(".weight") and t.ndim > 1 for name, t in state.items())
    return Lora(file.path, pairs, added, own_alpha, linear)


def _check_rank(spec: LoraSpec, file: LoraFile) -> None:
    ranks = Counter(int(p["A"].shape[0]) if p["A"].ndim else 0 for p in file.parts.values() if "A" in p)
    if spec.rank is None or not ranks or list(ranks) == [spec.rank]:
        return
    advice = (
        "leave lora_rank away"
        if len(ranks) > 1
        else f"set lora_rank={next(iter(ranks))} and the lora_alpha it was trained with"
    )
    found = " and ".join(map(str, sorted(ranks)))
    raise ValueError(f"LoRA {file.path} has rank {found}, not lora_rank={spec.rank}; {advice}")


def _misshapen(layer: str, a: Tensor, b: Tensor, shape: torch.Size) -> list[str]:
    rank = int(a.shape[0]) if a.ndim else 0
    bad = []
    for part, tensor, want in (("A", a, (rank, shape[1:].numel())), ("B", b, (shape[0], rank))):
        if tensor.ndim < 2 or tuple(tensor.flatten(1).shape) != want or not rank:
            bad.append(f"{layer}.lora_{part} {tuple(tensor.shape)} instead of {want if rank else 'rank 1 or more'}")
    return bad


def _scale(spec: LoraSpec, file: LoraFile, layer: str, rank: int) -> float:
    """The file's own alpha of the layer, else its configuration's, else the one given, else the rank, by the rank."""
    alpha = file.parts[layer].get("alpha")
    if alpha is not None:
        value = float(alpha.reshape(-1)[0]) if alpha.numel() == 1 else math.nan
        if not math.isfinite(value):
            raise ValueError(f"LoRA {file.path}: the alpha of {layer} must be one number")
        return value / rank
    configured = file.alphas.of(file.raw[layer])
    if configured is not None:
        return configured / (rank**0.5 if file.alphas.root else rank)
    return 1.0 if spec.alpha is None else spec.alpha / rank


def _range(values: list[int] | list[float]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"
