"""Small networks in place of RAFT, AMT-S and MUSIQ, so that what is left to be measured is everything but networks.

The two image towers, DINO and ViCLIP are small by their weights (vbench.weights). These three have fixed sizes, in the
package and so in ours: here their constructors are replaced, in both alike. What each keeps:

RAFT    the correlation pyramid and its lookups, two of twenty iterations, 16 of 128 channels, encoders of one layer
AMT-S   the mean of both frames, a little darker
MUSIQ   all patches at three scales, a root of one convolution to 8 of 64 channels, one of 14 layers, 48 of 384 channels
"""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor, nn

from eval.networks import raft
from eval.networks.package import vbench_module

ITERATIONS = 2
CHANNELS = 16


def shrink() -> None:
    """Replace the constructors, for good: in a process of its own, before anything imports AMT-S by name."""
    shrink_raft(vbench_module("third_party.RAFT.core.raft").RAFT, vbench_module("third_party.RAFT.core.update"))
    vbench_module("third_party.amt.networks.AMT-S").Model = SmallAmt
    vbench_module("third_party.amt.utils.build_utils")  # it makes these modules importable by shorter names
    importlib.import_module("networks.AMT-S").Model = SmallAmt  # type: ignore[attr-defined]
    shrink_musiq(vbench_module("imaging_quality").MUSIQ)


class SmallEncoder(nn.Module):
    """Cells of 8 x 8 pixels; takes a list of images as the package's encoders do."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv2 = nn.Conv2d(3, channels, 8, 8)

    def forward(self, x: Any) -> Any:
        if isinstance(x, list):
            return torch.split(self.conv2(torch.cat(x)), len(x[0]))
        return self.conv2(x)


class SmallMotion(nn.Module):
    """The motion features of a correlation's lookups and a flow, by one layer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * 81 + 2, CHANNELS - 2, 1)

    def forward(self, flow: Tensor, correlation: Tensor) -> Tensor:
        return torch.cat([torch.relu(self.conv(torch.cat([correlation, flow], 1))), flow], 1)


class SmallAmt(nn.Module):
    """In place of AMT-S: the same arguments, the same kind of answer."""

    def __init__(self, **_: Any) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.tensor(0.9))

    def forward(self, img0: Tensor, img1: Tensor, embt: Tensor, **_: Any) -> dict[str, Tensor]:
        return {"imgt_pred": (img0 + img1) * (embt * self.gain)}


def shrink_raft(network: Any, update: Any) -> None:
    """The class RAFT with CHANNELS hidden ones, as many of context, and ITERATIONS; ours with as many iterations."""
    forward = network.forward

    def small(self: Any, args: Any) -> None:
        nn.Module.__init__(self)
        self.args = args
        args.corr_levels, args.corr_radius, args.alternate_corr = 4, 4, False
        self.hidden_dim = self.context_dim = CHANNELS
        self.fnet, self.cnet = SmallEncoder(2 * CHANNELS), SmallEncoder(2 * CHANNELS)
        block = self.update_block = update.BasicUpdateBlock(args, CHANNELS)
        block.encoder = SmallMotion()
        block.gru = update.SepConvGRU(CHANNELS, 2 * CHANNELS)
        block.flow_head = update.FlowHead(CHANNELS, CHANNELS)
        block.mask = nn.Conv2d(CHANNELS, 64 * 9, 1)

    def fewer(self: Any, image1: Tensor, image2: Tensor, iters: int = 0, test_mode: bool = True) -> Any:
        return forward(self, image1, image2, iters=ITERATIONS, test_mode=test_mode)

    network.__init__, network.forward = small, fewer
    raft.ITERATIONS = ITERATIONS


def shrink_musiq(network: Any) -> None:
    """The class MUSIQ with a root of one convolution to 8 channels, and one layer of 48."""
    from pyiqa.archs import musiq_arch

    whole = network.__init__

    def small(self: Any, pretrained: bool = True, pretrained_model_path: str | None = None) -> None:
        whole(self, hidden_size=48, mlp_dim=96, num_heads=2, num_layers=1, pretrained=False)
        self.conv_root = musiq_arch.StdConv(3, 8, 7, 2, bias=False)
        self.gn_root = nn.GroupNorm(8, 8, eps=1e-6)
        self.block1 = nn.Identity()
        self.embedding = nn.Linear(8 * 64, 48)
        if pretrained_model_path is not None:
            musiq_arch.load_pretrained_network(self, pretrained_model_path, True)

    network.__init__ = small
