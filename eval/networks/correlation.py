"""Correlations of one frame's cells with another's, pooled over 2, 4 and 8 cells, which RAFT and AMT-S look matches up in.

b frames, C channels, h x w cells. A cell is at (x, y), counted from the upper left one.
"""

from __future__ import annotations

import functools
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.networks.linears import products

LEVELS = 4
TILE = 8  # cells a side: what shares a window
SLACK = 2.0  # cells that a window has beyond what is looked up at first, on each side
FAR = 2.0**16  # cells: at such places float32 has no distances between cells any more to weight by
WORTH = 0.5  # the part of all products up to which windows are faster


class Correlation(Protocol):
    """Scalar products of cells of a frame with cells of the other, over the square root of C."""

    def around(self, place: Tensor) -> Tensor:
        """Bilinear samples around places [b, 2, h, w] on each level, [b, 4 * (2 radius + 1)^2, h, w]; channels last in memory.

        Zero beyond the other frame. A level that is one cell wide or high gives NaN, as in the package: such frames (a side
        of up to 120 px) have no flow.
        """


def correlation(features: Tensor, other: Tensor, radius: int) -> Correlation:
    """Of features [b, C, h, w] with the other frame's: on a CPU those products alone that are looked up.

    Which these are is asked of places while they are computed: a GPU would wait for it, torch.compile compile each answer anew.
    """
    nearby = (
        features.device.type == "cpu" and min(features.shape[2:]) >= 2**LEVELS and not torch.compiler.is_compiling()
    )
    return Nearby(features, other, radius) if nearby else Everywhere(features, other, radius)


def pooled(features: Tensor) -> list[Tensor]:
    """Each level's. The mean of products with four cells is the product with their mean, and takes 1 / w of the work."""
    levels = [features]
    for _ in range(1, LEVELS):
        levels.append(F.avg_pool2d(levels[-1], 2))
    return levels


class Everywhere:
    """Of every cell with every cell, at once."""

    def __init__(self, features: Tensor, other: Tensor, radius: int) -> None:
        b, channels, h, w = features.shape
        rows = features.flatten(2).transpose(1, 2) / channels**0.5
        self._levels = [
            products(rows, level.flatten(2)).view(b * h * w, 1, *level.shape[2:]) for level in pooled(other)
        ]
        # The offset that runs first is the horizontal one: the weights are trained with this order.
        reach = torch.arange(-radius, radius + 1, device=features.device, dtype=torch.float32)
        self._window = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), -1)[None]
        self._ends = [last_cell(v.shape[3], v.shape[2], v.device) for v in self._levels]

    def around(self, place: Tensor) -> Tensor:
        b, _, h, w = place.shape
        centre = place.permute(0, 2, 3, 1).reshape(b * h * w, 1, 1, 2)
        found = []
        for level, (volume, ends) in enumerate(zip(self._levels, self._ends, strict=True)):
            grid = 2 * (centre / 2**level + self._window) / ends - 1
            found.append(F.grid_sample(volume, grid, align_corners=True).view(b, h, w, -1))
        return torch.cat(found, -1).permute(0, 3, 1, 2)


@functools.cache
def last_cell(width: int, height: int, device: torch.device) -> Tensor:
    """[2]. Once: numbers that come from the host cannot be recorded as a part of a CUDA graph."""
    return torch.tensor([width - 1.0, height - 1.0], device=device)


