"""The ring, the first of the embedded worlds: short procedural videos with captions that say everything but the details.

One sprite (a shape in a colour) moves on a ring around the middle of a textured background at constant speed, once around
in PERIOD frames. The caption names shape, colour, start, direction and background. What it does not name (the exact hue
and shade, the texture, the start to the degree) differs from video to video and can only be kept by remembering it: that
is what a long rollout loses. Everything is a pure function of `Scene`, so any frame of any length has a ground truth.

Shapes: B videos, N pixel frames, Y and X pixels.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from deepforcing.tiny.sprites import COLOURS, HUES, Outline, hsv_to_rgb, named, pixel_centres, sprite_mask, words_of

NAME = "tiny"
DATA_VERSION = "ring-1"
SIZE = HEIGHT = WIDTH = 16  # pixels: 16 tokens of 4 x 4
ABOUT = "16 × 16 pixels, one sprite on one ring"
MODEL = {"dim": 128, "ffn_dim": 512, "num_heads": 4, "num_layers": 6}
PERIOD = 80  # frames per turn
RING = 4.2  # pixels from the middle to the sprite's centre
SHAPES = ("disc", "ring", "cross")
OUTLINE = Outline(disc=3.2, ring=2.6, half_line=0.95, arm=3.5, half_arm=1.2)
STARTS = ("top", "right", "bottom", "left")
DIRECTIONS = ("clockwise", "counterclockwise")
BACKGROUNDS = ("slate", "sand", "grey", "forest")
VOCABULARY = (SHAPES, COLOURS, STARTS, DIRECTIONS, BACKGROUNDS)
BACKGROUND_RGB = ((0.16, 0.20, 0.30), (0.80, 0.72, 0.58), (0.55, 0.55, 0.57), (0.14, 0.28, 0.18))


@dataclass
class Scene:
    """A batch of videos. classes: int64 [B, 5], indices into VOCABULARY; the rest float32, one row per video."""

    classes: Tensor
    rgb: Tensor  # [B, 3] sprite colour
    background: Tensor  # [B, 3]
    texture: Tensor  # [B, 2, 4]: amplitude, two wave numbers (radians a pixel), phase
    phase: Tensor  # [B] angle at frame 0, radians; 0 is right, growing clockwise on the screen


def sample_scenes(classes: Tensor, generator: torch.Generator) -> Scene:
    """Random details for given captions. classes: int64 [B, 5]."""
    batch = classes.shape[0]

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(batch, *shape, generator=generator)

    hue = torch.tensor(HUES)[classes[:, 1]] + uniform(-0.04, 0.04)
    start = torch.tensor([-math.pi / 2, 0.0, math.pi / 2, math.pi])[classes[:, 2]]
    return Scene(
        classes=classes,
        rgb=hsv_to_rgb(hue % 1, uniform(0.7, 1.0), uniform(0.8, 1.0)),
        background=(torch.tensor(BACKGROUND_RGB)[classes[:, 4]] + uniform(-0.06, 0.06, 3)).clamp(0.05, 0.95),
        texture=torch.stack(
            [uniform(0.03, 0.07, 2), uniform(-1.2, 1.2, 2), uniform(-1.2, 1.2, 2), uniform(0, 2 * math.pi, 2)], -1
        ),
        phase=start + uniform(-0.25, 0.25),
    )


def random_classes(batch: int, generator: torch.Generator) -> Tensor:
    """Uniformly random captions, int64 [B, 5]."""
    return torch.stack([torch.randint(0, len(words), (batch,), generator=generator) for words in VOCABULARY], -1)


def angular_speed(classes: Tensor) -> Tensor:
    """Radians a frame, positive clockwise on the screen, [B]."""
    return (1.0 - 2.0 * classes[:, 3]) * 2 * math.pi / PERIOD


def shape_mask(shape: int | Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    return sprite_mask(shape, dx, dy, OUTLINE)


def pixel_grid() -> tuple[Tensor, Tensor]:
    """x and y of pixel centres, each [SIZE, SIZE]."""
    return pixel_centres(SIZE, SIZE)


def render(scene: Scene, frames: int, first: int = 0) -> Tensor:
    """Frames first .. first + frames - 1 (may be negative) -> float32 [B, N, 3, SIZE, SIZE] in 0..1."""
    x, y = pixel_grid()
    time = torch.arange(first, first + frames, dtype=torch.float32)
    angle = scene.phase[:, None] + angular_speed(scene.classes)[:, None] * time
    dx = x - (SIZE / 2 + RING * angle.cos())[..., None, None]
    dy = y - (SIZE / 2 + RING * angle.sin())[..., None, None]
    coverage = shape_mask(scene.classes[:, 0].view(-1, 1, 1, 1), dx, dy)[:, :, None]
    amplitude, kx, ky, phase = (part[..., None, None] for part in scene.texture.unbind(-1))
    texture = (amplitude * torch.sin(kx * x + ky * y + phase)).sum(1)
    background = (scene.background[:, :, None, None] + texture[:, None]).clamp(0, 1)[:, None]
    return coverage * scene.rgb[:, None, :, None, None] + (1 - coverage) * background


def caption(classes: Tensor | list[int]) -> str:
    """The sentence for one video's classes [5]."""
    shape, colour, start, direction, background = (
        words[int(index)] for words, index in zip(VOCABULARY, classes, strict=True)
    )
    return f"a {colour} {shape} starts at the {start} and circles {direction} on a {background} background"


def parse_caption(text: str) -> list[int]:
    """Classes named in a sentence: one word of each group of VOCABULARY, in any order; other words are ignored.

    "ring" and "disc" name shapes. Raises ValueError that says which group is missing or named twice.
    """
    words, example = words_of(text), caption([0, 0, 0, 0, 0])
    names = ("shape", "colour", "start", "direction", "background")
    return [named(text, words, group, name, "tiny", example) for group, name in zip(VOCABULARY, names, strict=True)]
