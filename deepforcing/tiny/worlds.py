"""The embedded worlds. A world is one module: its videos, its captions, and the sizes of the model that learns it.

Trainer, codec, model and metrics know a world by this protocol alone. Another world is another module and its line in WORLDS.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from deepforcing.geometry import Geometry
from deepforcing.tiny import crowd, pan, world
from deepforcing.tiny.codec import CHANNELS, STRIDE_SPACE, STRIDE_TIME
from deepforcing.wan.config import WanConfig

CHUNK_FRAMES = 3
TRAIN_FRAMES = 21  # latent frames of a training clip: 5.06 s, as for Wan
TEXT_DIM = 64


class World(Protocol):
    """Shapes: B videos, N pixel frames of 3 x HEIGHT x WIDTH in 0..1."""

    @property
    def NAME(self) -> str: ...  # noqa: N802

    @property
    def DATA_VERSION(self) -> str:  # noqa: N802
        """Changes when the same seed gives other videos."""
        ...

    @property
    def HEIGHT(self) -> int: ...  # noqa: N802

    @property
    def WIDTH(self) -> int: ...  # noqa: N802

    @property
    def ABOUT(self) -> str:  # noqa: N802
        """What it shows, in the words of a caveat."""
        ...

    @property
    def MODEL(self) -> dict[str, int]:  # noqa: N802
        """dim, ffn_dim, num_heads and num_layers of the transformer."""
        ...

    @property
    def VOCABULARY(self) -> tuple[tuple[str, ...], ...]:  # noqa: N802
        """The groups of words of a caption; a caption names one of each."""
        ...

    def random_classes(self, batch: int, generator: torch.Generator) -> Tensor:
        """Random captions, int64 [B, groups], indices into VOCABULARY."""
        ...

    def caption(self, classes: Tensor | list[int]) -> str:
        """The sentence for one video's classes."""
        ...

    def parse_caption(self, text: str) -> list[int]:
        """Classes named in a sentence. Raises ValueError in one line that says what is missing and gives an example."""
        ...

    def sample_scenes(self, classes: Tensor, generator: torch.Generator) -> Any:
        """Random details for given captions: all that `render` needs."""
        ...

    def render(self, scene: Any, frames: int, first: int = 0) -> Tensor:
        """Frames first .. first + frames - 1 of the scenes, down to -3, [B, N, 3, HEIGHT, WIDTH]."""
        ...


WORLDS: dict[str, World] = {one.NAME: one for one in (world, crowd, pan)}


def find_world(name: str) -> World:
    """Raises ValueError that lists the worlds."""
    if name not in WORLDS:
        raise ValueError(f"world={name!r} is no embedded world; there are {', '.join(WORLDS)}")
    return WORLDS[name]


def geometry_of(world: World) -> Geometry:
    return Geometry(
        height=world.HEIGHT,
        width=world.WIDTH,
        fps=16,
        spatial_stride=STRIDE_SPACE,
        temporal_stride=STRIDE_TIME,
        patch=2,
        latent_channels=CHANNELS,
    )


def config_of(world: World) -> WanConfig:
    return WanConfig(
        freq_dim=64,
        in_dim=CHANNELS,
        out_dim=CHANNELS,
        text_dim=TEXT_DIM,
        text_len=len(world.VOCABULARY),
        prediction="x0",
        spatial_embedding=geometry_of(world).grid,
        **world.MODEL,  # type: ignore[arg-type]
    )
