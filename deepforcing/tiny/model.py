"""The embedded world as a model: sizes, parts and checkpoint. Nothing outside deepforcing/tiny knows these numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deepforcing.geometry import Geometry
from deepforcing.limits import LARGEST_SIZE, within
from deepforcing.tiny.codec import CHANNELS, STRIDE_SPACE, STRIDE_TIME, TinyCodec
from deepforcing.tiny.text import TEXT_DIM, TEXT_LEN, CaptionEmbedding
from deepforcing.tiny.world import SIZE, parse_caption
from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import read_tensors
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_strict, sha256

CHUNK_FRAMES = 3
TRAIN_FRAMES = 21  # latent frames of a training clip: 5.06 s, as for Wan
TINY_GEOMETRY = Geometry(
    height=SIZE,
    width=SIZE,
    fps=16,
    spatial_stride=STRIDE_SPACE,
    temporal_stride=STRIDE_TIME,
    patch=2,
    latent_channels=CHANNELS,
)
TINY_CONFIG = WanConfig(
    dim=128,
    ffn_dim=512,
    freq_dim=64,
    in_dim=CHANNELS,
    out_dim=CHANNELS,
    num_heads=4,
    num_layers=6,
    text_dim=TEXT_DIM,
    text_len=TEXT_LEN,
    prediction="x0",
    spatial_embedding=TINY_GEOMETRY.grid,
)


SHIPPED = Path(__file__).with_name("tiny.safetensors")


class TinyModel(nn.Module):
    """Transformer, caption embedding and codec; one safetensors file holds all three."""

    def __init__(self) -> None:
        super().__init__()
        self.wan = CausalWan(TINY_CONFIG)
        self.text = CaptionEmbedding()
        self.codec = TinyCodec()

    @classmethod
    def load(cls, path: Path) -> TinyModel:
        """Raises ValueError in one line for a file that is not such a checkpoint."""
        model = cls()
        load_strict(model, read_tensors(path), f"checkpoint {path}", torch.float32)
        return model

    def embed(self, prompts: list[str]) -> Tensor:
        """[B, 5, text_dim]. Raises ValueError for a prompt that the world cannot draw."""
        rows: Tensor = self.text(prompts)
        return rows

    def encode(self, pixels: Tensor) -> Tensor:
        """[B, 4(n-1)+1, 3, H, W] in 0..1, the beginning of a video -> latents [B, n, C, Y, X]."""
        return self.codec.encode(pixels.to(self.codec.mean.device))

    def decoder(self) -> Callable[[Tensor], Tensor]:
        begun = False

        def decode(latents: Tensor) -> Tensor:
            nonlocal begun
            pixels = self.codec.decode(latents.float(), first=not begun)
            begun = True
            return pixels

        return decode


@dataclass(frozen=True)
class TinySpec:
    """The embedded world as a model choice. checkpoint: a path, or None for the shipped weights."""

    checkpoint: str | None = None
    name: str = "tiny"
    pixel_scale: int = 8
    world: str | None = "tiny"
    train_frames: int = TRAIN_FRAMES

    def __post_init__(self) -> None:
        within(1, 64, pixel_scale=self.pixel_scale)
        within(1, LARGEST_SIZE, train_frames=self.train_frames)

    @property
    def path(self) -> Path:
        return SHIPPED if self.checkpoint is None else Path(self.checkpoint).expanduser()

    @property
    def config(self) -> WanConfig:
        return TINY_CONFIG

    @property
    def geometry(self) -> Geometry:
        return TINY_GEOMETRY

    def check_prompt(self, prompt: str) -> None:
        parse_caption(prompt)

    def check(self) -> None:
        TinyModel.load(self.path)

    def identity(self) -> dict[str, Any]:
        return {"name": self.name, "checkpoint": sha256(self.path), "pixel_scale": self.pixel_scale}

    def decoding(self) -> dict[str, Any]:
        """All of it: the codec is part of the checkpoint."""
        return self.identity()

    def decoders(self, device: torch.device, dtype: torch.dtype) -> Callable[[], Callable[[Tensor], Tensor]]:
        """A decoder for each video."""
        return TinyModel.load(self.path).to(device).eval().requires_grad_(False).decoder

    def notes(self) -> list[str]:
        return []

    def prepare(self, prompts: Sequence[str], device: torch.device) -> None:
        pass

    def build(self, device: torch.device, dtype: torch.dtype) -> TinyModel:
        model = TinyModel.load(self.path).to(device).eval().requires_grad_(False)
        model.wan.to(dtype)
        return model


def save_tiny(model: TinyModel, path: Path, metadata: dict[str, str]) -> None:
    """Write atomically: a reader never sees half a file."""
    partial = path.with_suffix(".partial")
    save_file({k: v.detach().clone().contiguous() for k, v in model.state_dict().items()}, partial, metadata=metadata)
    partial.replace(path)
