"""Noise levels: the flow-matching sigma table of the published systems and what follows from it.

Source: Self Forcing, LongLive, Rolling Forcing, Causal Forcing (shift 5); CausVid (shift 8).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

TABLE = 1000


@dataclass(frozen=True)
class Schedule:
    """A few-step denoising schedule.

    steps: requested timesteps, integers in 0..1000, descending. warp: map step s to the shifted table's entry 1000 - s
    (all systems but CausVid's 3-step model). shift: the table is sigma = shift*u / (1 + (shift-1)*u), u = 1 ... 0.001.
    first_chunk_steps: another list for the first chunk (Causal Forcing's 1- and 2-step models).
    """

    steps: tuple[int, ...] = (1000, 750, 500, 250)
    shift: float = 5.0
    warp: bool = True
    first_chunk_steps: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "steps", tuple(self.steps))
        if self.first_chunk_steps is not None:
            object.__setattr__(self, "first_chunk_steps", tuple(self.first_chunk_steps))
        for name in ("steps", "first_chunk_steps"):
            steps = getattr(self, name)
            if steps is None:
                continue
            whole = all(isinstance(s, int) and 0 < s <= TABLE for s in steps)
            if not steps or not whole or list(steps) != sorted(set(steps), reverse=True):
                raise ValueError(
                    f"{name}={list(steps)} must be descending integers in 1..{TABLE}, e.g. [1000, 750, 500, 250]"
                )
        if not 0 < self.shift <= TABLE:
            raise ValueError(f"shift={self.shift} must be positive, at most {TABLE}; the published models use 5.0")

    def table(self) -> Tensor:
        """Sigmas, float32 [1000], descending from 1."""
        u = torch.linspace(1, 0, TABLE + 1, dtype=torch.float32)[:-1]
        return self.shift * u / (1 + (self.shift - 1) * u)

    def _steps(self, first_chunk: bool) -> tuple[int, ...]:
        return self.first_chunk_steps if first_chunk and self.first_chunk_steps is not None else self.steps

    @property
    def fewest_steps(self) -> int:
        """Of a chunk's."""
        return min(len(self._steps(first)) for first in (True, False))

    def timesteps_of(self, first_chunk: bool = False) -> list[float]:
        """Timesteps fed to the model, float32 values in 0..1000."""
        steps = self._steps(first_chunk)
        if not self.warp:
            return [float(s) for s in steps]
        table = torch.cat([self.table() * TABLE, torch.zeros(1)])
        return [float(table[TABLE - s]) for s in steps]

    def sigmas_of(self, first_chunk: bool = False) -> list[float]:
        """The nearest table entry of each timestep (the first of equals), float32 values in 0..1."""
        sigmas = self.table()
        return [float(sigmas[torch.argmin((sigmas * TABLE - t).abs())]) for t in self.timesteps_of(first_chunk)]

    @property
    def timesteps(self) -> list[float]:
        return self.timesteps_of()

    @property
    def sigmas(self) -> list[float]:
        return self.sigmas_of()
