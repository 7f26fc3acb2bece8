"""Metrics, one class per file: VBench's DIMENSIONS, OVER_TIME of the same networks, WEIGHT_FREE without any network,
ACROSS of a set of videos.
"""

from __future__ import annotations

from eval.across import AcrossVideos
from eval.dimension import Dimension
from eval.features import FeatureMetric
from eval.metric import Metric, Value
from eval.metrics.aesthetic_quality import AestheticQuality
from eval.metrics.background_colour import BackgroundColour
from eval.metrics.background_consistency import BackgroundConsistency
from eval.metrics.background_texture import BackgroundTexture
from eval.metrics.cell_colour import CellColour
from eval.metrics.clip_drift import ClipDrift
from eval.metrics.coherence import Coherence
from eval.metrics.colour_drift import ColourDrift
from eval.metrics.cover import Cover
from eval.metrics.dynamic_degree import DynamicDegree
from eval.metrics.exposure import Exposure
from eval.metrics.flow_magnitude import FlowMagnitude
from eval.metrics.hue import Hue
from eval.metrics.imaging_quality import ImagingQuality
from eval.metrics.joints import Joints
from eval.metrics.motion_kept import MotionKept
from eval.metrics.motion_magnitude import MotionMagnitude
from eval.metrics.motion_progress import MotionProgress
from eval.metrics.motion_smoothness import MotionSmoothness
from eval.metrics.overall_consistency import OverallConsistency
from eval.metrics.presence import Presence
from eval.metrics.prompt_distance import PromptDistance
from eval.metrics.repetition import Repetition
from eval.metrics.replay import Replay
from eval.metrics.saturation import Saturation
from eval.metrics.shape import Shape
from eval.metrics.sharpness import Sharpness
from eval.metrics.sprite_colour import SpriteColour
from eval.metrics.subject_consistency import SubjectConsistency
from eval.metrics.temporal_flickering import TemporalFlickering
from eval.metrics.vbench_quality import QUALITY

# In VBench's order.
DIMENSIONS: tuple[Dimension, ...] = (
    SubjectConsistency(),
    BackgroundConsistency(),
    TemporalFlickering(),
    MotionSmoothness(),
    DynamicDegree(),
    AestheticQuality(),
    ImagingQuality(),
    OverallConsistency(),
)

OVER_TIME: tuple[Dimension | FeatureMetric, ...] = (FlowMagnitude(), ClipDrift(), Repetition())

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
    CellColour(),
    Exposure(),
    Saturation(),
    Sharpness(),
    MotionMagnitude(),
    MotionKept(),
    Hue(),
    Coherence(),
    Joints(),
)

ACROSS: tuple[AcrossVideos, ...] = (PromptDistance(),)

# How to speak of every number in a table of scores, in the order in which they are shown.
VALUES: tuple[Value, ...] = (
    *(value for metric in WEIGHT_FREE for value in metric.values),
    *(value for metric in ACROSS for value in metric.values),
    *(value for metric in DIMENSIONS for value in metric.values),
    QUALITY,
    *(value for metric in OVER_TIME for value in metric.values),
)
