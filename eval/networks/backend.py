"""How the networks are run (evaluate's backend=). "plain", PyTorch as it is written, is the reference and the default.

compiled: in batches of one size, the last filled up, so that every network sees few shapes; what stands in these batches
compiled by torch.compile; and on a GPU each call of a shape recorded as a CUDA graph, all iterations of RAFT's flow in one.
Sums are added up in another order: scores move in their last bits, as from one device to another.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from deepforcing import backend
from deepforcing.rollout.graphs import Capture, Recorded, cuda_capture

BACKENDS = ("plain", "compiled")
SEEN = 3  # calls of one shape before it is recorded: kernels are chosen and compiled by then


class Compiled:
    """Functions of tensors that give one tensor, compiled and recorded. What cannot be is told once and runs as it is."""

    def __init__(self, capture: Capture | None) -> None:
        self.capture = capture
        self.made: dict[Any, Callable[..., Any]] = {}  # by function
        self.seen: Counter[Any] = Counter()
        self.recorded: dict[Any, Recorded | None] = {}

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        if function not in self.made:
            self.made[function] = self.attempt(function)
        return self.made[function]

    def attempt(self, function: Callable[..., Any]) -> Callable[..., Any]:
        quick: Callable[..., Any] | None = torch.compile(function, dynamic=False)

        def call(*tensors: Any) -> Any:
            nonlocal quick
            if quick is not None:
                try:
                    return quick(*tensors)
                except torch._dynamo.exc.TorchDynamoException as error:
                    self.tell(function, "compiled", error)
                    quick = None
            return function(*tensors)

        call.__qualname__ = named(function)
        return call

    def __call__(self, function: Callable[..., Tensor], tensors: tuple[Tensor, ...]) -> Tensor:
        """function is run as it is given: `compiled` is what compiles it, or parts of it."""
        if self.capture is None:
            return function(*tensors)
        key = (function, *((tuple(t.shape), t.dtype, t.stride()) for t in tensors))
        self.seen[key] += 1
        if self.seen[key] <= SEEN:
            return function(*tensors)
        if key not in self.recorded:
            try:
                self.recorded[key] = Recorded(self.capture, function, *tensors)
            except RuntimeError as error:
                self.tell(function, "recorded", error)
                self.recorded[key] = None
        recorded = self.recorded[key]
        return function(*tensors) if recorded is None else recorded(*tensors)

    def tell(self, function: Callable[..., Any], what: str, error: Exception) -> None:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        warnings.warn(f"backend=compiled: {named(function)} cannot be {what} and runs without: {reason}", stacklevel=4)


def named(function: Callable[..., Any]) -> str:
    plain = getattr(function, "func", function)  # of a partial one
    return str(getattr(plain, "__qualname__", type(plain).__name__))


in_use: Compiled | None = None  # of this process: networks are loaded once in it


def use(name: str, device: torch.device) -> None:
    """Raises ValueError in one line for another name, and where nothing can be compiled."""
    global in_use
    if name not in BACKENDS:
        raise ValueError(f"backend={name}: choose plain or compiled")
    if name == "compiled":
        backend.check("compiled", device, torch.float32)
        in_use = Compiled(cuda_capture() if device.type == "cuda" else None)
    else:
        in_use = None


def compiled(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, compiled where that is asked for. It must be the same object, or equal, in every call."""
    return function if in_use is None else in_use.compiled(function)


def run(function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
    """function(*tensors), replayed from a recording where that is asked for and the shapes have been seen."""
    return function(*tensors) if in_use is None else in_use(function, tensors)


def in_equal_parts(function: Callable[..., Tensor], tensors: tuple[Tensor, ...], at_once: int) -> Tensor:
    """`run` for at_once rows at a time: the last part is filled up with its last row, and cut again. [b, ...] -> [b, ...]."""
    out = []
    for parts in zip(*(torch.split(tensor, at_once) for tensor in tensors), strict=True):
        out.append(run(function, *(filled(part, at_once) for part in parts))[: len(parts[0])])
    return torch.cat(out) if len(out) > 1 else out[0]


def filled(rows: Tensor, count: int) -> Tensor:
    """[b, ...] -> [count, ...] by its last row, where that is asked for; b is at most count."""
    if in_use is None or len(rows) == count:
        return rows
    return torch.cat([rows, rows[-1:].expand(count - len(rows), *rows.shape[1:])])
