"""The vbench package at work, dimension by dimension: `python -m benchmarks.vbench.package JOB.json`, in a process of
its own, for it reads its places when it is imported and needs modules and functions that are not here.

They are stood in for: scene detection, moviepy and DreamSim, which mode long_custom_input without --dev_flag does not use,
and torchvision's write_video, which torchvision had until 0.25.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
import types
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from benchmarks.vbench.meter import Clock, forget_peak, peak
from benchmarks.vbench.small import shrink
from benchmarks.vbench.weights import small_viclip
from deepforcing.torchvision_cpu import make_importable
from eval.reencode import _assembly

SETTINGS = {  # without --dev_flag the tables are read, and multiplied by 0
    "subject_mapping_table.yaml": "0.0: 0.0\n1.0: 1.0\n",
    "background_mapping_table.yaml": "0.0: 0.0\n1.0: 1.0\n",
    "slow_fast_params.yaml": "w_inclip_sb: 0.5\nw_clip2clip_sb: 0.5\nw_inclip_bg: 0.5\nw_clip2clip_bg: 0.5\n",
    "clip_length_mix.yaml": "temporal_flickering: 2.0\n",
}


def module(name: str, **content: Any) -> types.ModuleType:
    made = types.ModuleType(name)
    vars(made).update(content)
    return made


def write_video(filename: str, video_array: Any, fps: int) -> None:
    frames = torch.as_tensor(video_array, dtype=torch.uint8).numpy()
    with av.open(filename, mode="w") as container:
        # x264 kept off AVX-512, where it does not repeat itself (eval/reencode.py); the rest is as it was.
        stream = container.add_stream("libx264", rate=fps, options=_assembly())
        stream.width, stream.height, stream.pix_fmt = frames.shape[2], frames.shape[1], "yuv420p"
        for image in frames:
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)


def install(dreamsim: types.ModuleType) -> None:
    """Everything that the package imports and cannot find here."""
    make_importable()
    nothing = dict.fromkeys(("open_video", "SceneManager", "split_video_ffmpeg"))
    sys.modules["scenedetect"] = module("scenedetect", **nothing)
    sys.modules["scenedetect.detectors"] = module("scenedetect.detectors", ContentDetector=None)
    sys.modules["scenedetect.video_splitter"] = module("scenedetect.video_splitter", split_video_ffmpeg=None)
    sys.modules["moviepy"] = module("moviepy")
    sys.modules["moviepy.editor"] = module("moviepy.editor", VideoFileClip=None)
    sys.modules["dreamsim"] = dreamsim
    import torchvision.io

    torchvision.io.write_video = write_video


def evaluate(videos: str, out: str, configs: Path, name: str, dimension: str, device: torch.device, dev: bool = False,
             extractor: str | None = None) -> Any:  # fmt: skip
    """What VBench-Long's mode long_custom_input writes for one dimension: [overall, one entry per clip, ...]."""
    import vbench
    from vbench2_beta_long import VBenchLong

    info = str(Path(vbench.__file__).parent / "VBench_full_info.json")
    VBenchLong(device, info, out).evaluate(
        videos_path=videos,
        name=name,
        dimension_list=[dimension],
        local=True,
        mode="long_custom_input",
        use_semantic_splitting=False,
        clip_length_config=str(configs / "clip_length_mix.yaml"),
        dev_flag=dev,
        sb_clip2clip_feat_extractor=extractor or "dino",
        bg_clip2clip_feat_extractor=extractor or "clip",
        w_inclip=1.0,
        w_clip2clip=0.0,
        slow_fast_eval_config=str(configs / "slow_fast_params.yaml"),
        sb_mapping_file_path=str(configs / "subject_mapping_table.yaml"),
        bg_mapping_file_path=str(configs / "background_mapping_table.yaml"),
        num_of_samples_per_prompt=5,
        static_filter_flag=False,
        imaging_quality_preprocessing_mode="longer",
    )
    return json.loads((Path(out) / f"{name}_eval_results.json").read_text())[dimension]


def instrument() -> dict[str, Clock]:
    """Clocks for the package's own splitting into clips, and for whatever it decodes after that, from now on."""
    import cv2
    import vbench.utils

    split, decode = Clock(), Clock()
    capture = cv2.VideoCapture
    for name in ("load_video", "read_frames_decord_by_fps"):  # before anything imports them by name
        setattr(vbench.utils, name, decode.around(getattr(vbench.utils, name)))
    import vbench2_beta_long

    preprocess = vbench2_beta_long.VBenchLong.preprocess

    def timed(*args: Any, **kwargs: Any) -> None:
        wall, cpu = decode.wall, decode.cpu
        with split.running():
            preprocess(*args, **kwargs)
        decode.wall, decode.cpu = wall, cpu

    class Capture:
        def __init__(self, *args: Any) -> None:
            self._capture = capture(*args)
            self.read = decode.around(self._capture.read)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._capture, name)

    vbench2_beta_long.VBenchLong.preprocess = timed
    cv2.VideoCapture = Capture  # type: ignore[misc, assignment]
    return {"split": split, "decode": decode}


def main(job: dict[str, Any]) -> dict[str, Any]:
    torch.set_num_threads(job["threads"])
    device = torch.device(job["device"])
    install(module("dreamsim", dreamsim=None))
    clocks = instrument()
    if job["networks"] == "small":
        shrink()
    for name in job["dimensions"]:  # not timed: ours imports before its clock starts, too
        importlib.import_module(f"vbench2_beta_long.{name}")
    if job["networks"] != "full":
        for name, builder in small_viclip().items():
            setattr(importlib.import_module("vbench.third_party.ViCLIP.viclip"), name, builder)
    out = Path(job["out"])
    for name, text in SETTINGS.items():
        (out / name).write_text(text)
    found: dict[str, Any] = {}
    total = Clock()
    for name in job["dimensions"]:
        gc.collect()  # the last dimension's networks are gone, as if this one had a process of its own
        forget_peak(device)
        clock, before = Clock(), {key: (c.wall, c.cpu) for key, c in clocks.items()}
        with total.running(), clock.running():
            result = evaluate(job["videos"], str(out), out, name, name, device)
        wall, cpu = ({key: (c.wall, c.cpu)[i] - before[key][i] for key, c in clocks.items()} for i in (0, 1))
        found[name] = {
            "seconds": clock.wall - wall["split"],
            "cpu_seconds": clock.cpu - cpu["split"],
            "decode_seconds": wall["decode"],
            "peak_bytes": peak(device),
            "overall": result[0],
            "clips": {clip_key(item["video_path"]): item["video_results"] for item in result[1]},
        }
    return {"dimensions": found, "split": clocks["split"].told(), "total": total.told()}


def clip_key(path: str) -> str:
    """Of a clip: the video's name and the clip's number. The two consistencies name a file inside the clip's."""
    clip = Path(path) if Path(path).parent.suffix != ".mp4" else Path(path).parent
    video, _, number = clip.stem.rpartition("_")
    return f"{video} {0 if number == 'full' else int(number)}"


if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.with_suffix(".result.json").write_text(json.dumps(main(json.loads(path.read_text())), default=float))