class Nearby:
    """Of the cells of a tile with those of a window of the other frame, which follows what the tile looks up.

    Where flows are small or even, that is a tenth of all products, and where they are not, all are taken at once. All samples
    around a place have the same distance to the cells beside them: they are cut from cells and weighted once, not one by one.
    """

    def __init__(self, features: Tensor, other: Tensor, radius: int) -> None:
        _, channels, h, w = features.shape
        self._given, self._radius, self._slack = (features, other, radius), radius, SLACK
        self._everywhere: Everywhere | None = None
        self._held: tuple[Tensor, Tensor] | None = None  # least and greatest place that a tile's windows are made for
        rows, columns = torch.arange(h), torch.arange(w)
        down, across = -(-h // TILE), -(-w // TILE)
        # [tiles, TILE^2]: cells; a tile that goes beyond the frame has its last ones several times.
        y = torch.arange(down * TILE).clamp(max=h - 1).view(down, 1, TILE, 1)
        x = torch.arange(across * TILE).clamp(max=w - 1).view(1, across, 1, TILE)
        self._cells = (y * w + x).view(down * across, TILE**2)
        # [h w]: where a cell is among those.
        self._tile = ((rows // TILE)[:, None] * across + columns // TILE).flatten()
        self._within = (self._tile.view(h, w) * TILE**2 + (rows % TILE)[:, None] * TILE + columns % TILE).flatten()
        found = features.flatten(2).mT / channels**0.5
        self._rows = found[:, self._cells].flatten(0, 1)  # [b tiles, TILE^2, C]
        # [b (h' w' + 1), C] of each level: the last row of each frame, zeros, stands for what is beyond it.
        self._others = [F.pad(level.flatten(2).mT, (0, 0, 0, 1)).flatten(0, 1) for level in pooled(other)]
        self._sizes = [(w // 2**level, h // 2**level) for level in range(LEVELS)]

    def around(self, place: Tensor) -> Tensor:
        b, _, h, w = place.shape
        if self._everywhere is None and not self._cover(place.flatten(2)):
            self._everywhere = Everywhere(*self._given)
        if self._everywhere is not None:
            return self._everywhere.around(place)
        side = 2 * self._radius + 1
        found = place.new_empty(b * h * w, LEVELS, side, side)
        for level, (first, (columns, rows), volume) in enumerate(self._windows):
            scaled = place.flatten(2) / 2**level
            corner = scaled.floor()
            x, y = (corner - self._radius - first[:, :, self._tile]).long().unbind(1)  # [b, h w]
            start = (torch.arange(b)[:, None] * self._cells.numel() + self._within) * (columns * rows) + x * rows + y
            offsets = start.view(-1, 1) + rows * torch.arange(side + 1)
            cells = volume.unfold(0, side + 1, 1).index_select(0, offsets.view(-1)).view(b * h * w, -1)
            right, down = (scaled - corner).transpose(0, 1).reshape(2, -1, 1)
            # The offset that runs first is the horizontal one: the weights are trained with this order.
            between = torch.lerp(cells[:, : -side - 1], cells[:, side + 1 :], right).view(-1, side, side + 1)
            torch.lerp(between[..., :-1], between[..., 1:], down[..., None], out=found[:, level])
        return found.view(b, h, w, -1).permute(0, 3, 1, 2)

    def _cover(self, place: Tensor) -> bool:
        """Have windows that hold what is looked up around places [b, 2, h w]. False if they are not worth it."""
        of_tile = place[:, :, self._cells]
        low, high = of_tile.amin(-1).floor(), of_tile.amax(-1).floor()  # [b, 2, tiles]
        if self._held is not None and bool((low >= self._held[0]).all() and (high <= self._held[1]).all()):
            return True
        low, high = self._held = low - self._slack, high + self._slack
        self._slack *= 2  # so that a flow that is still on its way does not ask often
        wanted = []
        for level in range(LEVELS):
            first = (low / 2**level).floor() - self._radius
            last = (high / 2**level).floor() + self._radius + 1
            wanted.append((first, ((last - first).amax((0, 2)) + 1).tolist()))  # columns, rows
        one, all_of_one = sum(x * y for _, (x, y) in wanted), sum(x * y for x, y in self._sizes)
        near = bool((low.abs() < FAR).all() and (high.abs() < FAR).all())  # and numbers
        if not near or one > WORTH * all_of_one:
            return False
        self._windows = [
            (first, size, self._products(level, first, size))
            for level, (first, (x, y)) in enumerate(wanted)
            for size in [(int(x), int(y))]
        ]
        return True

    def _products(self, level: int, first: Tensor, size: tuple[int, int]) -> Tensor:
        """Flat, of [b, tiles, TILE^2, columns, rows]: each tile's cells with a window that begins at first [b, 2, tiles]."""
        (across, down), others = self._sizes[level], self._others[level]
        x, y = (begin.long()[..., None] + torch.arange(n) for begin, n in zip(first.unbind(1), size, strict=True))
        inside = ((x >= 0) & (x < across))[..., :, None] & ((y >= 0) & (y < down))[..., None, :]
        at = torch.where(inside, y[..., None, :] * across + x[..., :, None], across * down)
        at += (torch.arange(len(at)) * (across * down + 1)).view(-1, 1, 1, 1)
        windows = others.index_select(0, at.flatten()).view(len(self._rows), -1, others.shape[1])
        found: Tensor = self._rows @ windows.mT
        return found.flatten()
