"""Several prompts in one pass, and observers, through the rollout command."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from commands import BLUE, RED, Command

from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.policy import CachePolicy
from deepforcing.generator import GeneratorSpec
from deepforcing.prompts import Prompt
from deepforcing.tiny.model import TinySpec
from deepforcing.video import read_video

SCHEDULE = f"{RED} [2s] | {BLUE}"
PROBE = "watch=experiments.probes.attention.Attention"


def only(root: Path) -> Path:
    (run,) = root.iterdir()
    return run


def records(root: Path) -> dict[str, dict[str, object]]:
    return {p.stem: json.loads(p.read_text()) for p in only(root).glob("samples/*.json")}


def frames(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_video(path)[0]).float()


def test_a_batch_shows_what_its_videos_show_alone(make: Command, tmp_path: Path) -> None:
    """Prompts that change at other chunks are grouped apart; the record says how many shared a pass."""
    prompts = f"prompts=['{RED}','{BLUE}','{SCHEDULE}']"
    assert make(prompts, "seconds=4").status == 0
    status, _, err = make(prompts, "seconds=4", "batch=3", f"runs_root={tmp_path / 'batches'}")
    assert (status, err) == (0, "")
    assert only(tmp_path / "runs").name == only(tmp_path / "batches").name  # a run's identity is not its batch's
    together = records(tmp_path / "batches")
    assert [together[f"{Prompt(p).id}-s0"].get("batch") for p in (RED, BLUE, SCHEDULE)] == [2, 2, None]
    for name in together:
        alone, mine = (frames(only(tmp_path / root) / "samples" / f"{name}.mp4") for root in ("runs", "batches"))
        assert (alone - mine).abs().mean() < 0.05  # rounding, through a lossy codec


def test_choices_of_tokens_are_each_videos_own() -> None:
    """At the library: the same latents to rounding, with a policy that chooses tokens in every video for itself."""
    policy = CachePolicy(
        ParticipativeCompression(window_frames=9, sink_frames=2, budget_frames=7, recent_frames=4), "unified"
    )
    generator = GeneratorSpec("self_forcing", TinySpec(), policy).build(torch.device("cpu"))
    videos = [(RED, "a", 0), (BLUE, "b", 1)]
    both = [
        torch.stack([torch.from_numpy(c.frames) / 255 for c in chunk]) for chunk in generator.generate_batch(videos, 24)
    ]
    for i, video in enumerate(videos):
        alone = [torch.from_numpy(c.frames) / 255 for c in generator.generate(*video, 24)]
        for chunk, want in zip(both, alone, strict=True):
            torch.testing.assert_close(chunk[i], want, atol=2e-3 + 1 / 255, rtol=0)  # a level


def test_what_cannot_share_a_pass_is_refused(make: Command) -> None:
    for arguments, says in [
        (["batch=2", "generator.noise=upstream"], "drawn for one video at a time"),
        (["batch=0"], "batch"),
        (["watch=nosuch.module.Probe"], "cannot be imported"),
        (["watch=nosuch"], "cannot be imported"),
        (["watch=experiments.probes.attention.Nothing"], "cannot be imported"),
        (["watch=pathlib.Path"], "no observer"),
        (["watch=io.StringIO"], "no observer"),  # it can be closed, and cannot be called
        (["watch=os.system"], "no observer"),
    ]:
        status, _, err = make(f"prompts=['{RED}']", *arguments)
        assert status in (1, 2)
        assert says in err
        assert err.count("\n") == 1


@pytest.mark.parametrize("batch", [1, 2])
def test_an_observer_changes_nothing_and_leaves_its_file(make: Command, tmp_path: Path, batch: int) -> None:
    prompts = f"prompts=['{RED}','{BLUE}']"
    make(prompts, f"batch={batch}")
    status, _, err = make(prompts, f"batch={batch}", PROBE, f"runs_root={tmp_path / 'watched'}")
    assert (status, err) == (0, "")
    plain, watched = (
        {p.name: p.read_bytes() for p in only(tmp_path / root).glob("samples/*.mp4")} for root in ("runs", "watched")
    )
    assert plain == watched
    files = sorted(only(tmp_path / "watched").glob("probes/attention-*.npz"))
    assert len(files) == 2
    data = np.load(files[0])
    rows, heads, slots = data["mass"].shape
    assert rows == len(data["start"]) == len(data["slots"])
    np.testing.assert_allclose(data["mass"].sum(2), 1, atol=1e-4)
    assert slots >= 3
    assert heads > 0
