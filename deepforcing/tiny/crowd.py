"""The crowd: two subjects that pass one another, leave the frame and return, again and again.

Both travel along one lane at constant speed in opposite directions, through the frame and, unseen, around it, once in
PERIOD frames: seen for some 42 frames, wholly outside for some 18, as the other is. Where they meet, the first one named
hides the second. The caption names shape and colour of both, the first one's direction and the background. What it does not
name, the exact hue and shade of each, must be recalled from before the absence. Everything is a pure function of `Scene`, so
any frame of any length has a ground truth.

Shapes: B videos, N pixel frames, Y and X pixels; of the two subjects, 0 is the one in front.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepforcing.tiny.sprites import (
    COLOURS,
    HUES,
    Outline,
    hsv_to_rgb,
    named,
    pixel_centres,
    sprite_mask,
    uniform,
    words_of,
)

NAME = "tiny_crowd"
DATA_VERSION = "crowd-2"
HEIGHT = WIDTH = 32  # pixels: 64 tokens of 4 x 4
ABOUT = "32 × 32 pixels, two sprites on one lane"
MODEL = {"dim": 96, "ffn_dim": 384, "num_heads": 3, "num_layers": 4}
PERIOD = 60  # frames from a place back to it
LOOP = 60.0  # pixels from a place back to it: the frame, and the way around it
START = 12.0  # pixels from the middle to either subject at frame 0; they head for one another
SHAPES = ("disc", "ring", "cross")
OUTLINE = Outline(disc=4.8, ring=3.9, half_line=1.4, arm=5.2, half_arm=1.8)
DIRECTIONS = ("right", "left")
BACKGROUNDS = ("slate", "sand", "grey", "forest")
VOCABULARY = (SHAPES, COLOURS, SHAPES, COLOURS, DIRECTIONS, BACKGROUNDS)
BACKGROUND_RGB = ((0.16, 0.20, 0.30), (0.80, 0.72, 0.58), (0.55, 0.55, 0.57), (0.14, 0.28, 0.18))
HUE_JITTER = 0.06  # turns to either side: most of the way to where the next colour's begins (1/12)


@dataclass
class Scene:
    """A batch of videos. classes: int64 [B, 6], indices into VOCABULARY; the rest float32, one row per video."""

    classes: Tensor
    rgb: Tensor  # [B, 2, 3] of the subjects
    background: Tensor  # [B, 3]


def sample_scenes(classes: Tensor, generator: torch.Generator) -> Scene:
    """Random details for given captions. classes: int64 [B, 6]."""
    batch = len(classes)

    def draw(low: float, high: float, *shape: int) -> Tensor:
        return uniform(low, high, batch, *shape, generator=generator)

    hue = torch.tensor(HUES)[classes[:, [1, 3]]] + draw(-HUE_JITTER, HUE_JITTER, 2)
    background = torch.tensor(BACKGROUND_RGB)[classes[:, 5]] + draw(-0.06, 0.06, 3)
    return Scene(
        classes=classes,
        rgb=hsv_to_rgb(hue % 1, draw(0.7, 1.0, 2), draw(0.7, 1.0, 2)),
        background=background.clamp(0.05, 0.95),
    )


def random_classes(batch: int, generator: torch.Generator) -> Tensor:
    """Uniformly random captions, int64 [B, 6]; the two subjects never have one colour."""
    classes = torch.stack([torch.randint(0, len(words), (batch,), generator=generator) for words in VOCABULARY], -1)
    other = torch.randint(1, len(COLOURS), (batch,), generator=generator)
    classes[:, 3] = (classes[:, 1] + other) % len(COLOURS)
    return classes


def places(classes: Tensor, time: Tensor) -> Tensor:
    """x of the centres of both subjects, [B, N, 2]: within LOOP/2 of the frame's middle. time: frames [N]."""
    towards = (1.0 - 2.0 * classes[:, 4, None]) * torch.tensor([1.0, -1.0])  # [B, 2]
    x = towards[:, None] * (time[None, :, None] * (LOOP / PERIOD) - START)
    return (x + LOOP / 2) % LOOP - LOOP / 2 + WIDTH / 2


def shape_mask(shape: int | Tensor, dx: Tensor, dy: Tensor) -> Tensor:
    return sprite_mask(shape, dx, dy, OUTLINE)


def coverage(scene: Scene, frames: int, first: int = 0) -> Tensor:
    """Of each subject, as if it were alone, [B, N, 2, Y, X] in 0..1."""
    x, y = pixel_centres(HEIGHT, WIDTH)
    time = torch.arange(first, first + frames, dtype=torch.float32)
    dx = x - places(scene.classes, time)[..., None, None]
    return shape_mask(scene.classes[:, [0, 2]][:, None, :, None, None], dx, y - HEIGHT / 2)


def render(scene: Scene, frames: int, first: int = 0) -> Tensor:
    """Frames first .. first + frames - 1 (may be negative) -> float32 [B, N, 3, Y, X] in 0..1."""
    picture = scene.background[:, None, :, None, None]
    covered = coverage(scene, frames, first)
    for subject in (1, 0):  # the one in front is painted last
        alpha = covered[:, :, subject, None]
        picture = alpha * scene.rgb[:, None, subject, :, None, None] + (1 - alpha) * picture
    return picture


def caption(classes: Tensor | list[int]) -> str:
    """The sentence for one video's classes [6]."""
    shape, colour, other_shape, other_colour, direction, background = (
        words[int(index)] for words, index in zip(VOCABULARY, classes, strict=True)
    )
    return (
        f"a {colour} {shape} goes {direction} in front of a {other_colour} {other_shape} on a {background} background"
    )


def parse_caption(text: str) -> list[int]:
    """Classes named in a sentence: what stands before "front" is of the subject in front, what stands after it of the other.

    Raises ValueError that says what is missing or named twice.
    """
    words, example = words_of(text), caption([0, 0, 2, 4, 0, 0])
    if words.count("front") != 1:
        raise ValueError(f'prompt {text[:80]!r} does not say once "in front of": the crowd world needs {example!r}')
    cut = words.index("front")
    asked = (
        (words[:cut], "shape in front"), (words[:cut], "colour in front"), (words[cut:], "shape behind"),
        (words[cut:], "colour behind"), (words, "direction"), (words, "background"),
    )  # fmt: skip
    classes = [
        named(text, said, group, name, "crowd", example) for (said, name), group in zip(asked, VOCABULARY, strict=True)
    ]
    if classes[1] == classes[3]:
        raise ValueError(f"prompt {text[:80]!r} gives both subjects one colour; theirs differ, as in {example!r}")
    return classes
