"""How the passes of a model are computed. "plain", PyTorch as it is written, is the reference. Every other backend gives the
same to rounding and is part of a run's identity, because last bits are pixels after a while.

packed     linears of a CPU in oneDNN's layout (wan/packed.py); nothing to compile
compiled   what stands before and after self-attention in a block, compiled by torch.compile: two graphs for all layers, chunks
           and policies, and the VAE's decoder, three more; on a GPU the rotary embedding is a Triton kernel
           (wan/rope_kernel.py)
graphs     compiled, and on a GPU the steady passes replayed as CUDA graphs (rollout/graphs.py)
"""

from __future__ import annotations

import functools
import importlib.util
import shutil
from dataclasses import replace
from typing import get_args

import torch

from deepforcing.rollout.graphs import Graphs, cuda_capture
from deepforcing.wan import packed
from deepforcing.wan.transformer import Backend, Block, CausalWan

BACKENDS: tuple[Backend, ...] = get_args(Backend)


def check(backend: str, device: torch.device, dtype: torch.dtype) -> None:
    """Raises ValueError in one line where a backend cannot work: nothing falls back to another one's bits unsaid."""
    why = None
    if backend == "packed":
        why = packed.why_not(device, dtype)
    elif backend == "graphs" and device.type != "cuda":
        why = "CUDA graphs need a GPU"
    elif backend in ("compiled", "graphs"):
        if device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
            why = "torch.compile needs a C++ compiler on a CPU"
        elif device.type == "cuda" and importlib.util.find_spec("triton") is None:
            why = "torch.compile needs the package triton on a GPU"
    if why is not None:
        raise ValueError(f"backend={backend} does not work here: {why}; use backend=plain")


def use(model: CausalWan, backend: Backend) -> None:
    """Make a model's passes this backend's, once. Raises ValueError for a model that has another already."""
    if model.backend == backend:
        return
    if model.backend != "plain":
        raise ValueError(f"the model's backend is {model.backend}; build it again for backend={backend}")
    weight = model.patch_embedding.weight
    check(backend, weight.device, weight.dtype)
    if backend == "packed":
        packed.pack(model)
    else:
        torch.compiler.reset()  # graphs of models before this one would count towards the limit of a function
        before, after = (torch.compile(f, fullgraph=True, dynamic=False) for f in (Block.before, Block.after))
        for block in model.blocks:
            setattr(block, "before", functools.partial(before, block))  # noqa: B010 (mypy: a method is no attribute)
            setattr(block, "after", functools.partial(after, block))  # noqa: B010
        model.kernels = replace(model.kernels, rope=weight.is_cuda)
    model.backend = backend


def steady(model: CausalWan) -> Graphs | None:
    """The forward of steady passes for one batch of videos; None: the model's own."""
    return Graphs(model, cuda_capture()) if model.backend == "graphs" else None
