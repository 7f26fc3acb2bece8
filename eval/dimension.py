"""The earlier name of eval.measure.metric, when VBench's dimensions were a kind of their own."""

from __future__ import annotations

from eval.measure.metric import ClipInfo
from eval.measure.metric import Metric as Dimension
from eval.measure.metric import Scorer as ClipScorer

__all__ = ["ClipInfo", "ClipScorer", "Dimension"]
