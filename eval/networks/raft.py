"""RAFT's optical flow (Teed & Deng, arXiv 2003.12039) with the vbench package's layers, without its waste.

The same flow to float rounding at about two thirds of the arithmetic: a frame's features are computed once for the two
pairs that it is in, the context's share of the recurrent convolutions once for all iterations, and the learned upsampling
after the last iteration only. b pairs, H x W pixels (multiples of 8), h x w = H / 8 x W / 8 cells.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eval.networks import backend
from eval.networks.checkpoint import read_state
from eval.networks.correlation import LEVELS, correlation
from eval.networks.linears import pack
from eval.networks.package import vbench_module

ITERATIONS = 20
CELL = 8
RADIUS = 4  # of what is looked up of the correlations
SMALLEST = CELL * 2 ** (LEVELS - 1)  # pixels: below, the pyramid's last level is empty
TOP = 0.05  # the share of pixels with the longest flow
ROUNDING = 1e-4  # of a length, much more than float32's in a mean of nine


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
    # On a CPU the recurrent part is a tenth faster with channels last, as its correlations leave them.
    model.update_block.to(memory_format=torch.channels_last if device.type == "cpu" else torch.contiguous_format)
    model = model.to(device).eval()
    pack(model.update_block)
    return Raft(model)


def pad(frames: Tensor) -> Tensor:
    """[b, 3, H, W] with its borders repeated, on both sides, to multiples of 8."""
    rows, columns = -frames.shape[2] % CELL, -frames.shape[3] % CELL
    sides = [columns // 2, columns - columns // 2, rows // 2, rows - rows // 2]
    return F.pad(frames, sides, mode="replicate") if any(sides) else frames


class Coarse(NamedTuple):
    """A flow of cells, [b, 2, h, w] (x, y; cells), and the hidden state that says how pixels mix them."""

    flow: Tensor
    hidden: Tensor


def most_magnitude(coarse: Coarse) -> Tensor:
    """What `top_magnitude` is at most when the flow is upsampled, [b] (px).

    A pixel's flow is a mean of its cell's and the eight around it, so none of a cell's 64 pixels is longer than the longest
    of these nine; and fewer of the longest have no smaller mean.
    """
    length = CELL * coarse.flow.square().sum(1, keepdim=True).sqrt()
    longest = F.max_pool2d(length, 3, 1, 1).flatten(1)
    cells = max(1, int(longest.shape[1] * CELL**2 * TOP) // CELL**2)
    return longest.topk(cells, sorted=False).values.double().mean(1) * (1 + ROUNDING)


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
    def flow(self, frames: Tensor, features: Tensor, next_features: Tensor, at_once: int | None = None) -> Tensor:
        """Where every pixel of a frame goes, [b, 2, H, W] (x, y; px), from its pixels, its features and the next's.

        at_once: the pairs of a call where all have as many (eval.networks.backend), at least b; None: b.
        """
        return backend.in_equal_parts(self._flow, (frames, features, next_features), at_once or len(frames))

    def _flow(self, frames: Tensor, features: Tensor, next_features: Tensor) -> Tensor:
        """All iterations, which on a GPU are one recording."""
        return self.fine(self.coarse(frames, features, next_features))

    @torch.inference_mode()
    def coarse(self, frames: Tensor, features: Tensor, next_features: Tensor) -> Coarse:
        """`flow` before it is upsampled, by all iterations."""
        turn = backend.compiled(self._turn)
        hidden, context = self._context(frames).chunk(2, 1)
        hidden, context = torch.tanh(hidden), torch.relu(context)
        contexts = [each.context(context) for each in self._passes]
        matches = correlation(features, next_features, RADIUS)
        layout = torch.channels_last if frames.device.type == "cpu" else torch.contiguous_format
        hidden = hidden.contiguous(memory_format=layout)
        rows, columns = (torch.arange(n, device=frames.device, dtype=torch.float32) for n in features.shape[2:])
        start = torch.stack(torch.meshgrid(columns, rows, indexing="xy"))[None]
        place = start.expand(len(frames), -1, -1, -1)
        for _ in range(ITERATIONS):
            seen = matches.around(place).contiguous(memory_format=layout)
            hidden, step = turn((place - start).contiguous(memory_format=layout), seen, hidden, contexts)
            place = place + step
        return Coarse(place - start, hidden)

    @torch.inference_mode()
    def fine(self, coarse: Coarse) -> Tensor:
        return upsampled(coarse.flow, self._model.update_block.mask(coarse.hidden).mul_(0.25))

    def _context(self, frames: Tensor) -> Tensor:
        found: Tensor = backend.compiled(self._model.cnet)(2 * (frames / 255) - 1)
        return found

    def _turn(
        self, flow: Tensor, seen: Tensor, hidden: Tensor, contexts: Sequence[tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """One iteration, from the flow so far (cells) and the correlations there: the hidden state, and what the flow gains."""
        motion = self._model.update_block.encoder(flow, seen)
        for each, known in zip(self._passes, contexts, strict=True):
            hidden = each(hidden, motion, known)
        return hidden, self._model.update_block.flow_head(hidden)


def upsampled(flow: Tensor, logits: Tensor) -> Tensor:
    """Every pixel's flow (px), [b, 2, 8 h, 8 w]: a weighted mean of its cell's and the eight around it, [b, 2, h, w] (cells).

    logits: of the weights, [b, 9 * 64, h, w], pixels of a cell last. Cells come first here, as channels last has them in
    memory, and the means are one product: a third of the time of the package's sum.
    """
    b, _, h, w = flow.shape
    weights = logits.permute(0, 2, 3, 1).reshape(b * h * w, 9, CELL**2).softmax(1)
    around = F.unfold(CELL * flow, 3, padding=1).view(b, 2, 9, h * w).permute(0, 3, 1, 2).contiguous()
    pixels = (around.view(b * h * w, 2, 9) @ weights).view(b, h, w, 2, CELL, CELL)
    return pixels.permute(0, 3, 1, 4, 2, 5).reshape(b, 2, CELL * h, CELL * w)


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
