"""RAFT's optical flow (Teed & Deng, arXiv 2003.12039) with the vbench package's layers, without its waste.

The same flow to float rounding at about two thirds of the arithmetic: a frame's features are computed once for the two
pairs that it is in, the context's share of the recurrent convolutions once for all iterations, and the learned upsampling
after the last iteration only. b pairs, H x W pixels (multiples of 8), h x w = H / 8 x W / 8 cells.
"""

from __future__ import annotations

import argparse
import functools
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.networks.checkpoint import read_state
from eval.networks.linears import pack, products
from eval.networks.package import vbench_module

ITERATIONS = 20
CELL = 8
LEVELS, RADIUS = 4, 4  # of the correlation pyramid
SMALLEST = CELL * 2 ** (LEVELS - 1)  # pixels: below, the pyramid's last level is empty
TOP = 0.05  # the share of pixels with the longest flow


@functools.cache
def load(path: Path, device: torch.device) -> Raft:
    """RAFT with the weights of a file in the layout of raft-things.pth. Raises ValueError if it is another file."""
    settings = argparse.Namespace(small=False, mixed_precision=False, alternate_corr=False)
    model = vbench_module("third_party.RAFT.core.raft").RAFT(settings)
    state = {name.removeprefix("module."): tensor for name, tensor in read_state(path).items()}
    try:
        model.load_state_dict(state)
    except RuntimeError:
        raise ValueError(f"{path} holds other tensors than RAFT-things") from None
    # On a CPU the recurrent part is a tenth faster with channels last, as Correlation.around leaves them.
    model.update_block.to(memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format)
    model = model.to(device).eval()
    pack(model.update_block)
    return Raft(model)


def pad(frames: Tensor) -> Tensor:
    """[b, 3, H, W] with its borders repeated, on both sides, to multiples of 8."""
    rows, columns = -frames.shape[2] % CELL, -frames.shape[3] % CELL
    sides = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
    return F.pad(frames, sides, mode="replicate") if any(sides) else frames


def top_magnitude(flow: Tensor) -> Tensor:
    """Mean length of the longest 5 % of a flow's vectors, [b, 2, H, W] -> [b] (px)."""
    length = flow.square().sum(1).sqrt().flatten(1)
    return length.topk(int(length.shape[1] * TOP), sorted=False).values.double().mean(1)


class Raft:
    """The network. Frames are float [b, 3, H, W] in 0..255, padded."""

    def __init__(self, model: Any) -> None:
        self._model = model
        gru = model.update_block.gru
        with torch.no_grad():
            self._passes = [
                _Pass(gru.convz1, gru.convr1, gru.convq1),
                _Pass(gru.convz2, gru.convr2, gru.convq2),
            ]

    @torch.inference_mode()
    def features(self, frames: Tensor) -> Tensor:
        """What is matched, [b, 256, h, w]: of either frame of a pair."""
        return self._model.fnet(2 * (frames / 255) - 1)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def flow(self, frames: Tensor, features: Tensor, next_features: Tensor) -> Tensor:
        """Where every pixel of a frame goes, [b, 2, H, W] (x, y; px), from its pixels, its features and the next's."""
        block = self._model.update_block
        hidden, context = self._model.cnet(2 * (frames / 255) - 1).chunk(2, 1)
        hidden, context = torch.tanh(hidden), torch.relu(context)
        contexts = [each.context(context) for each in self._passes]
        correlation = Correlation(features, next_features, RADIUS)
        layout = torch.channels_last if frames.device.type == "cpu" else torch.contiguous_format
        hidden = hidden.contiguous(memory_format=layout)
        rows, columns = (torch.arange(n, device=frames.device, dtype=torch.float32) for n in features.shape[2:])
        start = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
        place = start.expand(len(frames), -1, -1, -1)
        for _ in range(ITERATIONS):
            seen = correlation.around(place).contiguous(memory_format=layout)
            motion = block.encoder((place - start).contiguous(memory_format=layout), seen)
            for each, known in zip(self._passes, contexts, strict=True):
                hidden = each(hidden, motion, known)
            place = place + block.flow_head(hidden)
        return self._model.upsample_flow(place - start, 0.25 * block.mask(hidden))  # type: ignore[no-any-return]


