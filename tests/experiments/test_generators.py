"""Every published generator on the embedded world: videos, schedules, determinism, resume, scores."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from commands import BLUE, RED, Command

from baselines.causvid import causvid
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll
from deepforcing.generator import Generator
from deepforcing.prompts import Prompt
from deepforcing.rollout.rules import Job
from deepforcing.runs import RunDir
from deepforcing.stopwatch import Stopwatch
from deepforcing.tiny.model import TINY_GEOMETRY, TinySpec
from deepforcing.video import probe
from eval.metrics import WEIGHT_FREE
from eval.score import score_run
from experiments.cli import groups

SCHEDULE = f"{RED} [2s] | {BLUE}"
KIN = ("causal_forcing_1step", "causal_forcing_2step", "longlive_infinity")  # of a rule and cache that another has too
EACH = [pytest.param(g, marks=pytest.mark.slow if g in KIN else ()) for g in groups()["generator"]]


def only_run(root: Path) -> RunDir:
    (path,) = root.iterdir()
    return RunDir.open(path)


@pytest.mark.parametrize("generator", EACH)
def test_every_generator_makes_the_same_video_twice(generator: str, make: Command, tmp_path: Path) -> None:
    """4 s: 18 latent frames, more than a rolling window, less than a rollout of CausVid."""
    bytes_of = []
    for root in (tmp_path / "a", tmp_path / "b"):
        status, _, err = make(f"generator={generator}", "seconds=4", f"runs_root={root}")
        assert (status, err) == (0, "")
        run = only_run(root)
        (name,) = run.completed()
        sample = json.loads((run.path / "samples" / f"{name}.json").read_text())
        chunk = run.record()["identity"]["chunk_frames"]
        assert probe(run.video_path(name)).frames == sample["frames"]
        assert sample["frames"] == TINY_GEOMETRY.pixel_frames(TINY_GEOMETRY.latent_frames(4, chunk))
        assert len(sample["chunks"]) == sample["latent_frames"] // chunk
        bytes_of.append(run.video_path(name).read_bytes())
    assert bytes_of[0] == bytes_of[1]


@pytest.mark.parametrize("generator", [g for g in EACH if g.values != ("rolling_forcing",)])
def test_schedules_are_samples_of_their_own(generator: str, make: Command, tmp_path: Path) -> None:
    arguments = (f"generator={generator}", "seconds=4", f"prompts=['{RED}','{SCHEDULE}','{RED} [3s] | {BLUE}']")
    assert make(*arguments).status == 0
    run = only_run(tmp_path / "runs")
    videos = {name: run.video_path(name).read_bytes() for name in run.completed()}
    assert f"{Prompt(SCHEDULE).id}-s0" in videos
    assert len(set(videos.values())) == 3
    before = {name: run.video_path(name).stat().st_mtime_ns for name in videos}
    (run.path / "samples" / f"{Prompt(SCHEDULE).id}-s0.json").unlink()  # as if it had been killed
    assert make(*arguments).status == 0
    assert {name: run.video_path(name).read_bytes() for name in videos} == videos
    redone = {name for name in videos if run.video_path(name).stat().st_mtime_ns != before[name]}
    assert redone == {f"{Prompt(SCHEDULE).id}-s0"}


def test_rolling_forcing_refuses_schedules(make: Command) -> None:
    status, _, err = make("generator=rolling_forcing", "seconds=4", f"prompts=['{SCHEDULE}']")
    assert status == 2
    assert "cannot change at a chunk" in err


def test_recaching_is_an_option_and_part_of_the_identity(make: Command, tmp_path: Path) -> None:
    for choice in ("nothing", "recache", "recache_sink"):
        arguments = ("generator=self_forcing", f"generator.on_switch={choice}", "cache=longlive", "seconds=5")
        assert make(*arguments, f"prompts=['{RED} [4s] | {BLUE}']").status == 0
    runs = [RunDir.open(path) for path in (tmp_path / "runs").iterdir()]
    assert len({run.video_path(next(iter(run.completed()))).read_bytes() for run in runs}) == 3


def test_metrics_of_the_world_are_nan_for_schedules(make: Command, tmp_path: Path) -> None:
    assert make("seconds=4", f"prompts=['{RED}','{SCHEDULE}']").status == 0
    run = only_run(tmp_path / "runs")
    scored = score_run(run.path, WEIGHT_FREE)
    assert not scored.problems
    table = scored.table.assign(scheduled=scored.table["sample"] == f"{Prompt(SCHEDULE).id}-s0")
    of_world = {value.name for metric in WEIGHT_FREE if metric.world == "tiny" for value in metric.values}
    scheduled = table[table["scheduled"]]
    assert scheduled.loc[scheduled["metric"].isin(of_world), "value"].isna().all()
    assert scheduled.loc[scheduled["metric"] == "sharpness", "value"].notna().all()
    assert table.loc[~table["scheduled"] & (table["metric"] == "presence"), "value"].notna().all()


@pytest.mark.parametrize(("rollout_frames", "overlap", "total"), [(9, 3, 27), (12, 6, 21), (9, 3, 9), (9, 3, 18)])
def test_causvid_shows_what_the_rollouts_decode_to(
    rollout_frames: int, overlap: int, total: int, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every rollout decoded as a whole, each but the last without the last 4 (overlap - 1) + 1 pixel frames; and the next
    one begins with the first pixel frame that was left out, encoded again."""
    spec = causvid(
        TinySpec(str(checkpoint)), CachePolicy(KeepAll()), rollout_frames=rollout_frames, overlap=overlap, steps=(1000,)
    )
    model = spec.model.build(torch.device("cpu"), torch.float32)
    rollouts: list[list[torch.Tensor]] = []
    decoder = model.decoder

    def noting_decoder() -> object:
        rollouts.append([])
        decode = decoder()

        def noting(latents: torch.Tensor) -> torch.Tensor:
            rollouts[-1].append(latents)
            return decode(latents)

        return noting

    monkeypatch.setattr(model, "decoder", noting_decoder)
    chunks = list(Generator(spec, model, torch.device("cpu")).generate(RED, "p", 0, total))
    assert [c.start for c in chunks] == list(range(0, total, 3))
    got = torch.cat([torch.from_numpy(c.frames) for c in chunks]).permute(0, 3, 1, 2) / 255
    assert len(got) == TINY_GEOMETRY.pixel_frames(total)
    clips = [model.codec.decode(torch.cat(parts, 1)).clamp(0, 1) for parts in rollouts]
    cut = 4 * (overlap - 1) + 1
    want = torch.cat([*(clip[0, :-cut] for clip in clips[:-1]), clips[-1][0]])
    torch.testing.assert_close(got, want, atol=0.5 / 255 + 1e-5, rtol=0)  # rounded to 8 bits
    for before, after in zip(clips[:-1], rollouts[1:], strict=True):
        torch.testing.assert_close(after[0][:, :1], model.codec.encode(before[:, -cut : 1 - cut]))
    for earlier, later in itertools.pairwise(rollouts):
        assert torch.equal(torch.cat(later, 1)[:, 1:overlap], torch.cat(earlier, 1)[:, 1 - overlap :])


def test_without_a_codec_rules_give_latents_alone(checkpoint: Path) -> None:
    """What the bench times when a model has no decoder."""
    spec = causvid(TinySpec(str(checkpoint)), CachePolicy(KeepAll()), rollout_frames=9)
    device = torch.device("cpu")
    generator = Generator(spec, spec.model.build(device, torch.float32), device)
    with torch.inference_mode():
        job: Job = replace(generator.job(RED, "p", 0, 18, Stopwatch(device)), codec=None)
        results = list(spec.rule.generate(job))
    assert [chunk.start for chunk, _ in results] == list(range(0, 18, 3))
    assert all(pixels is None for _, pixels in results)
