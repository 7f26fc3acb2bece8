"""Ours at work on all dimensions at once: `python -m benchmarks.vbench.ours JOB.json`, in a process of its own.

The same as experiments.evaluate does, with a clock around every dimension. Clips are encoded in other threads meanwhile,
so a dimension's wall seconds are its own, and processor seconds are told of the whole alone. Where several clips are at
work at once, the wall seconds of all of them are divided by how many these are.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.vbench.meter import Clock, forget_peak, peak
from benchmarks.vbench.small import shrink
from deepforcing.video import iter_decoded
from eval.allocator import keep_freed_memory
from eval.measure.at_once import clips_at_once
from eval.measure.batch import Batch
from eval.measure.metric import ClipInfo, Metric, Scorer
from eval.metrics import DIMENSIONS
from eval.metrics.time.flow_magnitude import FlowMagnitude
from eval.networks import backend
from eval.networks.flow import RATE
from eval.networks.package import vbench_module
from eval.protocol import LONG_SECONDS, Protocol
from eval.score import score
from eval.stats.vbench import overall
from eval.videos import open_folder

FRAMES = 3  # whose arithmetic is counted: one triple for AMT-S, and at 16 frames a second one pair for RAFT
# Of the package: what is imported before the clock starts, as it is there.
MODULES = (
    "third_party.RAFT.core.raft",
    "third_party.amt.networks.AMT-S",
    "third_party.ViCLIP.viclip_text",
    "third_party.ViCLIP.viclip_vision",
)


class Timed:
    """A dimension that keeps the time, under its own name."""

    def __init__(self, dimension: Metric) -> None:
        self.name, self.version, self.values = dimension.name, dimension.version, dimension.values
        self.weights, self.needs_prompt, self.world = dimension.weights, dimension.needs_prompt, dimension.world
        self.span, self.protocols, self.rows = dimension.span, dimension.protocols, dimension.rows
        self.clock = Clock()
        self._dimension = dimension

    def start(self, info: ClipInfo, device: torch.device) -> Scorer:
        return _TimedScorer(self.clock.around(self._dimension.start)(info, device), self.clock)


class _TimedScorer:
    def __init__(self, scorer: Scorer, clock: Clock) -> None:
        self.add = clock.around(scorer.add)
        self.finish = clock.around(scorer.finish)


def main(job: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    keep_freed_memory()  # as experiments.evaluate does
    for name in MODULES:
        vbench_module(name)
    import clip.model  # noqa: F401
    import pyiqa.archs.musiq_arch  # noqa: F401

    if job["networks"] == "small":
        shrink()
    wanted = [dimension for dimension in DIMENSIONS if dimension.name in job["dimensions"]]
    backend.use(job["backend"], device)
    if job["backend"] == "compiled":
        score(open_folder(*prompted(Path(job["warm"]), Path(job["warm"]))), wanted, Protocol("vbench_long"), device)
    timed: list[Any] = [Timed(dimension) for dimension in wanted]
    videos = Path(job["videos"])
    names = sorted(path.name for path in videos.glob("*.mp4"))
    folder = open_folder(*prompted(videos, Path(job["out"])))
    forget_peak(device)
    total, clips = Clock(), clips_at_once(job["height"], job["width"], device)
    with total.running():
        found = score(folder, timed, Protocol("vbench_long"), device)
    held = peak(device)
    backend.use("plain", device)  # its arithmetic is what is counted
    if found.problems or found.absent:
        raise ValueError("; ".join([*found.problems, *found.absent.values()]))
    whole = overall(found.table).set_index("metric")["value"]
    dimensions = {}
    for each in timed:
        rows = found.table[found.table["metric"] == each.name].sort_values(["sample", "t_start"])
        number = rows.groupby("sample").cumcount()
        values = {f"{s} {n}": v for s, n, v in zip(rows["sample"], number, rows["value"], strict=True)}
        seconds = each.clock.wall / clips
        dimensions[each.name] = {"seconds": seconds, "overall": whole[each.name], "clips": values}
    first = videos / names[0]
    return {
        "dimensions": dimensions,
        "total": total.told(),
        "peak_bytes": held,
        "flops": {each.name: count(each.name, first, device, job["fps"]) for each in timed} if job["floor"] else None,
        "peak_flops": matmul_speed(device) if job["floor"] else None,
    }


def prompted(videos: Path, out: Path) -> tuple[Path, Path, Path]:
    """A folder of videos, a file of what the package takes for their prompts, and the folder for scores."""
    prompts = out / "prompts.json"
    prompts.write_text(json.dumps({path.name: path.stem for path in sorted(videos.glob("*.mp4"))}))
    return videos, prompts, out


def count(name: str, video: Path, device: torch.device, fps: int) -> float:
    """Floating-point operations of a dimension's networks on a clip of two seconds, each frame and pair once.

    Counted on the first frames of a video: a clip's are as many times more as it has frames, pairs or triples more.
    """
    dimension = next(each for each in DIMENSIONS if each.name == name)
    dimension = FlowMagnitude() if name == "dynamic_degree" else dimension  # which does not stop early
    decoded = [frame for frame, _ in zip(iter_decoded(video), range(FRAMES), strict=False)]
    clip = LONG_SECONDS * fps
    interval = max(1, round(fps / RATE))
    looks = {
        "motion_smoothness": ((clip - 1) // 2, (FRAMES - 1) // 2),
        "dynamic_degree": (-(-clip // interval) - 1, -(-FRAMES // interval) - 1),
        "overall_consistency": (1, 1),
    }
    of_clip, here = looks.get(name, (clip, FRAMES))
    if not here:
        return math.nan
    info = ClipInfo(FRAMES, fps, decoded[0].height, decoded[0].width, "a prompt")
    for _ in range(2 if name == "overall_consistency" else 1):  # a prompt is embedded once, and is no part of a clip
        scorer = dimension.start(info, device)
        packed = {torch.ops.mkldnn._linear_pointwise: packed_flops}
        with FlopCounterMode(display=False, custom_mapping=packed) as counter:
            scorer.add(Batch(decoded), 0)
            scorer.finish()
    return float(counter.get_total_flops() * of_clip / here)


def packed_flops(x_shape: Sequence[int], *_: Any, out_shape: Sequence[int], **__: Any) -> int:
    """Of a linear by oneDNN (eval/networks/linears.py), which torch's counter does not know."""
    return 2 * math.prod(out_shape) * x_shape[-1]


def matmul_speed(device: torch.device, side: int = 1536, seconds: float = 0.5) -> float:
    """Operations a second of a float32 matrix product here and now: what the floor is divided by."""
    a = torch.rand(side, side, device=device)
    best = float("inf")
    until = time.perf_counter() + seconds
    while time.perf_counter() < until:
        began = time.perf_counter()
        float((a @ a)[0, 0])
        best = min(best, time.perf_counter() - began)
    return 2 * side**3 / best


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.with_suffix(".result.json").write_text(json.dumps(main(json.loads(path.read_text())), default=float))
