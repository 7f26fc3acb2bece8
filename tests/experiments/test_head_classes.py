"""The command that tells a model's heads apart: what it measures, and that a rollout takes what it writes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from commands import BLUE, RED, Command
from torch import Tensor

from deepforcing.cache.head_classes import SHIPPED, read_classes
from deepforcing.cache.observe import Seen
from deepforcing.cache.policy import Slot
from deepforcing.tiny.model import TINY_CONFIG
from experiments.probes.heads import Shares, groups

S, DIM = 2, 8


def a_pass(layer: int, order: list[int], mass: Tensor) -> Seen:
    """One whose head h puts the mass [h, frame] on the frames, in equal parts on their tokens: the queries are the first
    unit vector, the keys carry the logits. order: of the frames in the buffers."""
    heads, frames = mass.shape
    logits = (mass / S).log().repeat_interleave(S, 1)[:, torch.tensor([f * S + t for f in order for t in range(S)])]
    keys = torch.zeros(1, heads, frames * S, DIM)
    keys[0, :, :, 0] = logits * DIM**0.5
    queries = torch.zeros(1, heads, 3 * S, DIM)
    queries[..., 0] = 1
    slots = tuple(Slot("chunk" if f >= frames - 3 else "tail", f) for f in order)
    return Seen(layer, frames - 3, "commit", 0, queries, keys, queries, queries, slots, tuple(order))


def test_a_share_is_the_newest_frames_part_of_what_is_not_on_the_first() -> None:
    shares = Shares(newest=4, skip=1, queries=3)
    shares(a_pass(0, [0, 1, 2, 3, 4], torch.full((2, 5), 0.2)))  # too few frames to tell: left out
    first = torch.tensor([[0.5, 0.1, 0.1, 0.1, 0.1, 0.1], [0.1, 0.5, 0.1, 0.1, 0.1, 0.1]])
    second = torch.tensor([[0.02, 0.38, 0.15, 0.15, 0.15, 0.15], [0.02, 0.02, 0.24, 0.24, 0.24, 0.24]])
    shares(a_pass(0, [3, 0, 5, 1, 4, 2], first))
    shares(a_pass(0, [0, 1, 2, 3, 4, 5], second))
    want = [(0.4 + 0.6) / (0.5 + 0.98), (0.4 + 0.96) / (0.9 + 0.98)]
    assert shares.of_layers()[0] == pytest.approx(want, abs=1e-5)
    assert groups(shares.of_layers(), 0.7) == [{"layer": 0, "static": [1], "dynamic": [0]}]


def test_a_rollout_takes_what_the_command_writes(
    command: Command, make: Command, checkpoint: Path, tmp_path: Path
) -> None:
    file = tmp_path / "found" / "heads.json"
    of_model = (f"model.checkpoint={checkpoint}", "seconds=2", f"prompts=['{RED}','{BLUE}']")
    done = command("head_classes", *of_model, f"out={file}", "threshold=0.5")
    assert done.status == 0, done.err
    classes, record = read_classes(str(file)), json.loads(file.read_text())
    classes.check(TINY_CONFIG)
    assert record["videos"] == 2
    shares = torch.tensor(record["shares"])
    assert ((shares > 0) & (shares < 1)).all()
    assert shares.unique().numel() > 20
    assert record["groups"] == groups(record["shares"], 0.5)
    made = make("cache=forcing_kv", f"cache.retention.heads={file}")
    assert made.status == 0, made.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("seconds=0.3",), "passes see 3 key frames"),
        (("cache.retention.window_frames=5", "seconds=3"), "longer window"),
        (("cache=dummy_forcing", "seconds=2"), "find classes under cache=self_forcing"),
        (("threshold=1.5",), "threshold=1.5 must be"),
        (("prompts=['a cat']",), "a cat"),
    ],
)
def test_what_cannot_be_found_is_said_in_one_line(
    words: tuple[str, ...], says: str, command: Command, checkpoint: Path, tmp_path: Path
) -> None:
    given = (f"model.checkpoint={checkpoint}", f"prompts=['{RED}']", f"out={tmp_path / 'heads.json'}")
    done = command(
        "head_classes", *(g for g in given if g.partition("=")[0] not in {w.partition("=")[0] for w in words}), *words
    )
    assert done.status == 2
    assert says in done.err
    assert done.err.count("\n") == 1
    assert not list(tmp_path.glob("heads.json*"))


def test_a_rollout_takes_labels_of_heads(make: Command) -> None:
    labels = Path(__file__).with_name("tiny_labels.csv")
    made = make("cache=pyramid_forcing", f"cache.retention.labels={labels}", "seconds=3")
    assert made.status == 0, made.err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("cache=pyramid_forcing",), "cache.retention.labels=null: Pyramid Forcing needs the labels"),
        (("cache=forcing_kv", "cache.retention.heads=nowhere.json"), "heads=nowhere.json is no file of head classes"),
        (("cache=forcing_kv", "model=wan2.1-1.3b", "model.random_weights=true"), "one has 30 of 12: find its own with"),
        (
            ("cache=forcing_kv", "cache.retention.patches_per_frame=6"),
            "patches_per_frame=6 does not divide this model's 16",
        ),
        (("cache=dummy_forcing", "cache.commit_frames=3"), "commit_frames=3 is too few for cache 'dummy_forcing'"),
        (("cache=dummy_forcing", "generator=rolling_forcing", "seconds=10"), "keeps bands of heads"),
        (
            ("cache=dummy_forcing", "generator=longlive", f"prompts=['{RED} [1s] | {BLUE}']", "seconds=3"),
            "generator.on_switch=nothing",
        ),
    ],
)
def test_bands_are_refused_in_one_line_where_they_cannot_work(words: tuple[str, ...], says: str, make: Command) -> None:
    done = make(*words, *(["model.checkpoint=null"] if "model=wan2.1-1.3b" in words else []))
    assert done.status == 2
    assert says in done.err
    assert done.err.count("\n") == 1


@pytest.mark.slow
def test_the_shipped_classes_are_found_again(command: Command, tmp_path: Path) -> None:
    done = command("head_classes", f"out={tmp_path / 'heads.json'}")
    assert done.status == 0, done.err
    again, shipped = (json.loads(file.read_text()) for file in (tmp_path / "heads.json", SHIPPED))
    torch.testing.assert_close(torch.tensor(again["shares"]), torch.tensor(shipped["shares"]), atol=1e-3, rtol=0)
    assert {k: v for k, v in again.items() if k != "shares"} == {k: v for k, v in shipped.items() if k != "shares"}
