"""The earlier name of eval.stats: means, curves, drifts and differences from the tidy table of scores."""

from __future__ import annotations

from eval.stats.intervals import holm, mean_interval, p_values, ratio
from eval.stats.intervals import student_t as paired_t
from eval.stats.means import Paired, curves, first_last, overall, paired_difference, pivot, summarise
from eval.stats.samples import ends, one_protocol, sample_means, series, with_prompt

__all__ = [
    "Paired", "curves", "ends", "first_last", "holm", "mean_interval", "one_protocol", "overall", "p_values",
    "paired_difference", "paired_t", "pivot", "ratio", "sample_means", "series", "summarise", "with_prompt",
]  # fmt: skip
