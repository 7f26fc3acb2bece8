"""Speed of the evaluation stage beside the vbench package's. `python -m experiments.bench eval --help`

Both sides score the same videos with the same random weights under vbench_long, each in a process of its own, one after
the other. Clocks start when everything is imported, and stop when the scores are on disk.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig

from benchmarks.vbench import videos as pictures
from deepforcing.runs import atomic_path, atomic_write_json, check_writable
from eval.metrics import DIMENSIONS
from eval.networks import backend
from eval.protocol import LONG_SECONDS, Protocol, long_clips
from experiments.command.words import shown
from experiments.request import pick_device
from experiments.scoring import choose

NETWORKS = ("small", "mixed", "full")
TOLERANCE = 1e-6
MINUTE = 60.0
WARM = 10.0  # seconds of the video that is scored before the clock starts, where something is to be compiled


def compare(config: DictConfig) -> int:
    """Exit status 1 when a score is not the package's."""
    job = settings(config)
    if config.out is not None:
        check_writable(config.out, key="out")
    with tempfile.TemporaryDirectory() as folder:
        result = measure(job, Path(folder))
    text = table(result)
    print(json.dumps(result), flush=True)
    print(text, flush=True)
    if config.out is not None:
        atomic_write_json(Path(config.out) / "bench_eval.json", result)
        with atomic_path(Path(config.out) / "bench_eval.md") as partial:
            partial.write_text(text + "\n", encoding="utf-8")
    return int(not result.get("scores_agree", True))


def settings(config: DictConfig) -> dict[str, Any]:
    """What both sides are told. Raises ValueError in one line for what cannot be."""
    if config.networks not in NETWORKS:
        raise ValueError(f"networks={shown(config.networks)}: choose among {', '.join(NETWORKS)}")
    known = {dimension.name for dimension in DIMENSIONS}
    chosen = [metric.name for metric in choose(config.metrics, Protocol("vbench_long"))]
    if unknown := [name for name in chosen if name not in known]:
        raise ValueError(f"metrics={','.join(unknown)}: the package has {', '.join(sorted(known))}")
    job: dict[str, Any] = {"networks": config.networks, "dimensions": chosen}
    plain = ("height", "width", "fps", "videos", "repeats", "seconds", "package", "floor", "moves")
    job |= {key: config[key] for key in plain}
    job["threads"] = torch.get_num_threads() if config.threads is None else config.threads
    job["device"], job["backend"] = str(pick_device(str(config.device))), str(config.backend)
    backend.use(job["backend"], torch.device(job["device"]))
    if job["height"] % 2 or job["width"] % 2 or min(job["height"], job["width"]) < 128:
        raise ValueError(
            f"height={job['height']} width={job['width']} must be even and at least 128: H.264 in 4:2:0 has no odd sizes, "
            "and optical flow none below"
        )
    if job["seconds"] < LONG_SECONDS:
        raise ValueError(f"seconds={job['seconds']:g} is less than one clip of {LONG_SECONDS}")
    return job


