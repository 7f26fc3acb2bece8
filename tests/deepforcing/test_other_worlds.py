"""The crowd and the pan: what the caption says is what is drawn, and the model, codec and trainer take any world."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from trained import trained

from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.generator import GeneratorSpec
from deepforcing.tiny import crowd, pan, train
from deepforcing.tiny import world as ring
from deepforcing.tiny.model import TinyModel, TinySpec, save_tiny
from deepforcing.tiny.worlds import WORLDS, World, config_of, find_world, geometry_of

OTHERS = [name for name in WORLDS if name != "tiny"]


@pytest.fixture(params=OTHERS)
def world(request: pytest.FixtureRequest) -> World:
    return find_world(request.param)


# ---- captions ----------------------------------------------------------------------------------------------------


def test_every_caption_comes_back(world: World) -> None:
    sentences = set()
    for classes in itertools.product(*(range(len(words)) for words in world.VOCABULARY)):
        if world.NAME == crowd.NAME and classes[1] == classes[3]:
            continue
        sentence = world.caption(list(classes))
        sentences.add(sentence)
        assert world.parse_caption(f"Look: {sentence.upper()}!") == list(classes)
    assert len(sentences) >= 68  # the suites are that many


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("tiny_crowd", "a red disc goes left on a sand background", 'does not say once "in front of"'),
        ("tiny_crowd", "a red disc goes left in front of a blue thing on a sand background", "names no shape behind"),
        ("tiny_crowd", "a red thing goes left in front of a blue ring on a sand background", "names no shape in front"),
        ("tiny_crowd", "a red disc goes left in front of a red ring on a sand background", "both subjects one colour"),
        ("tiny_crowd", "a red disc in front of a blue ring on a sand background", "names no direction"),
        ("tiny_pan", "the camera pans right along tall houses in a sky of day", "names no ground"),
        (
            "tiny_pan",
            "the camera pans right or left along tall houses on sand in a sky of day",
            "more than one direction",
        ),
        ("tiny_pan", "", "names no height"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_an_example(name: str, text: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        find_world(name).parse_caption(text)
    message = str(caught.value)
    assert "\n" not in message
    find_world(name).parse_caption(message[message.rindex("'", 0, -1) + 1 : -1])


# ---- rendering ---------------------------------------------------------------------------------------------------


def drawn(world: World, classes: list[list[int]], frames: int, first: int = 0, seed: int = 0) -> Tensor:
    scenes = world.sample_scenes(torch.tensor(classes), torch.Generator().manual_seed(seed))
    return world.render(scenes, frames, first)


def test_any_stretch_is_a_cut_of_the_whole(world: World) -> None:
    classes = world.random_classes(3, torch.Generator().manual_seed(0)).tolist()
    whole = drawn(world, classes, 100)
    assert whole.shape == (3, 100, 3, world.HEIGHT, world.WIDTH)
    assert torch.equal(whole, whole.clamp(0, 1))
    assert torch.equal(whole, drawn(world, classes, 100))
    torch.testing.assert_close(drawn(world, classes, 30, first=40), whole[:, 40:70], atol=1e-5, rtol=0)
    torch.testing.assert_close(drawn(world, classes, 6, first=-3)[:, 3:], whole[:, :3], atol=1e-5, rtol=0)
    assert not torch.equal(whole, drawn(world, classes, 100, seed=1))


def test_the_crowd_passes_leaves_and_returns() -> None:
    """A red disc goes right in front of a blue cross, on slate."""
    video = drawn(crowd, [[0, 0, 2, 4, 0, 0]], 2 * crowd.PERIOD)[0]
    torch.testing.assert_close(video[: crowd.PERIOD], video[crowd.PERIOD :], atol=1e-4, rtol=0)
    red, blue = (video[:, a] - video[:, b] > 0.3 for a, b in ((0, 2), (2, 0)))
    meeting = int(crowd.START)  # a pixel a frame
    assert red[0].nonzero()[:, 1].max() < 16 <= blue[0].nonzero()[:, 1].min()
    assert red[meeting].sum() > 50
    assert blue[meeting].sum() < 30  # what of the cross the disc does not hide
    assert blue[2 * meeting].nonzero()[:, 1].max() < 16 <= red[2 * meeting].nonzero()[:, 1].min()
    away = ~(red | blue).any((1, 2))
    assert 15 <= away[: crowd.PERIOD].sum() <= 20
    assert red.any((1, 2))[meeting]


def test_the_pan_moves_a_landmark_a_chunk_and_goes_on_being_new() -> None:
    right, left = (drawn(pan, [[1, 0, direction, 0, 0]], 240)[0] for direction in (0, 1))
    torch.testing.assert_close(left, right.flip(-1))
    period = round(pan.SPACING / pan.SPEED)
    assert period == 12  # pixel frames of a chunk of three latent frames
    shifted = right[:-period, :, :, pan.SPACING :]
    torch.testing.assert_close(right[period:, :, :, : -pan.SPACING], shifted, atol=1e-4, rtol=0)
    edge = right[:, :, 8:13, -1]  # the last column meets every landmark in turn
    assert edge.std(0).mean() > 0.1


def test_landmarks_differ_from_their_neighbours_and_between_videos() -> None:
    colours = pan.landmark_colours(torch.arange(500), 80)
    steps = (colours[:, 1:] - colours[:, :-1]) % 6
    shares = torch.bincount(steps.flatten(), minlength=6) / steps.numel()
    assert shares[0] == 0
    assert (shares[1:] - 0.2).abs().max() < 0.01
    assert (torch.bincount(colours[:, 40], minlength=6) / 500 - 1 / 6).abs().max() < 0.06
    assert torch.equal(pan.landmark_colours(torch.arange(500), 9), colours[:, :12])
    assert (colours[:-1] == colours[1:]).float().mean() < 0.2  # chance: a sixth


# ---- codec, model, trainer ---------------------------------------------------------------------------------------


def test_the_codec_is_exact_for_every_world(world: World) -> None:
    codec = TinyModel(world).codec
    train.fit_codec(codec, world)
    video = drawn(world, world.random_classes(2, torch.Generator().manual_seed(0)).tolist(), 9)
    geometry = geometry_of(world)
    latents = codec.encode(video)
    assert latents.shape[2:] == (geometry.latent_channels, geometry.latent_height, geometry.latent_width)
    torch.testing.assert_close(codec.decode(latents), video, atol=1e-5, rtol=0)


def test_one_world_has_64_tokens_a_frame_and_files_stay_small(world: World, tmp_path: Path) -> None:
    assert max(geometry_of(each).tokens_per_frame for each in WORLDS.values()) >= 64
    save_tiny(TinyModel(world), tmp_path / "model.safetensors", {})
    assert (tmp_path / "model.safetensors").stat().st_size < 10e6


def test_a_rollout_of_any_world(world: World, tmp_path: Path) -> None:
    save_tiny(TinyModel(world), tmp_path / "model.safetensors", {})
    spec = TinySpec(str(tmp_path / "model.safetensors"), name=world.NAME, world=world.NAME)
    generator = GeneratorSpec("g", spec, CachePolicy(SinkWindow(9, 3), "sink")).build(torch.device("cpu"))
    prompt = world.caption(world.random_classes(1, torch.Generator().manual_seed(0))[0])
    frames = np.concatenate([chunk.frames for chunk in generator.generate(prompt, "p", 0, 12)])
    assert frames.shape == (45, world.HEIGHT, world.WIDTH, 3)
    with pytest.raises(ValueError, match=r"names no|in front of"):
        generator.spec.cues("a cat", 12)


def test_another_worlds_checkpoint_and_no_world_are_refused(tmp_path: Path) -> None:
    save_tiny(TinyModel(pan), tmp_path / "pan.safetensors", {})
    with pytest.raises(ValueError, match=r"pan\.safetensors") as caught:
        TinySpec(str(tmp_path / "pan.safetensors"), world="tiny_crowd").check()
    assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match="tiny, tiny_crowd, tiny_pan"):
        TinySpec(world="tiny_moon")


@pytest.mark.parametrize(("world", "shipped"), [(crowd, None), (pan, None), (ring, "tiny_second")])
def test_shipped_weights_say_how_they_were_made(world: Any, shipped: str | None) -> None:
    spec = TinySpec(world=world.NAME, name=world.NAME, shipped=shipped)
    assert spec.path.stat().st_size < 10e6
    with safe_open(spec.path, framework="pt") as file:
        metadata = file.metadata()
    assert metadata["history"].count(f"deepforcing.tiny.train --world {world.NAME}") >= 2
    assert metadata["data"] == world.DATA_VERSION
    spec.check()


def test_a_world_without_weights_says_how_to_make_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("deepforcing.tiny.model.SHIPPED", tmp_path / "tiny.safetensors")
    with pytest.raises(ValueError, match="make train-crowd") as caught:
        TinySpec(world=crowd.NAME).check()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["tiny_moon", "../tiny", ""])
def test_weights_that_are_not_shipped_are_named_beside_those_that_are(name: str) -> None:
    with pytest.raises(
        ValueError, match=r"has tiny, tiny_crowd, tiny_pan, tiny_second; model.checkpoint=FILE"
    ) as caught:
        TinySpec(shipped=name).check()
    assert "\n" not in str(caught.value)


def run(monkeypatch: pytest.MonkeyPatch, out: Path, *options: str) -> dict[str, Tensor]:
    return trained(monkeypatch, out, "--world", "tiny_pan", "--batch", "1", *options)


@pytest.mark.slow
def test_a_training_that_was_stopped_goes_on_to_the_same_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "EVERY", 2)
    whole = run(monkeypatch, tmp_path / "whole.safetensors", "--steps", "5")
    step, stops = train.Trainer.step, iter([None, None, None, KeyboardInterrupt])

    def stopped(self: train.Trainer, *arguments: object) -> Tensor:
        if (stop := next(stops, None)) is not None:
            raise stop
        return step(self, *arguments)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(train.Trainer, "step", stopped)
        with pytest.raises(KeyboardInterrupt):
            run(patch, tmp_path / "cut.safetensors", "--steps", "5")
    state = tmp_path / "cut.state.safetensors"
    assert state.exists()
    with pytest.raises(SystemExit):  # another command does not take it for its own
        run(monkeypatch, tmp_path / "cut.safetensors", "--steps", "6")
    again = run(monkeypatch, tmp_path / "cut.safetensors", "--steps", "5")
    assert all(torch.equal(whole[name], again[name]) for name in whole)
    assert not state.exists()
    monkeypatch.setattr(train.Trainer, "step", None)  # it is trained: nothing is done again
    run(monkeypatch, tmp_path / "cut.safetensors", "--steps", "5")
    rows = [(tmp_path / f"{name}.csv").read_text().splitlines() for name in ("whole", "cut")]
    assert [[line.split(",")[0] for line in lines] for lines in rows] == 2 * [["step", "2", "4"]]


def test_configurations_are_wans_with_a_worlds_sizes(world: World) -> None:
    config = config_of(world)
    assert (config.dim, config.num_layers, config.text_len) == (
        world.MODEL["dim"], world.MODEL["num_layers"], len(world.VOCABULARY),
    )  # fmt: skip
    assert config.spatial_embedding == geometry_of(world).grid