class _Pass:
    """One of the two passes of the separable gated recurrent unit: along rows, then along columns.

    Its three convolutions see (hidden, context, motion). The context never changes, so its part is computed beforehand;
    the update and the reset gate see the same, so they are one convolution.
    """

    def __init__(self, update: nn.Conv2d, reset: nn.Conv2d, candidate: nn.Conv2d) -> None:
        three = (update, reset, candidate)
        assert all(conv.bias is not None for conv in three)
        self._padding = update.padding
        self._hidden = update.out_channels
        self._bias = torch.cat([conv.bias for conv in three if conv.bias is not None])
        parts = [conv.weight.chunk(3, 1) for conv in three]
        self._context = torch.cat([context for _, context, _ in parts])
        changing = [torch.cat([hidden, motion], 1) for hidden, _, motion in parts]
        self._gates, self._candidate = torch.cat(changing[:2]), changing[2]

    def context(self, context: Tensor) -> tuple[Tensor, Tensor]:
        """The context's part of the gates and of the candidate, [b, 256, h, w] and [b, 128, h, w]."""
        both = F.conv2d(context, self._context, self._bias, padding=self._padding)
        return both[:, : 2 * self._hidden], both[:, 2 * self._hidden :]

    def __call__(self, hidden: Tensor, motion: Tensor, context: tuple[Tensor, Tensor]) -> Tensor:
        gates = F.conv2d(torch.cat([hidden, motion], 1), self._gates, padding=self._padding) + context[0]
        update, reset = torch.sigmoid(gates).chunk(2, 1)
        seen = torch.cat([reset * hidden, motion], 1)
        candidate = torch.tanh(F.conv2d(seen, self._candidate, padding=self._padding) + context[1])
        return (1 - update) * hidden + update * candidate


class Correlation:
    """Scalar products of every cell of a frame with every cell of the next, also pooled over 2, 4 and 8 cells."""

    def __init__(self, features: Tensor, next_features: Tensor, radius: int) -> None:
        b, channels, h, w = features.shape
        rows = features.flatten(2).transpose(1, 2) / channels**0.5
        self._levels = []
        for level in range(LEVELS):
            if (
                level
            ):  # the mean of products with four cells is the product with their mean, and takes 1 / w of the work
                next_features = F.avg_pool2d(next_features, 2)
            volume = products(rows, next_features.flatten(2))
            self._levels.append(volume.view(b * h * w, 1, *next_features.shape[2:]))
        # The offset that runs first is the horizontal one: the weights are trained with this order.
        reach = torch.arange(-radius, radius + 1, device=features.device, dtype=torch.float32)
        self._window = torch.stack(torch.meshgrid(reach, reach, indexing="ij"), -1)[None]
        self._ends = [torch.tensor([v.shape[3] - 1.0, v.shape[2] - 1.0], device=v.device) for v in self._levels]

    def around(self, place: Tensor) -> Tensor:
        """Bilinear samples around places [b, 2, h, w] on each level, [b, 4 * (2 radius + 1)^2, h, w]; channels last in memory.

        A level that is one cell wide or high gives NaN, as in the package: such frames (a side of up to
        120 px) have no flow.
        """
        b, _, h, w = place.shape
        centre = place.permute(0, 2, 3, 1).reshape(b * h * w, 1, 1, 2)
        found = []
        for level, (volume, ends) in enumerate(zip(self._levels, self._ends, strict=True)):
            grid = 2 * (centre / 2**level + self._window) / ends - 1
            found.append(F.grid_sample(volume, grid, align_corners=True).view(b, h, w, -1))
        return torch.cat(found, -1).permute(0, 3, 1, 2)
