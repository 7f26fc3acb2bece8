"""The one place where attention is computed."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar

import torch.nn.functional as F
from torch import Tensor

self_attention: ContextVar[Callable[..., Tensor] | None] = ContextVar("self_attention", default=None)
"""What computes self-attention in place of `attend`; set for the time of a model's passes (kernels.py)."""


def attend(q_BHLD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention, scale 1/sqrt(D). mask: bool, True = visible, broadcastable to [B, H, L, T]; None: all visible."""
    return F.scaled_dot_product_attention(q_BHLD, k_BHTD, v_BHTD, attn_mask=mask)


def attend_to_past(q_BHLD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, mask: Tensor | None = None) -> Tensor:
    """`attend`, for self-attention."""
    return (self_attention.get() or attend)(q_BHLD, k_BHTD, v_BHTD, mask)
