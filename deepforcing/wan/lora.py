"""LoRA over a base checkpoint, as LongLive publishes it: W + (alpha / rank) B A for every linear layer of the blocks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import LORA, bare_name, open_lora

PREFIX = "base_model.model."
TARGETS = (
    *(f"{kind}.{part}" for kind in ("self_attn", "cross_attn") for part in "qkvo"),
    "ffn.0",
    "ffn.2",
)


@dataclass(frozen=True)
class LoraSpec:
    """A LoRA file and what the file itself does not say: the rank and alpha it was trained with (LongLive: 256, 256)."""

    path: Path
    rank: int = 256
    alpha: float = 256.0

    @property
    def scale(self) -> float:
        return self.alpha / self.rank


@dataclass(frozen=True)
class Lora:
    """pairs: bare layer name -> A [rank, in], B [out, rank]. Everything about it has been checked against a model."""

    pairs: Mapping[str, tuple[Tensor, Tensor]]
    scale: float

    def merged(self, name: str, weight: Tensor) -> Tensor:
        """A base tensor with its update, in float32; other tensors as they are."""
        pair = self.pairs.get(name.removesuffix(".weight")) if name.endswith(".weight") else None
        if pair is None:
            return weight
        a, b = pair
        return weight.float() + self.scale * (b.float() @ a.float())


def layer_shapes(config: WanConfig) -> dict[str, tuple[int, int]]:
    """(out, in) of every layer that a LoRA updates."""
    dim, ffn = config.dim, config.ffn_dim
    shape = {"ffn.0": (ffn, dim), "ffn.2": (dim, ffn)}
    return {f"blocks.{i}.{t}": shape.get(t, (dim, dim)) for i in range(config.num_layers) for t in TARGETS}


def load_lora(spec: LoraSpec, config: WanConfig) -> Lora:
    """Raises ValueError in one line for another rank, missing or unexpected tensors, and a LoRA of another model."""
    if spec.rank < 1:
        raise ValueError(f"lora_rank={spec.rank} must be at least 1")
    content = open_lora(spec.path)
    tensors = {_lora_name(name): tensor for name, tensor in content.items()}
    where = f"LoRA {spec.path}"
    if not any(n.endswith(".lora_A.weight") for n in tensors):
        raise ValueError(
            f"{where} holds no LoRA: no tensor is called ...lora_A.weight (looked in {LORA} and at the top)"
        )
    shapes = layer_shapes(config)
    wanted = {f"{layer}.lora_{part}.weight" for layer in shapes for part in "AB"}
    ranks = sorted({int(t.shape[0]) for n, t in tensors.items() if n.endswith(".lora_A.weight")})
    if ranks != [spec.rank]:
        found = " and ".join(map(str, ranks))
        raise ValueError(
            f"{where} has rank {found}, not lora_rank={spec.rank}; "
            + (
                f"set lora_rank={ranks[0]} and the lora_alpha it was trained with"
                if len(ranks) == 1
                else "one is right"
            )
        )
    problems = []
    for kind, names in (
        ("missing", sorted(wanted - tensors.keys())),
        ("unexpected", sorted(tensors.keys() - wanted)),
        ("misshapen", _misshapen(tensors, shapes, spec.rank)),
    ):
        if names:
            problems.append(f"{len(names)} {kind} ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})")
    if problems:
        raise ValueError(f"{where} is not for this model: {'; '.join(problems)}")
    pairs = {layer: (tensors[f"{layer}.lora_A.weight"], tensors[f"{layer}.lora_B.weight"]) for layer in shapes}
    if not all(torch.isfinite(t).all() for pair in pairs.values() for t in pair):
        raise ValueError(f"{where} holds NaN or Inf")
    return Lora(pairs, spec.scale)


def _misshapen(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, int]], rank: int) -> list[str]:
    bad = []
    for layer, (out, inner) in shapes.items():
        for part, want in (("A", (rank, inner)), ("B", (out, rank))):
            tensor = tensors.get(f"{layer}.lora_{part}.weight")
            if tensor is not None and tuple(tensor.shape) != want:
                bad.append(f"{layer}.lora_{part} {tuple(tensor.shape)} instead of {want}")
    return bad


def _lora_name(name: str) -> str:
    """peft's names, with or without the adapter's name, as bare layer names."""
    name = bare_name(name).removeprefix(PREFIX).removeprefix("model.")
    return name.replace(".lora_A.default.", ".lora_A.").replace(".lora_B.default.", ".lora_B.")
