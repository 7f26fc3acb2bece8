"""The protocol vbench_long against the vbench2_beta_long package itself: same files, same random weights."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pandas as pd
import pytest
import torch
import vbench_files as files
import vbench_long_oracle as oracle

from eval.measure.batch import FRAMES, Batch
from eval.measure.metric import ClipInfo, Metric
from eval.metrics.vbench.background_consistency import BackgroundConsistency
from eval.metrics.vbench.clip_to_clip import EXTRACTORS, BetweenClips, Fusion, clip_to_clip, frame_features, read_fusion
from eval.metrics.vbench.subject_consistency import SubjectConsistency
from eval.metrics.vbench.temporal_flickering import TemporalFlickering
from eval.protocol import Protocol
from eval.reencode import clip_frames, reencoded
from eval.score import score as stage
from eval.stats.vbench import overall
from eval.store import stored
from eval.videos import open_folder
from experiments.evaluate import add_fused

CPU = torch.device("cpu")
LONG = Protocol("vbench_long")
VIDEOS = {"five seconds-0": 40, "two and a half-0": 20, "one and a half-0": 12}  # frames, 8 a second
LENGTHS = [1, 2, 15, 16, 17, 31, 45, 46, 47, 48, 58, 92, 100, 240, 478, 480, 957, 960, 1437]
RATES = [1.0, 1.9, 8.0, 15.99, 16.0, 23.976, 24.0, 29.97, 30.0]
RUNS = {  # of the package: dimension, --dev_flag, extractor
    "flickering": ("temporal_flickering", False, "dino"),
    "background": ("background_consistency", False, "clip"),
    "subject": ("subject_consistency", False, "dino"),
    "background-clip": ("background_consistency", True, "clip"),
    "background-dreamsim": ("background_consistency", True, "dreamsim"),
    "subject-dino": ("subject_consistency", True, "dino"),
    "subject-dinov2": ("subject_consistency", True, "dinov2"),
    "subject-dreamsim": ("subject_consistency", True, "dreamsim"),
}
TABLES = {  # nothing like VBench's: steep, so that a C that is a little off does not pass
    "subject_mapping_table.yaml": "0.0: 0.0\n0.5: 0.3\n0.9: 0.6\n0.97: 0.7\n1.0: 1.0\n",
    "background_mapping_table.yaml": "0.0: 0.0\n0.3: 0.1\n0.8: 0.4\n0.95: 0.8\n1.0: 1.0\n",
    "slow_fast_params.yaml": "w_inclip_sb: 0.5\nw_clip2clip_sb: 0.5\nw_inclip_bg: 0.5\nw_clip2clip_bg: 0.5\n",
    "clip_length_mix.yaml": "temporal_flickering: 2.0\n",
}


@dataclass
class Setting:
    configs: Path
    package: dict[str, Any]
    rows: pd.DataFrame
    between: dict[tuple[str, str], dict[str, float]]  # (dimension, extractor) -> sample -> C
    videos: Path


@pytest.fixture(scope="module")
def setting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Setting]:
    """Three videos, scored by the package in a process of its own, and by ours here."""
    if importlib.util.find_spec("vbench2_beta_long") is None:
        pytest.skip("the vbench package is not installed")
    folder = tmp_path_factory.mktemp("long")
    torch_home, videos, configs = folder / "torch_home", folder / "videos", folder / "configs"
    files.write_clip(folder, "clip_b32")
    files.write_dino(folder)
    oracle.write_dinov2(torch_home)
    (folder / ".cache" / "ensemble_lora").mkdir(parents=True)
    for made in (videos, configs):
        made.mkdir()
    for name, text in TABLES.items():
        (configs / name).write_text(text)
    for seed, (name, n) in enumerate(VIDEOS.items()):
        files.write_video(videos / f"{name}.mp4", n, 64, 96, seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VBENCH_CACHE_DIR", str(folder))
        patch.setenv("TORCH_HOME", str(torch_home))
        patch.setenv("HOME", str(folder))
        patch.setitem(sys.modules, "dreamsim", oracle.dreamsim_module())
        package = run_package(folder, videos, configs)
        parts, between = [], {}
        for name in VIDEOS:
            rows, found = score(videos / f"{name}.mp4")
            parts.append(rows)
            for key, value in found.items():
                between.setdefault(key, {})[name] = value
        yield Setting(configs, package, pd.concat(parts, ignore_index=True), between, videos)


def run_package(folder: Path, videos: Path, configs: Path) -> dict[str, Any]:
    job = {"videos": videos, "out": folder / "out", "configs": configs, "torch_home": folder / "torch_home"}
    path = folder / "job.json"
    path.write_text(
        json.dumps({key: str(value) for key, value in job.items()} | {"runs": RUNS, "lengths": LENGTHS, "rates": RATES})
    )
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [sys.executable, str(Path(oracle.__file__)), str(path)],
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    results: dict[str, Any] = json.loads(path.with_suffix(".results.json").read_text())
    return results


def score(path: Path) -> tuple[pd.DataFrame, dict[tuple[str, str], float]]:
    """Rows of a video's clips, and C by every extractor: what a stage does with the parts that are tested here."""
    with av.open(str(path)) as container:
        fps = float(container.streams.video[0].average_rate or 0)
        frames = list(container.decode(video=0))
    clips = LONG.clips(len(frames), fps)
    clip_fps = int(LONG.clip_fps(fps))
    batches = (Batch(frames[start : start + FRAMES]) for start in range(0, len(frames), FRAMES))
    dimensions: list[Metric] = [SubjectConsistency(), BackgroundConsistency(), TemporalFlickering()]
    rows, firsts = [], []
    for clip, second in zip(clips, reencoded(clip_frames(batches, clips), clip_fps), strict=True):
        info = ClipInfo(clip.end - clip.start, clip_fps, *second[0].frames.shape[1:3])
        firsts.append(second[0].frames[0])
        values = {}
        for dimension in dimensions:
            scorer, first = dimension.start(info, CPU), 0
            for batch in second:
                scorer.add(batch, first)
                first += len(batch)
            values[dimension.name] = scorer.finish()
        for metric, value in values.items():
            rows.append((path.stem, metric, "vbench_long", clip.t_start, clip.t_end, value, info.frames))
    table = pd.DataFrame(rows, columns=["sample", "metric", "protocol", "t_start", "t_end", "value", "frames"])
    found = {}
    for dimension_name, names in EXTRACTORS.items():
        by_name = clip_to_clip(firsts, clip_fps, {name: frame_features(dimension_name, name, CPU) for name in names})
        found |= {(dimension_name, name): value for name, value in by_name.items()}
    return table, found


