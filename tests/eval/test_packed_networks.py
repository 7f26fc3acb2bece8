"""Networks on a CPU with their linears by oneDNN: the same to rounding, no farther from float64, and no torch linear left."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.vbench.ours import packed_flops
from deepforcing.torchvision_cpu import make_importable
from eval.networks.linears import SMALLEST, PackedAttention, PackedPoint, pack, products


def drawn(*sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(1))


class Tower(nn.Module):
    """What the networks are made of: attention of tokens first, a mask, a linear, one that is too small."""

    def __init__(self) -> None:
        super().__init__()
        self.attn, self.wide, self.narrow = nn.MultiheadAttention(256, 4), nn.Linear(256, 512), nn.Linear(512, 8)

    def forward(self, x: Tensor) -> Tensor:
        mask = torch.full((len(x), len(x)), float("-inf")).triu(1).to(x.dtype)
        x = x + self.attn(x, x, x, need_weights=False, attn_mask=mask)[0]
        out: Tensor = self.narrow(torch.relu(self.wide(x)))
        return out


def test_packed_is_the_same_to_rounding() -> None:
    torch.manual_seed(0)
    plain = Tower().eval().requires_grad_(False)
    exact, packed = copy.deepcopy(plain).double(), pack(copy.deepcopy(plain))
    assert isinstance(packed.get_submodule("attn"), PackedAttention)
    assert not isinstance(packed.get_submodule("wide"), nn.Linear)
    assert packed.get_submodule("narrow").weight.numel() < SMALLEST
    assert isinstance(packed.get_submodule("narrow"), nn.Linear)
    x = drawn(12, 3, 256)
    want = exact(x.double())
    errors = [float((network(x).double() - want).abs().mean()) for network in (plain, packed)]
    assert errors[1] < 1.5 * errors[0] < 1e-5
    assert pack(packed) is packed


def test_clips_tower_is_the_packages_to_rounding() -> None:
    make_importable()
    from clip.model import VisionTransformer

    torch.manual_seed(0)
    tower = VisionTransformer(64, 16, 256, 2, 4, 32).eval().requires_grad_(False)
    pictures = drawn(3, 3, 64, 64)
    torch.testing.assert_close(pack(copy.deepcopy(tower))(pictures), tower(pictures), atol=1e-5, rtol=0)


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_single_pixels_and_products(layout: torch.memory_format) -> None:
    torch.manual_seed(0)
    conv = nn.Sequential(nn.Conv2d(256, 300, 1), nn.Conv2d(300, 256, 3)).eval().requires_grad_(False)
    packed = pack(copy.deepcopy(conv))
    assert isinstance(packed[0], PackedPoint)
    assert isinstance(packed[1], nn.Conv2d)
    x = drawn(2, 256, 6, 7).contiguous(memory_format=layout)
    torch.testing.assert_close(packed(x), conv(x), atol=1e-5, rtol=0)
    a, b = drawn(2, 40, 256), drawn(2, 256, 300)
    torch.testing.assert_close(products(a, b), a @ b, atol=2e-4, rtol=0)


def test_what_cannot_be_packed_stays() -> None:
    half = Tower().bfloat16()
    assert pack(half) is half
    assert isinstance(half.attn, nn.MultiheadAttention)
    attention = pack(Tower().eval().requires_grad_(False)).get_submodule("attn")
    with pytest.raises(AssertionError):  # over other tokens than its own
        attention(drawn(4, 1, 256), drawn(4, 1, 256), drawn(4, 1, 256))


def test_packed_operations_are_counted() -> None:
    linear = nn.Sequential(nn.Linear(256, 512)).eval().requires_grad_(False)
    x = drawn(5, 7, 256)
    with FlopCounterMode(display=False, custom_mapping={torch.ops.mkldnn._linear_pointwise: packed_flops}) as counter:
        pack(linear)(x)
    assert counter.get_total_flops() == 2 * 35 * 256 * 512
