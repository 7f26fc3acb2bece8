"""An embedded world as a model: sizes, parts and checkpoint. Nothing outside deepforcing/tiny knows these numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from deepforcing.geometry import Geometry
from deepforcing.limits import LARGEST_SIZE, within
from deepforcing.tiny import world as ring
from deepforcing.tiny.codec import TinyCodec
from deepforcing.tiny.text import CaptionEmbedding
from deepforcing.tiny.worlds import CHUNK_FRAMES, TRAIN_FRAMES, World, config_of, find_world, geometry_of
from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import read_tensors
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_strict, sha256

__all__ = [
    "CHUNK_FRAMES",
    "SHIPPED",
    "TINY_CONFIG",
    "TINY_GEOMETRY",
    "TRAIN_FRAMES",
    "TinyModel",
    "TinySpec",
    "save_tiny",
    "write_tensors",
]

TINY_GEOMETRY, TINY_CONFIG = geometry_of(ring), config_of(ring)  # of the world "tiny"
SHIPPED = Path(__file__).with_name("tiny.safetensors")


class TinyModel(nn.Module):
    """Transformer, caption embedding and codec; one safetensors file holds all three."""

    def __init__(self, world: World = ring) -> None:
        super().__init__()
        self.name = world.NAME
        self.wan = CausalWan(config_of(world))
        self.text = CaptionEmbedding(world)
        self.codec = TinyCodec()

    @property
    def world(self) -> World:
        return find_world(self.name)

    @classmethod
    def load(cls, path: Path, world: World = ring) -> TinyModel:
        """Raises ValueError in one line for a file that is not a checkpoint of that world."""
        model = cls(world)
        load_strict(model, read_tensors(path), f"checkpoint {path}", torch.float32)
        return model

    def embed(self, prompts: list[str]) -> Tensor:
        """[B, groups, text_dim]. Raises ValueError for a prompt that the world cannot draw."""
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
    """An embedded world as a model choice. checkpoint: a path, or None for the shipped weights.

    shipped: which of them, by name; None: the world's. world: of WORLDS; None: "tiny", and its videos are not scored by
    that world's metrics.
    """

    checkpoint: str | None = None
    name: str = "tiny"
    pixel_scale: int = 8
    world: str | None = "tiny"
    train_frames: int = TRAIN_FRAMES
    shipped: str | None = None

    def __post_init__(self) -> None:
        find_world(self.drawn)
        within(1, 64, pixel_scale=self.pixel_scale)
        within(1, LARGEST_SIZE, train_frames=self.train_frames)

    @property
    def drawn(self) -> str:
        return self.world or ring.NAME

    @property
    def path(self) -> Path:
        if self.checkpoint is not None:
            return Path(self.checkpoint).expanduser()
        name = self.drawn if self.shipped is None else self.shipped
        known = sorted(path.stem for path in SHIPPED.parent.glob("*.safetensors"))
        if self.shipped is not None and name not in known:
            raise ValueError(
                f"model.shipped={name}: this version has {', '.join(known)}; model.checkpoint=FILE takes others"
            )
        path = SHIPPED.with_stem(name)
        if not path.is_file():
            raise ValueError(
                f"no weights of world {name} are part of this version: "
                f"make train-{name.removeprefix('tiny_')} trains them, and model.checkpoint=FILE takes them"
            )
        return path

    @property
    def config(self) -> WanConfig:
        return config_of(find_world(self.drawn))

    @property
    def geometry(self) -> Geometry:
        return geometry_of(find_world(self.drawn))

    def check_prompt(self, prompt: str) -> None:
        find_world(self.drawn).parse_caption(prompt)

    def check(self) -> None:
        TinyModel.load(self.path, find_world(self.drawn))

    def identity(self) -> dict[str, Any]:
        world = {} if self.drawn == ring.NAME else {"world": self.drawn}
        return {"name": self.name, "checkpoint": sha256(self.path), "pixel_scale": self.pixel_scale, **world}

    def decoding(self) -> dict[str, Any]:
        """All of it: the codec is part of the checkpoint."""
        return self.identity()

    def decoders(
        self, device: torch.device, dtype: torch.dtype, compiled: bool = False
    ) -> Callable[[], Callable[[Tensor], Tensor]]:
        """A decoder for each video. It is too small for a compiler."""
        return TinyModel.load(self.path, find_world(self.drawn)).to(device).eval().requires_grad_(False).decoder

    def notes(self) -> list[str]:
        return []

    def prepare(self, prompts: Sequence[str], device: torch.device) -> None:
        pass

    def build(self, device: torch.device, dtype: torch.dtype) -> TinyModel:
        model = TinyModel.load(self.path, find_world(self.drawn)).to(device).eval().requires_grad_(False)
        model.wan.to(dtype)
        return model


def save_tiny(model: TinyModel, path: Path, metadata: dict[str, str]) -> None:
    write_tensors(model.state_dict(), path, metadata)


def write_tensors(tensors: Mapping[str, Tensor], path: Path, metadata: dict[str, str]) -> None:
    """A safetensors file, atomically: a reader never sees half of it."""
    partial = path.with_suffix(".partial")
    save_file({k: v.detach().clone().contiguous() for k, v in tensors.items()}, partial, metadata=metadata)
    partial.replace(path)