def number(rows: pd.DataFrame) -> float:
    (value,) = overall(rows)["value"]
    return float(value)


@pytest.mark.parametrize("key", [key for key, (_, dev, _) in RUNS.items() if not dev])
def test_in_clip_scores_are_the_packages(setting: Setting, key: str) -> None:
    rows = setting.rows[setting.rows["metric"] == RUNS[key][0]]
    total, details = setting.package[key][:2]
    assert number(rows) == pytest.approx(total, abs=1e-6, rel=0)
    assert len(rows) == len(details) == 6
    assert sorted(rows["value"]) == pytest.approx(sorted(item["video_results"] for item in details), abs=1e-6, rel=0)
    assert np.ptp(rows["value"]) > 1e-4


@pytest.mark.parametrize("key", [key for key, (_, dev, _) in RUNS.items() if dev])
def test_clip_to_clip_mode_is_the_packages(setting: Setting, key: str) -> None:
    dimension, _, extractor = RUNS[key]
    rows = setting.rows[setting.rows["metric"] == dimension]
    between = setting.between[dimension, extractor]
    total, details = setting.package[key]
    theirs = {Path(item["video_path"]).stem: item["clip2clip_score"] for item in details}
    for sample, value in between.items():
        assert math.isnan(value) if sample.startswith("one") else value == pytest.approx(theirs[sample], abs=1e-6)
    fused = read_fusion(setting.configs, dimension).fuse(rows, between)
    assert number(fused) == pytest.approx(total, abs=1e-6, rel=0)
    assert sorted(fused["value"]) == pytest.approx(sorted(item["video_results"] for item in details), abs=1e-6, rel=0)
    assert abs(number(rows) - total) > 0.01  # the mode does something


