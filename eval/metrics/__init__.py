"""Metrics, one class per file. WEIGHT_FREE holds one of each that needs no network and no download."""

from __future__ import annotations

from eval.metric import Metric
from eval.metrics.background_colour import BackgroundColour
from eval.metrics.background_texture import BackgroundTexture
from eval.metrics.colour_drift import ColourDrift
from eval.metrics.cover import Cover
from eval.metrics.exposure import Exposure
from eval.metrics.motion_magnitude import MotionMagnitude
from eval.metrics.motion_progress import MotionProgress
from eval.metrics.presence import Presence
from eval.metrics.replay import Replay
from eval.metrics.saturation import Saturation
from eval.metrics.shape import Shape
from eval.metrics.sharpness import Sharpness
from eval.metrics.sprite_colour import SpriteColour

WEIGHT_FREE: tuple[Metric, ...] = (
    Presence(),
    MotionProgress(),
    Shape(),
    SpriteColour(),
    BackgroundColour(),
    BackgroundTexture(),
    Cover(),
    Replay(),
    ColourDrift(),
    Exposure(),
    Saturation(),
    Sharpness(),
    MotionMagnitude(),
)
