"""Metrics, one class per file: VBench's DIMENSIONS, OVER_TIME of the same networks, WEIGHT_FREE without any network,
ACROSS of a set of videos.
"""

from __future__ import annotations

from eval.measure.metric import Metric, Value
from eval.measure.set_metric import SetMetric
from eval.measure.watch import WindowMetric
from eval.metrics.pixels.cell_colour import CellColour
from eval.metrics.pixels.colour_drift import ColourDrift
from eval.metrics.pixels.exposure import Exposure
from eval.metrics.pixels.hue import Hue
from eval.metrics.pixels.saturation import Saturation
from eval.metrics.pixels.sharpness import Sharpness
from eval.metrics.time.clip_drift import ClipDrift
from eval.metrics.time.coherence import Coherence
from eval.metrics.time.flow_magnitude import FlowMagnitude
from eval.metrics.time.joints import Joints
from eval.metrics.time.motion_kept import MotionKept
from eval.metrics.time.motion_magnitude import MotionMagnitude
from eval.metrics.time.prompt_distance import PromptDistance
from eval.metrics.time.repetition import Repetition
from eval.metrics.time.replay import Replay
from eval.metrics.vbench.aesthetic_quality import AestheticQuality
from eval.metrics.vbench.background_consistency import BackgroundConsistency
from eval.metrics.vbench.dynamic_degree import DynamicDegree
from eval.metrics.vbench.imaging_quality import ImagingQuality
from eval.metrics.vbench.motion_smoothness import MotionSmoothness
from eval.metrics.vbench.overall_consistency import OverallConsistency
from eval.metrics.vbench.quality import QUALITY
from eval.metrics.vbench.subject_consistency import SubjectConsistency
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.metrics.world.background_colour import BackgroundColour
from eval.metrics.world.background_texture import BackgroundTexture
from eval.metrics.world.cover import Cover
from eval.metrics.world.crowd_identity import CrowdIdentity
from eval.metrics.world.crowd_place import CrowdPlace
from eval.metrics.world.crowd_presence import CrowdPresence
from eval.metrics.world.crowd_recall import CrowdRecall
from eval.metrics.world.motion_progress import MotionProgress
from eval.metrics.world.pan_landmarks import PanLandmarks
from eval.metrics.world.pan_novelty import PanNovelty
from eval.metrics.world.pan_progress import PanProgress
from eval.metrics.world.pan_scenery import PanScenery
from eval.metrics.world.presence import Presence
from eval.metrics.world.shape import Shape
from eval.metrics.world.sprite_colour import SpriteColour

# In VBench's order.
DIMENSIONS: tuple[Metric, ...] = (
    SubjectConsistency(),
    BackgroundConsistency(),
    TemporalFlickering(),
    MotionSmoothness(),
    DynamicDegree(),
    AestheticQuality(),
    ImagingQuality(),
    OverallConsistency(),
)

OVER_TIME: tuple[Metric, ...] = (FlowMagnitude(), ClipDrift(), Repetition())

WEIGHT_FREE: tuple[WindowMetric, ...] = (
    Presence(),
    MotionProgress(),
    Shape(),
    SpriteColour(),
    BackgroundColour(),
    BackgroundTexture(),
    Cover(),
    CrowdPresence(),
    CrowdPlace(),
    CrowdIdentity(),
    CrowdRecall(),
    PanProgress(),
    PanNovelty(),
    PanLandmarks(),
    PanScenery(),
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

ACROSS: tuple[SetMetric, ...] = (PromptDistance(),)

# How to speak of every number in a table of scores, in the order in which they are shown.
VALUES: tuple[Value, ...] = (
    *(value for metric in WEIGHT_FREE for value in metric.values),
    *(value for metric in ACROSS for value in metric.values),
    *(value for metric in DIMENSIONS for value in metric.values),
    QUALITY,
    *(value for metric in OVER_TIME for value in metric.values),
)
