"""Self-attention in FP8 (e4m3), emulated: what it does to latents and metrics, not its speed.

As FlashAttention 3's FP8 kernel (arXiv 2407.08608, section 3.3): queries, keys and values with a scale, logits and sums in
float32, probabilities rounded too before they meet the values. Deviations: no rotation of queries and keys by a random
orthogonal matrix (the paper's "incoherent processing"), a scale per head instead of per block of it, and probabilities are
rounded relative to the row's largest, not to the largest so far. Cross-attention, a hundredth of the arithmetic,
stays.

No kernel is called: products of rounded numbers in float32, a head at a time, on any device, several times slower than exact.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import Tensor

from deepforcing.lossy.exact import Exact

if TYPE_CHECKING:
    from deepforcing.generator import GeneratorSpec
    from deepforcing.wan.transformer import CausalWan

LARGEST = torch.finfo(torch.float8_e4m3fn).max


@dataclass(frozen=True)
class FP8Attention(Exact):
    """See the file's head."""

    changes: ClassVar[bool] = True

    def check(self, spec: GeneratorSpec) -> None:
        super().check(spec)
        if spec.attention != "torch":
            raise ValueError(
                f"lossy={self.name} computes attention by itself: use attention=torch, not {spec.attention}"
            )
        if spec.backend == "graphs":
            raise ValueError(
                f"lossy={self.name} is an emulation and goes with backend=plain, packed or compiled, not graphs"
            )

    def change(self, model: CausalWan) -> None:
        model.kernels = replace(model.kernels, self_attention=attend)


def attend(q_BHLD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, mask: Tensor | None = None) -> Tensor:
    """wan.attention.attend, rounded."""
    heads = q_BHLD.shape[1]
    q, k, v = (per_head(x) for x in (q_BHLD, k_BHTD, v_BHTD))
    out = torch.empty(q_BHLD.shape, device=q.device, dtype=q_BHLD.dtype)
    for head in range(heads):
        logits = q[:, head] @ k[:, head].transpose(1, 2) * q.shape[-1] ** -0.5
        if mask is not None:
            seen = mask[:, min(head, mask.shape[1] - 1)]
            logits = logits.masked_fill(~seen, float("-inf")) if mask.dtype == torch.bool else logits + seen
        weights = (logits - logits.amax(-1, keepdim=True)).exp_()
        total = weights.sum(-1, keepdim=True)
        # The largest is 1 and e4m3's smallest 2^-9: scaled up to its range, as the kernel does.
        fine = (weights * LARGEST).to(torch.float8_e4m3fn).float()
        out[:, head] = (fine @ v[:, head] / (LARGEST * total)).to(out.dtype)
    return out


def per_head(x_BHLD: Tensor) -> Tensor:
    """Rounded to e4m3 with a scale for every head, as float32."""
    scale = x_BHLD.float().abs().amax((2, 3), keepdim=True).clamp(min=1e-12) / LARGEST
    return (x_BHLD.float() / scale).clamp(-LARGEST, LARGEST).to(torch.float8_e4m3fn).float() * scale
