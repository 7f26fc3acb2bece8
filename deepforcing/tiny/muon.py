"""Muon (Jordan et al., 2024): momentum whose direction is orthogonalised, for the transformer's matrices.

torch.optim.Muon computes the same in bfloat16, matrix by matrix, which took 0.3 s an update of this model on 2 CPU cores;
stacking equal shapes in float32 takes 0.05 s.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import torch
from torch import Tensor

NEWTON_SCHULZ = (3.4445, -4.7750, 2.0315)


def orthogonalise(m: Tensor, steps: int = 5) -> Tensor:
    """Approximate U V^T of a stack of matrices [n, rows, columns] by a quintic Newton-Schulz iteration."""
    a, b, c = NEWTON_SCHULZ
    wide = m.shape[1] <= m.shape[2]
    x: Tensor = m if wide else m.mT
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp_min(1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x if wide else x.mT


class Muon(torch.optim.Optimizer):
    """For 2-d parameters only. The update's RMS is 0.2, like AdamW's, so both can share one learning rate."""

    def __init__(self, params: Sequence[Tensor], lr: float, momentum: float = 0.95, weight_decay: float = 0.01) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    shapes[p.shape].append(p)
            for shape, params in shapes.items():
                grads = [p.grad for p in params if p.grad is not None]
                for p in params:
                    if not self.state[p]:
                        self.state[p]["momentum"] = torch.zeros_like(p)
                buffers = [self.state[p]["momentum"] for p in params]
                torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
                nesterov = torch.stack([g.lerp(m, group["momentum"]) for g, m in zip(grads, buffers, strict=True)])
                scale = group["lr"] * 0.2 * max(shape) ** 0.5
                torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_sub_(params, [scale * u for u in orthogonalise(nesterov)])