def measure(job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Make weights and videos, run both sides `repeats` times, put them together."""
    cache, masters = folder / "cache", folder / "masters"
    masters.mkdir()
    run("benchmarks.vbench.weights", job, folder / "weights.json", {"cache": str(cache)})
    frames = round(job["seconds"] * job["fps"])
    for index in range(job["videos"]):  # names as VBench-Long wants them: they end in -0 and have no _
        content = pictures.moving(frames, job["height"], job["width"], 3 + 4 * index, seed=index)
        pictures.write(masters / f"a red ball rolls, take {index + 1}-0.mp4", content, job["fps"])
    warm = folder / "warm"
    if job["backend"] == "compiled":
        warm.mkdir()
        content = pictures.moving(round(WARM * job["fps"]), job["height"], job["width"], 3, seed=job["videos"])
        pictures.write(warm / "a red ball rolls-0.mp4", content, job["fps"])
    sides: dict[str, list[dict[str, Any]]] = {"ours": [], "package": []}
    for turn in range(job["repeats"]):
        for side in ("ours", "package") if job["package"] else ("ours",):
            place = folder / f"{side}{turn}"
            (place / "videos").mkdir(parents=True)
            for master in masters.iterdir():
                os.link(master, place / "videos" / master.name)
            part = {"videos": str(place / "videos"), "out": str(place), "floor": job["floor"] and not turn}
            part["warm"] = str(warm)
            load = os.getloadavg()[0]
            found = run(f"benchmarks.vbench.{side}", job, place / "job.json", part | {"cache": str(cache)})
            sides[side].append(found | {"load_before": load})
    minutes = job["videos"] * frames / job["fps"] / MINUTE
    clips = job["videos"] * len(long_clips(frames, job["fps"]))
    return {"job": job, "clips": clips, "torch": torch.__version__, "cores": os.cpu_count()} | together(
        job, sides, minutes, clips
    )


def run(module: str, job: dict[str, Any], path: Path, part: dict[str, Any]) -> Any:
    """`python -m module path` to its end. Raises ValueError with the last lines of what it said if it fails."""
    path.write_text(json.dumps(job | part))
    cache = Path(part["cache"])
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", module, str(path)],
        cwd=root,
        env={
            **os.environ,
            "PYTHONPATH": root,
            "VBENCH_CACHE_DIR": str(cache),
            "TORCH_HOME": str(cache / "torch"),
            "OMP_NUM_THREADS": str(job["threads"]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        said = " | ".join(done.stderr.strip().splitlines()[-3:])
        raise ValueError(f"{module} ended with status {done.returncode}: {said}")
    result = path.with_suffix(".result.json")
    return json.loads(result.read_text()) if result.exists() else None


def together(job: dict[str, Any], sides: dict[str, list[dict[str, Any]]], minutes: float, clips: int) -> dict[str, Any]:
    """Of each side its fastest run, everything per video-minute; ratios are the package's time over ours."""
    ours = min(sides["ours"], key=lambda each: each["total"]["seconds"])
    theirs = min(sides["package"], key=lambda each: each["total"]["seconds"], default=None)
    counted = sides["ours"][0]
    metrics = {}
    for name in job["dimensions"]:
        mine = ours["dimensions"][name]
        row = {"ours": mine["seconds"] / minutes, "overall": mine["overall"]}
        if counted["flops"] is not None:
            flops = counted["flops"][name] * clips / minutes
            row |= {"floor_tflop": flops / 1e12, "floor": flops / counted["peak_flops"]}
        if theirs is not None:
            other = theirs["dimensions"][name]
            row |= {
                "package": other["seconds"] / minutes,
                "package_cpu": other["cpu_seconds"] / minutes,
                "package_decode": other["decode_seconds"] / minutes,
                "package_peak_bytes": other["peak_bytes"],
                "difference": difference(name, mine, other),
            }
        metrics[name] = row
    alone = sum(row["ours"] for row in metrics.values())
    result: dict[str, Any] = {
        "unit": "seconds per video-minute",
        "metrics": metrics,
        "ours": per_minute(ours["total"], minutes) | {"frames": ours["total"]["seconds"] / minutes - alone},
        "ours_peak_bytes": ours["peak_bytes"],
        "loads": {side: [round(each["load_before"], 2) for each in runs] for side, runs in sides.items() if runs},
    }
    if theirs is not None:
        result |= {
            "package": per_minute(theirs["total"], minutes) | {"split": theirs["split"]["seconds"] / minutes},
            "package_peak_bytes": max(row["package_peak_bytes"] for row in metrics.values()),
            "ratio": theirs["total"]["seconds"] / ours["total"]["seconds"],
            "ratio_cpu": theirs["total"]["cpu_seconds"] / ours["total"]["cpu_seconds"],
            "scores_agree": all(row["difference"] <= TOLERANCE for row in metrics.values()),
        }
    return result


def per_minute(clock: dict[str, float], minutes: float) -> dict[str, float]:
    return {key: value / minutes for key, value in clock.items()}


def difference(name: str, ours: dict[str, Any], package: dict[str, Any]) -> float:
    """Largest difference of a dimension's overall value and of its clips'; infinite if they are not the same clips."""
    if ours["clips"].keys() != package["clips"].keys():
        return float("inf")
    scale = 100 if name == "imaging_quality" else 1  # the package divides its mean alone
    clips = [abs(float(package["clips"][key]) / scale - value) for key, value in ours["clips"].items()]
    return float(np.max([*clips, abs(package["overall"] - ours["overall"])]))


def table(result: dict[str, Any]) -> str:
    """Markdown: one line per dimension, then what is shared, then the whole."""
    job, both = result["job"], "package" in result
    head = ["seconds per video-minute", "ours", "floor", "TFLOP"]
    head += ["package", "of it decoding", "package / ours", "package MB", "scores differ by"] if both else []
    lines = [head, ["---"] * len(head)]
    for name, row in result["metrics"].items():
        cells = [name, f"{row['ours']:.1f}"]
        cells += [f"{row['floor']:.1f}", f"{row['floor_tflop']:.2f}"] if "floor" in row else ["", ""]
        if both:
            cells += [f"{row['package']:.1f}", f"{row['package_decode'] / row['package']:.0%}"]
            cells += [f"{row['package'] / row['ours']:.1f}", f"{row['package_peak_bytes'] / 1e6:.0f}"]
            cells += [f"{row['difference']:.1g}"]
        lines.append(cells)
    ours, package = result["ours"], result.get("package")
    shared = ["the rest: decoding, encoding once more, hashing files", f"{ours['frames']:.1f}", "", ""]
    all_of_it = ["all", f"{ours['seconds']:.1f}", "", ""]
    processor = ["all, processor seconds", f"{ours['cpu_seconds']:.1f}", "", ""]
    if package:
        shared += [f"{package['split']:.1f}", "", "", "", ""]
        agree = "scores agree" if result["scores_agree"] else f"SCORES DIFFER by more than {TOLERANCE:g}"
        all_of_it += [f"{package['seconds']:.1f}", "", f"**{result['ratio']:.2f}**"]
        all_of_it += [f"{result['package_peak_bytes'] / 1e6:.0f}", agree]
        processor += [f"{package['cpu_seconds']:.1f}", "", f"{result['ratio_cpu']:.2f}", "", ""]
    lines += [shared, all_of_it, processor]
    text = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    share = result["metrics"].get("dynamic_degree", {}).get("overall")
    moving = (
        ""
        if share is None
        else f" {share:.0%} of the clips move: there ours stops after a quarter of the flows or later."
    )
    return (
        f"{text}\n\n{job['videos']} videos of {job['seconds']:g} s, {job['height']} x {job['width']} at {job['fps']}/s "
        f"({result['clips']} clips), networks: {job['networks']}, {job['device']}, {job['threads']} threads; ours holds at "
        f"most {result['ours_peak_bytes'] / 1e6:.0f} MB. Floor: the networks' arithmetic, each frame and pair once, at the "
        f"speed of a large matrix product here.{moving}"
    )
