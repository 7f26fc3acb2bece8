"""Steady passes recorded once and replayed: a pass of thousands of kernels is then started by one call.

A recording holds addresses, not values. So a pass is replayed only while everything that it touches lies where it lay
(passes.CacheMemory.state); what changes with the chunk has been copied there before. What is seen too seldom, such as the
passes of a growing window, is not worth recording and runs as it is.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Hashable
from typing import Protocol

import torch
from torch import Tensor

from deepforcing.cache.passes import CacheMemory
from deepforcing.wan.transformer import CausalWan, Memory, TextMemory

SEEN = 9  # times before a pass is recorded: more than a chunk has passes, and by then every kernel has been chosen and compiled


class Capture(Protocol):
    def __call__(self, work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        """Record the work. Gives the tensor where its result will be, and what does the work again."""
        ...


def cuda_capture() -> Capture:
    """Recording by CUDA graphs that share one pool of memory."""
    pool = torch.cuda.graph_pool_handle()

    def capture(work: Callable[[], Tensor]) -> tuple[Tensor, Callable[[], None]]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=pool, capture_error_mode="thread_local"):  # writers' threads go on
            out = work()
        return out, graph.replay

    return capture


class Recorded:
    """One call of a function of tensors: where its inputs are copied to, where its result appears, and its replay.

    The function is held: what it has closed over must not go before the recording.
    """

    def __init__(self, capture: Capture, function: Callable[..., Tensor], *tensors: Tensor) -> None:
        self.inputs, self.function = [tensor.clone() for tensor in tensors], function
        self.out, self.replay = capture(lambda: function(*self.inputs))

    def __call__(self, *tensors: Tensor) -> Tensor:
        for place, tensor in zip(self.inputs, tensors, strict=True):
            place.copy_(tensor)
        self.replay()
        return self.out.clone()


class Graphs:
    """A model's forward (chunkwise.Forward) for steady passes of one batch of videos. recorded: passes by what they touch."""

    def __init__(self, model: CausalWan, capture: Capture) -> None:
        self.model, self.capture = model, capture
        self.seen: Counter[Hashable] = Counter()
        self.recorded: dict[Hashable, Recorded] = {}
        self.told = False

    def __call__(self, x: Tensor, t: Tensor, text: TextMemory, memory: Memory) -> Tensor:
        state = memory.state() if isinstance(memory, CacheMemory) else None
        if state is None:
            if not self.told:
                warnings.warn("backend=graphs: this cache's passes cannot be recorded; they run without", stacklevel=2)
            self.told = True
            return self.run(x, t, text, memory)
        key = (state, tuple(x.shape), tuple(t.shape), *(k.data_ptr() for k in (*text.keys, *text.values)))
        self.seen[key] += 1
        if self.seen[key] < SEEN:
            return self.run(x, t, text, memory)
        if key not in self.recorded:
            self.recorded[key] = Recorded(self.capture, lambda x, t: self.run(x, t, text, memory), x, t)
        return self.recorded[key](x, t)

    def run(self, x: Tensor, t: Tensor, text: TextMemory, memory: Memory) -> Tensor:
        out: Tensor = self.model(x, t, text, memory)
        return out
