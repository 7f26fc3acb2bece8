"""The one place where attention is computed."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def attend(q_BHLD: Tensor, k_BHTD: Tensor, v_BHTD: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention, scale 1/sqrt(D). mask: bool, True = visible, broadcastable to [B, H, L, T]; None: all visible."""
    return F.scaled_dot_product_attention(q_BHLD, k_BHTD, v_BHTD, attn_mask=mask)