def test_the_stage_gives_the_packages_numbers_and_keeps_them(setting: Setting, tmp_path: Path) -> None:
    between = [BetweenClips("subject_consistency", "dino"), BetweenClips("background_consistency", "clip")]
    group = open_folder(setting.videos, None, tmp_path)
    metrics = [SubjectConsistency(), BackgroundConsistency(), TemporalFlickering(), *between]
    result = stage(group, metrics, LONG)
    assert (result.problems, result.absent) == ([], {})
    add_fused(group, result, between, setting.configs)
    found = overall(result.table).set_index("metric")["value"]
    for metric, key in (
        ("temporal_flickering", "flickering"),
        ("subject_consistency", "subject"),
        ("background_consistency", "background"),
        ("subject_consistency_clip_to_clip", "subject-dino"),
        ("background_consistency_clip_to_clip", "background-clip"),
    ):
        assert found[metric] == pytest.approx(setting.package[key][0], abs=1e-6, rel=0)
    kept = stored([group], None, LONG)
    assert sorted(kept["metric"]) == sorted(result.table["metric"])
    weights = kept.groupby("metric")["weights_sha256"].unique()
    assert all(len(each) == 1 for each in weights)
    inside, between, joined = (
        weights[f"subject_consistency{end}"][0] for end in ("", "_between_dino", "_clip_to_clip")
    )
    assert inside == between != joined  # a fused score belongs to the weights of both


def test_clips_are_those_of_the_packages_splitter(setting: Setting) -> None:
    assert len(setting.package["split"]) == len(LENGTHS) * len(RATES)
    for n, fps, theirs in setting.package["split"]:
        ours = [[clip.start, clip.end, LONG.clip_fps(fps)] for clip in LONG.clips(n, fps)]
        assert ours == theirs, (n, fps)


def test_names_with_underscores_keep_their_term(setting: Setting) -> None:
    """The package drops it, silently, where a file's name has a "_"."""
    fusion = read_fusion(setting.configs, "subject_consistency")
    rows = setting.rows[setting.rows["metric"] == "subject_consistency"]
    between = setting.between["subject_consistency", "dino"]
    renamed = rows.assign(sample=rows["sample"].str.replace(" ", "_"))
    found = fusion.fuse(renamed, {name.replace(" ", "_"): value for name, value in between.items()})
    assert list(found["value"]) == list(fusion.fuse(rows, between)["value"])


def table(*clips: tuple[str, float]) -> pd.DataFrame:
    return pd.DataFrame(clips, columns=["sample", "value"])


def test_fusing_by_hand() -> None:
    fusion = Fusion(0.25, 0.75, (0.0, 0.5, 1.0), (0.0, 0.8, 1.0))
    rows = table(("a", 0.9), ("a", 0.7), ("zero", 0.6), ("zero", 0.4), ("lost", 0.5), ("lost", 0.5), ("alone", 0.3))
    found = fusion.fuse(rows, {"a": 0.75, "zero": 0.0, "alone": math.nan})["value"].to_numpy()
    np.testing.assert_allclose(
        found, [0.225 + 0.675, 0.175 + 0.675, 0.6, 0.4, math.nan, math.nan, 0.3], rtol=0, atol=1e-12
    )


def test_settings_come_from_a_checkout_too(tmp_path: Path) -> None:
    configs = tmp_path / "vbench2_beta_long" / "configs"
    configs.mkdir(parents=True)
    for name, text in TABLES.items():
        (configs / name).write_text(text)
    assert read_fusion(tmp_path, "background_consistency") == read_fusion(configs, "background_consistency")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("subject_mapping_table.yaml", None, "does not exist.*checkout"),
        ("subject_mapping_table.yaml", "0.0: [", "not readable YAML"),
        ("subject_mapping_table.yaml", "- 1", "not a YAML mapping"),
        ("subject_mapping_table.yaml", "{}", "does not hold VBench-Long's settings"),
        ("slow_fast_params.yaml", "w_inclip_sb: 0.5", "w_clip2clip_sb"),
    ],
)
def test_unfit_settings_are_told_in_one_line(tmp_path: Path, name: str, text: str | None, message: str) -> None:
    for other, content in TABLES.items():
        (tmp_path / other).write_text(content)
    (tmp_path / name).unlink()
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message) as raised:
        read_fusion(tmp_path, "subject_consistency")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dimension", ["subject_consistency", "imaging_quality"])
def test_unknown_extractors_are_told(dimension: str) -> None:
    with pytest.raises(
        ValueError, match=rf"extractors.{dimension}=clip cannot .*extractors.subject_consistency=dinov2"
    ):
        frame_features(dimension, "clip", CPU)
