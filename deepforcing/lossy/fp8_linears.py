"""The blocks' linears in FP8 (e4m3): weights with a scale per output, inputs with one per token, found anew in every product.

On a GPU by torchao (`Float8DynamicActivationFloat8WeightConfig`, a scale per row): Ada, Hopper and newer have matrix units for
it. On a CPU the same rounding and a product in the run's dtype, which costs time instead of saving it, to see what FP8 does to
latents and metrics. The rounding equals torchao's to the bit (a test). torchao's products on a GPU have not been run, so how
they add up is not in the comparison.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from deepforcing.lossy.exact import Exact

if TYPE_CHECKING:
    from deepforcing.generator import GeneratorSpec
    from deepforcing.wan.transformer import CausalWan

E4M3 = torch.float8_e4m3fn
LARGEST = torch.finfo(E4M3).max  # 448
PARTS = ("self_attn.q", "self_attn.k", "self_attn.v", "self_attn.o", "cross_attn.q", "cross_attn.o", "ffn.0", "ffn.2")
"""Of every block. Not the text's keys and values, computed once a video, and not what stands before and after the blocks."""


@dataclass(frozen=True)
class FP8Linears(Exact):
    """See the file's head."""

    changes: ClassVar[bool] = True

    def check(self, spec: GeneratorSpec) -> None:
        super().check(spec)
        if spec.backend == "packed":
            raise ValueError(f"lossy={self.name} replaces the linears that backend=packed packs: use backend=plain")

    def check_device(self, device: torch.device, dtype: torch.dtype) -> None:
        if device.type != "cuda":
            return
        why = None
        if dtype != torch.bfloat16:
            why = "torchao scales rows of bfloat16 weights only: use dtype=bfloat16"
        elif torch.cuda.get_device_capability(device) < (8, 9):
            why = "this GPU has no FP8 matrix units (Ada, Hopper and newer have)"
        elif importlib.util.find_spec("torchao") is None:
            why = "it needs the package torchao: pip install -e '.[fp8]'"
        if why is not None:
            raise ValueError(f"lossy={self.name} does not work here: {why}")

    def change(self, model: CausalWan) -> None:
        if model.patch_embedding.weight.is_cuda:
            by_torchao(model)
            return
        for block in model.blocks:
            for name in PARTS:
                linear = block.get_submodule(name)
                assert isinstance(linear, nn.Linear)
                block.set_submodule(name, RoundedLinear(linear))


def by_torchao(model: CausalWan) -> None:
    """The parts' weights become torchao's tensors; their linears stay torch's. Not run: it needs a GPU."""
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, PerRow, quantize_

    config = Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    quantize_(model.blocks, config, filter_fn=lambda module, name: name.partition(".")[2] in PARTS)


def rounded(x: Tensor) -> Tensor:
    """x rounded to e4m3, with a scale for every row (its last axis), as its own dtype. A row of zeros stays."""
    scale = x.float().abs().amax(-1, keepdim=True).clamp(min=1e-12) / LARGEST
    return ((x.float() / scale).clamp(-LARGEST, LARGEST).to(E4M3).float() * scale).to(x.dtype)


class RoundedLinear(nn.Module):
    """A linear whose weight and input are rounded; the product itself is not."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(rounded(linear.weight.detach())), linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(rounded(x), self.weight, self.bias)
