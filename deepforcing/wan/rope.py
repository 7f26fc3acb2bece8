"""Rotary position embedding over (time, row, column), as in Wan2.1.

A head's channels are interleaved pairs; the first pairs turn with time, then rows, then columns, each at frequencies
theta^(-i/n). Angles are computed in float64 for any integer position, so nothing is tabulated and nothing ends at 1024;
the rotation itself runs in float32 (the published code: float64; the difference is one float32 rounding).

Shapes: B batch, H heads, L tokens, P channel pairs, D = 2P channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextvars import ContextVar

import torch
from torch import Tensor

THETA = 10000.0
TABLE_FRAMES = 1024  # length of the published implementations' position table: their absolute positions end here

by_kernel = ContextVar("by_kernel", default=False)
"""Whether tensors on a GPU are turned by rope_kernel.py. Set for the time of a model's passes (wan/kernels.py)."""


class Rope:
    """Angles for one model and token grid on one device.

    split: channel pairs for (time, row, column), see WanConfig.rope_split. grid: (rows, columns) of one latent frame.
    """

    def __init__(self, split: tuple[int, int, int], grid: tuple[int, int], device: torch.device | str = "cpu") -> None:
        self.split = split
        self.grid = grid
        self.device = torch.device(device)
        exponents = [torch.arange(n, dtype=torch.float64, device=device) / n for n in split]
        self.time_freqs, row_freqs, column_freqs = (THETA**-e for e in exponents)
        rows, columns = grid
        row = torch.arange(rows, dtype=torch.float64, device=device)[:, None] * row_freqs
        column = torch.arange(columns, dtype=torch.float64, device=device)[:, None] * column_freqs
        self.space_SP = torch.cat(
            [row[:, None].expand(rows, columns, -1), column[None].expand(rows, columns, -1)], dim=-1
        ).reshape(rows * columns, -1)

    def frames(self, positions: Sequence[int] | Tensor) -> Tensor:
        """Rotations of whole latent frames at integer temporal positions -> complex64 [len(positions) * S, P]."""
        # non_blocking: the host must not wait for the device here, once per chunk and inside the first pass.
        time_F = torch.as_tensor(positions, dtype=torch.float64).to(self.device, non_blocking=True)
        angles_FSP = torch.cat(
            [
                (time_F[:, None] * self.time_freqs)[:, None].expand(-1, self.space_SP.shape[0], -1),
                self.space_SP[None].expand(time_F.shape[0], -1, -1),
            ],
            dim=-1,
        ).flatten(0, 1)
        return torch.polar(torch.ones_like(angles_FSP), angles_FSP).to(torch.complex64)

    def tokens(self, time: Tensor, place: Tensor) -> Tensor:
        """Rotations of single tokens. time, place: [..., L] temporal position and token index within its frame.

        Returns complex64 [..., L, P].
        """
        angles = torch.cat([time.double()[..., None] * self.time_freqs, self.space_SP[place]], dim=-1)
        return torch.polar(torch.ones_like(angles), angles).to(torch.complex64)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn channel pairs. x: [..., L, D]; rotation: complex64 broadcastable to [..., L, P]. Keeps x's dtype."""
    if x.is_cuda and by_kernel.get():
        from deepforcing.wan.rope_kernel import turn  # Triton, which only GPUs have

        return turn(x, rotation)
    pairs = torch.view_as_complex(x.float().view(*x.shape[:-1], x.shape[-1] // 2, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).to(x.dtype)
