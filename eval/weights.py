"""The earlier name of eval.networks.weights."""

from __future__ import annotations

from eval.networks.weights import (
    FILES,
    File,
    clip_package,
    directory_sha256,
    fingerprint,
    required,
    torch_home,
    vbench_cache,
)

__all__ = ["FILES", "File", "clip_package", "directory_sha256", "fingerprint", "required", "torch_home", "vbench_cache"]
