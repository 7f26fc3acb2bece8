"""The earlier name of eval.stats.vbench."""

from __future__ import annotations

from eval.stats.vbench import COLUMNS, PAIRWISE, overall

__all__ = ["COLUMNS", "PAIRWISE", "overall"]
