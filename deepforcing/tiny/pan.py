"""The pan: a camera that moves at constant speed along a row of landmarks that never ends and never repeats.

Every chunk of 12 frames brings exactly one more landmark into view, in a colour of its own that no caption names and that
differs from its neighbours'; what has left the view does not come back. The caption names what the landmarks are, how
tall, the camera's direction, the sky and the ground. So the right video keeps sky, ground and speed, keeps each landmark
as long as it is seen, and keeps inventing. Everything is a pure function of `Scene`, so any frame of any length has a
ground truth.

Shapes: B videos, N pixel frames, Y and X pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from deepforcing.tiny.sprites import COLOURS, HUES, hsv_to_rgb, named, pixel_centres, uniform, words_of

NAME = "tiny_pan"
DATA_VERSION = "pan-1"
HEIGHT, WIDTH = 16, 32  # pixels: 32 tokens of 4 x 4
ABOUT = "32 × 16 pixels, a row of coloured landmarks"
MODEL = {"dim": 96, "ffn_dim": 384, "num_heads": 3, "num_layers": 4}
SPACING = 8  # pixels from landmark to landmark
SPEED = 2 / 3  # pixels a frame: SPACING in the 12 frames of a chunk
GROUND = 3.0  # pixels from the bottom to where the ground ends
HALF_WIDTH = 3.0  # pixels, of a landmark at its foot
FIRST = 9.0  # x of landmark 0's centre at frame 0: landmark 4 comes into view with frame 9, the second chunk's first
LANDMARKS = ("houses", "trees", "domes")
HEIGHTS = ("low", "tall")
TOPS = (6.0, 10.0)  # pixels above the ground
DIRECTIONS = ("right", "left")
SKIES = ("day", "dusk", "night", "fog")
GROUNDS = ("grass", "sand", "snow", "soil")
VOCABULARY = (HEIGHTS, LANDMARKS, DIRECTIONS, SKIES, GROUNDS)
SKY_RGB = ((0.58, 0.70, 0.82), (0.76, 0.60, 0.54), (0.10, 0.12, 0.20), (0.72, 0.72, 0.72))
GROUND_RGB = ((0.28, 0.40, 0.22), (0.78, 0.70, 0.54), (0.90, 0.92, 0.95), (0.34, 0.26, 0.20))
COLOUR_RGB = hsv_to_rgb(torch.tensor(HUES), torch.full((6,), 0.85), torch.full((6,), 0.9))  # [6, 3] of landmarks


@dataclass
class Scene:
    """A batch of videos. classes: int64 [B, 5], indices into VOCABULARY; the rest one row per video.

    seed: int64 [B], of the landmarks' colours.
    """

    classes: Tensor
    seed: Tensor
    sky: Tensor  # [B, 3]
    ground: Tensor  # [B, 3]


def sample_scenes(classes: Tensor, generator: torch.Generator) -> Scene:
    """Random details for given captions. classes: int64 [B, 5]."""
    batch = len(classes)

    def jitter() -> Tensor:
        return uniform(-0.06, 0.06, batch, 3, generator=generator)

    return Scene(
        classes=classes,
        seed=torch.randint(0, 2**31, (batch,), generator=generator),
        sky=(torch.tensor(SKY_RGB)[classes[:, 3]] + jitter()).clamp(0, 1),
        ground=(torch.tensor(GROUND_RGB)[classes[:, 4]] + jitter()).clamp(0, 1),
    )


def random_classes(batch: int, generator: torch.Generator) -> Tensor:
    """Uniformly random captions, int64 [B, 5]."""
    return torch.stack([torch.randint(0, len(words), (batch,), generator=generator) for words in VOCABULARY], -1)


def landmark_colours(seed: Tensor, last: int) -> Tensor:
    """Indices into COLOURS of landmarks -2 .. last of each video, int64 [B, last + 3]; neighbours differ.

    By a hash of seed and number (splitmix64's mixing), so that a landmark has its colour whatever else is asked for.
    """
    mixed = seed[:, None] * 0x2545F4914F6CDD1D + torch.arange(last + 3) * 0x1E3779B97F4A7C15
    for factor in (0x3F58476D1CE4E5B9, 0x14D049BB133111EB):
        mixed = (mixed ^ (mixed >> 30 & 0x3FFFFFFFF)) * factor
    mixed = (mixed ^ (mixed >> 31)) & 0x7FFFFFFF
    steps = torch.cat([mixed[:, :1] % len(COLOURS), 1 + mixed[:, 1:] % (len(COLOURS) - 1)], 1)
    return steps.cumsum(1) % len(COLOURS)


def landmark_mask(kind: Tensor, top: Tensor, dx: Tensor, height: Tensor) -> Tensor:
    """Anti-aliased coverage 0..1 at `dx` pixels beside a landmark's middle and `height` above the ground; all broadcast."""
    share = (height / top).clamp(0, 1)
    tree, dome = HALF_WIDTH * (1 - share) + 0.5, HALF_WIDTH * (1 - share**2).sqrt()
    width = torch.where(kind == 0, torch.full_like(share, HALF_WIDTH), torch.where(kind == 1, tree, dome))
    return (width - dx.abs() + 0.5).clamp(0, 1) * (top - height + 0.5).clamp(0, 1) * (height >= 0)


def render(scene: Scene, frames: int, first: int = 0) -> Tensor:
    """Frames first .. first + frames - 1 (may be negative, down to -9) -> float32 [B, N, 3, Y, X] in 0..1."""
    x, y = pixel_centres(HEIGHT, WIDTH)
    camera = torch.arange(first, first + frames, dtype=torch.float64) * SPEED
    along = x[0].double() + camera[:, None]  # [N, X]: where each column looks when the camera moves right
    number = ((along - FIRST) / SPACING).round()
    dx = (along - FIRST - SPACING * number).float()
    colours = COLOUR_RGB[landmark_colours(scene.seed, int(number.max()))[:, number.long() + 2]]  # [B, N, X, 3]
    kind, top = scene.classes[:, 1, None, None, None], torch.tensor(TOPS)[scene.classes[:, 0]][:, None, None, None]
    above = HEIGHT - GROUND - y[:, 0]  # pixels above the ground, [Y]
    covered = landmark_mask(kind, top, dx[None, :, None, :], above[None, None, :, None])[:, :, None]
    ground = (above < 0).float()[:, None]
    behind = ground * scene.ground[..., None, None] + (1 - ground) * scene.sky[..., None, None]  # [B, 3, Y, 1]
    picture = covered * colours.permute(0, 1, 3, 2)[:, :, :, None] + (1 - covered) * behind[:, None]
    mirrored = (scene.classes[:, 2] == 1)[:, None, None, None, None]
    return torch.where(mirrored, picture.flip(-1), picture)


def caption(classes: Tensor | list[int]) -> str:
    """The sentence for one video's classes [5]."""
    height, landmark, direction, sky, ground = (
        words[int(index)] for words, index in zip(VOCABULARY, classes, strict=True)
    )
    return f"the camera pans {direction} along {height} {landmark} on {ground} in a sky of {sky}"


def parse_caption(text: str) -> list[int]:
    """Classes named in a sentence: one word of each group of VOCABULARY, in any order; other words are ignored.

    Raises ValueError that says which group is missing or named twice.
    """
    words, example = words_of(text), caption([1, 0, 0, 0, 0])
    names = ("height", "landmark", "direction", "sky", "ground")
    return [named(text, words, group, name, "pan", example) for group, name in zip(VOCABULARY, names, strict=True)]
