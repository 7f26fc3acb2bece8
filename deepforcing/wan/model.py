"""Wan-shaped models as a choice: the published 1.3B weights, or any size with random weights for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforcing.geometry import Geometry
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_wan, random_wan, sha256


@dataclass(frozen=True)
class WanSpec:
    """A transformer of any Wan size. checkpoint: its weights; random_weights: none are read, for speed and plumbing.

    Text encoder and VAE are not part of this version, so a rollout to video is refused up front; `experiments.bench`
    and `experiments.replay` run the transformer alone.
    """

    name: str = "wan2.1-1.3b"
    config: WanConfig = field(default_factory=WanConfig)
    geometry: Geometry = field(default_factory=Geometry)
    checkpoint: str | None = None
    random_weights: bool = False
    pixel_scale: int = 1
    world: str | None = None
    train_frames: int = 21

    def __post_init__(self) -> None:
        if self.config.in_dim != self.geometry.latent_channels:
            raise ValueError(
                f"config.in_dim={self.config.in_dim} must equal geometry.latent_channels={self.geometry.latent_channels}"
            )

    def check_prompt(self, prompt: str) -> None:
        pass

    def check(self) -> None:
        raise ValueError(
            f"model {self.name} has no text encoder and VAE in this version, so it cannot make videos yet: "
            "use model=tiny, or time the transformer with python -m experiments.bench model=wan2.1-1.3b"
        )

    def identity(self) -> dict[str, Any]:
        weights = "random" if self.checkpoint is None else sha256(Path(self.checkpoint))
        return {"name": self.name, "checkpoint": weights}

    def transformer(self, device: torch.device, dtype: torch.dtype) -> CausalWan:
        """Raises ValueError when there is neither a checkpoint nor leave to use random weights."""
        if self.random_weights:
            return random_wan(self.config, dtype, device)
        if self.checkpoint is None:
            raise ValueError(
                f"model {self.name} needs weights: model.checkpoint=FILE, or model.random_weights=true for timing"
            )
        return load_wan(Path(self.checkpoint), self.config, dtype, device)

    def build(self, device: torch.device, dtype: torch.dtype) -> TransformerOnly:
        return TransformerOnly(self.transformer(device, dtype))


class TransformerOnly:
    """The transformer with random text, for timing."""

    def __init__(self, wan: CausalWan) -> None:
        self.wan = wan

    def embed(self, prompts: list[str]) -> Tensor:
        shape = (len(prompts), self.wan.config.text_len, self.wan.config.text_dim)
        return torch.randn(shape, generator=torch.Generator().manual_seed(0))

    def decoder(self) -> Callable[[Tensor], Tensor]:
        raise ValueError("there is no VAE in this version")
