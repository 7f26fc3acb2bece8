"""When a video file shows its frames: what its packets and its header say, and whether that is one frame rate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

import av

if TYPE_CHECKING:
    from av import VideoStream
    from av.container import InputContainer


def spans(container: InputContainer, stream: VideoStream) -> list[tuple[float, float]]:
    """When each frame that is shown begins and ends, in seconds, in order; from packets alone, nothing is decoded.

    The end is the beginning where a file does not say how long a frame is shown.
    """
    found = []
    for packet in container.demux(stream):
        time = packet.dts if packet.pts is None else packet.pts
        if packet.size and time is not None and not packet.is_discard:
            start = float(time * packet.time_base)
            found.append((start, start + float((packet.duration or 0) * packet.time_base)))
    return sorted(found)


def duration(container: InputContainer, stream: VideoStream) -> float:
    """Seconds that a file says of its video; 0 where it says nothing, or only of sound and video together."""
    clock = re.fullmatch(r"(\d+):(\d+):(\d+\.?\d*)", stream.metadata.get("DURATION", "").rstrip("\0"))
    if clock:
        return 3600 * int(clock[1]) + 60 * int(clock[2]) + float(clock[3])
    alone = len(container.streams) == 1
    return container.duration / av.time_base if alone and container.duration else 0.0


def unevenness(starts: Sequence[float], fps: float) -> str | None:
    """In what way frames that are shown at `starts` seconds, in order, have not `fps` frames a second all along.

    None where they have: every step is within half of the usual one, every frame within half a frame of where an even
    rate has it (mkv and webm round to milliseconds), and this rate within 1 % of `fps`.
    """
    if len(starts) < 2:
        return None
    steps = [after - before for before, after in pairwise(starts)]
    usual = median(steps)
    if usual <= 0:
        return "many of its frames have one time"
    odd = next((index for index, step in enumerate(steps) if abs(step - usual) > usual / 2), None)
    if odd is not None:
        return f"frame {odd} is shown for {steps[odd]:.3g} s, others for {usual:.3g} s"
    period = (starts[-1] - starts[0]) / len(steps)
    even = [starts[0] + index * period for index in range(len(starts))]
    worst = max(range(len(starts)), key=lambda index: abs(starts[index] - even[index]))
    if abs(starts[worst] - even[worst]) > period / 2:
        return f"frame {worst} is shown at {starts[worst]:.2f} s, where an even rate has it at {even[worst]:.2f} s"
    if abs(period * fps - 1) > 0.01:
        return f"it says {fps:.4g} frames a second and shows {1 / period:.4g}"
    return None
