"""The earlier name of eval.metrics.vbench.quality."""

from __future__ import annotations

from eval.metrics.vbench.quality import QUALITY, RANGES, REWARD, VERSION, quality, with_quality

__all__ = ["QUALITY", "RANGES", "REWARD", "VERSION", "quality", "with_quality"]
