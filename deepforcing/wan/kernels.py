"""Which kernels a model's passes run on, where a GPU has several for the same: attention's, and the rotary embedding's.

"torch" leaves attention's choice to PyTorch. The others are named as PyTorch has them; fa3 is FlashAttention 3, which
PyTorch takes for its own flash kernel where the package flash_attn_interface is installed. A choice other than torch's is
part of a run's identity, because kernels add up in different orders. FlexAttention is not among them: without a mask it
computes what flash does, and nothing on the path of denoising has a mask but policies with a bias.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import torch
from torch import Tensor
from torch.nn import attention
from torch.nn.attention import SDPBackend, sdpa_kernel

from deepforcing.wan.attention import attend, self_attention
from deepforcing.wan.rope import by_kernel

Item = TypeVar("Item")
AttentionKernel = Literal["torch", "cudnn", "flash", "fa3", "efficient", "math"]
ATTENTION: tuple[AttentionKernel, ...] = get_args(AttentionKernel)
SDPA = {
    "cudnn": SDPBackend.CUDNN_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "fa3": SDPBackend.FLASH_ATTENTION,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "math": SDPBackend.MATH,
}
FALLBACK = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.MATH]
NEAR = 1.02  # a kernel that torch would not take must be faster by more than this: less is the clock's noise


@dataclass(frozen=True)
class Kernels:
    """attention: of self- and cross-attention. rope: whether the rotary embedding is one Triton kernel on a GPU.
    self_attention: a function in place of `attend` for self-attention (lossy/fp8_attention.py)."""

    attention: AttentionKernel = "torch"
    rope: bool = False
    self_attention: Callable[..., Tensor] | None = None


@contextmanager
def running(kernels: Kernels) -> Iterator[None]:
    """What is computed inside is computed by these."""
    token, other = by_kernel.set(kernels.rope), self_attention.set(kernels.self_attention)
    try:
        if kernels.attention == "torch":
            yield
            return
        flash(kernels.attention == "fa3")
        first = SDPA[kernels.attention]
        # The others stand in where the first cannot: cross-attention's few keys, a policy's bias.
        with sdpa_kernel([first, *(other for other in FALLBACK if other != first)], set_priority=True):
            yield
    finally:
        if kernels.attention == "fa3":
            flash(False)
        by_kernel.reset(token)
        self_attention.reset(other)


def flash(third: bool) -> None:
    """PyTorch's flash kernel is FlashAttention 3, or its own."""
    if third and attention.current_flash_attention_impl() != "FA3":
        attention.activate_flash_attention_impl("FA3")
    elif not third and attention.current_flash_attention_impl() is not None:
        attention.restore_flash_attention_impl()


def computed(items: Iterable[Item], kernels: Kernels) -> Iterator[Item]:
    """The same items, each of them made by these kernels; what the caller does between two of them is not."""
    source, end = iter(items), object()
    while True:
        with running(kernels):
            item: Any = next(source, end)
        if item is end:
            return
        yield item


def check(kernel: AttentionKernel, device: torch.device, dtype: torch.dtype) -> None:
    """Raises ValueError in one line for a kernel that this device does not have."""
    why: float | str
    if kernel == "torch":
        return
    if device.type != "cuda":
        why = "a CPU has one kernel alone"
    elif kernel == "fa3" and "FA3" not in attention.list_flash_attention_impls():
        why = "this torch knows no FlashAttention 3"
    else:
        why = seconds_of(kernel, device, dtype, (1, 1, 64, 128), 64, 1)
    if isinstance(why, str):
        raise ValueError(f"attention={kernel} does not work here: {why}; use attention=torch")


def seconds_of(
    kernel: AttentionKernel, device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int], keys: int,
    repeats: int = 5, clock: Callable[[], float] = time.perf_counter,
) -> float | str:  # fmt: skip
    """Seconds of self-attention without a mask by one kernel, the best of some, or why there are none.

    shape: [batch, heads, queries, head dim]. Queries lie as the transformer makes them, keys and values as the cache does."""
    batch, heads, queries, dim = shape
    make = torch.Generator(device).manual_seed(0)

    def random(*sizes: int) -> Tensor:
        return torch.randn(*sizes, device=device, dtype=dtype, generator=make)

    def wait() -> float:
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        return clock()

    try:
        q = random(batch, queries, heads, dim).transpose(1, 2)
        k, v = random(batch, heads, keys, dim), random(batch, heads, keys, dim)
        flash(kernel == "fa3")
        taken = []
        with sdpa_kernel([*SDPA.values()] if kernel == "torch" else SDPA[kernel]):
            for _ in range(repeats + 1):
                began = wait()
                attend(q, k, v)
                taken.append(wait() - began)
        return min(taken[1:])  # the first one chooses and compiles
    except (RuntimeError, ImportError, ValueError) as error:
        said = (str(error).splitlines() or [""])[0]
        return "not here" if said.startswith("No viable backend") else said[:120]
    finally:
        flash(False)


def fastest(seconds: Mapping[AttentionKernel, float | str]) -> AttentionKernel:
    """The kernel to take; torch's own choice where none is clearly faster (NEAR) or it was not timed."""
    timed: dict[AttentionKernel, float] = {kernel: t for kernel, t in seconds.items() if isinstance(t, float)}
    best = min(timed, key=lambda kernel: timed[kernel], default="torch")
    return best if best in timed and timed[best] * NEAR < timed.get("torch", float("inf")) else "torch"
