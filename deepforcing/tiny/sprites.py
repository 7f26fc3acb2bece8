"""What the embedded worlds' renderers share: colours by hue, pixel grids, captions read group by group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

COLOURS = ("red", "yellow", "green", "cyan", "blue", "magenta")
HUES = tuple(i / 6 for i in range(6))


def hsv_to_rgb(h: Tensor, s: Tensor, v: Tensor) -> Tensor:
    """Hue in turns, saturation and value in 0..1, of one shape -> [..., 3]."""

    def channel(n: int) -> Tensor:
        k = (n + h * 6) % 6
        return v - v * s * torch.clamp(torch.minimum(k, 4 - k), 0, 1)

    return torch.stack([channel(5), channel(3), channel(1)], -1)


def pixel_centres(height: int, width: int) -> tuple[Tensor, Tensor]:
    """x and y of pixel centres, each [height, width]."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return x, y


@dataclass(frozen=True)
class Outline:
    """Of the three shapes, in pixels. disc: radius. ring: radius of its line, which is 2 half_line wide. arm: from the cross's
    middle to its ends, 2 half_arm wide."""

    disc: float
    ring: float
    half_line: float
    arm: float
    half_arm: float


def sprite_mask(shape: int | Tensor, dx: Tensor, dy: Tensor, of: Outline) -> Tensor:
    """Anti-aliased coverage 0..1 of a shape (0 disc, 1 ring, 2 cross) centred at offsets (dx, dy) = 0; `shape` broadcasts
    against dx."""
    radius = (dx**2 + dy**2).sqrt()
    disc = radius - of.disc
    ring = (radius - of.ring).abs() - of.half_line
    ax, ay = dx.abs(), dy.abs()
    cross = torch.minimum(torch.maximum(ax - of.arm, ay - of.half_arm), torch.maximum(ax - of.half_arm, ay - of.arm))
    shape = torch.as_tensor(shape)
    distance = torch.where(shape == 0, disc, torch.where(shape == 1, ring, cross))
    return (0.5 - distance).clamp(0, 1)


def uniform(low: float, high: float, *shape: int, generator: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=generator)


def words_of(text: str) -> list[str]:
    """Lower-case words; everything but letters separates them."""
    return "".join(c if c.isalpha() else " " for c in text.lower()).split()


def named(text: str, words: Sequence[str], group: Sequence[str], name: str, world: str, example: str) -> int:
    """The index of the one word of a group among `words`, which are of the prompt `text`.

    Raises ValueError in one line, with what can be said and an example, where none is named or several are.
    """
    found = sorted({group.index(word) for word in words if word in group})
    if len(found) != 1:
        problem = "names no" if not found else "names more than one"
        raise ValueError(
            f"prompt {text[:80]!r} {problem} {name}; the {world} world knows {', '.join(group)}, as in {example!r}"
        )
    return found[0]
