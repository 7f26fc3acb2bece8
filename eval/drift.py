"""The earlier name of eval.stats.drift."""

from __future__ import annotations

from eval.stats.drift import (
    NUMBERS,
    fluctuation,
    motion_decay,
    of_videos,
    per_video,
    slope,
    video_drift_error,
)

__all__ = ["NUMBERS", "fluctuation", "motion_decay", "of_videos", "per_video", "slope", "video_drift_error"]
