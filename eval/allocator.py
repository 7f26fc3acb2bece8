"""How this process gets memory for large tensors on a CPU."""

from __future__ import annotations

import ctypes

import pyarrow as pa

# glibc's malloc.h
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def keep_freed_memory() -> None:
    """For the whole process: memory of freed tensors is used again instead of going back to the system.

    glibc fetches every tensor of more than 32 MB anew, which the system then fills with zeros page by page: a sixth of the
    time of the evaluation with small networks. Commands call this, not libraries. Elsewhere than on glibc it does nothing.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)
        mallopt(M_ARENA_MAX, 1)  # one for all threads: those of others are trimmed in spite of the line above
    # Tables have an allocator of their own, which keeps a multiple of the few MB that scores take.
    pa.set_memory_pool(pa.system_memory_pool())
