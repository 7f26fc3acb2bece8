"""The embedded world: what the caption says is what is drawn, and the codec loses nothing."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from deepforcing.tiny.codec import CHANNELS, TinyCodec
from deepforcing.tiny.world import (
    BACKGROUND_RGB,
    PERIOD,
    RING,
    SIZE,
    VOCABULARY,
    Scene,
    caption,
    parse_caption,
    random_classes,
    render,
    sample_scenes,
)


def scenes(classes: list[list[int]], seed: int = 0) -> Scene:
    return sample_scenes(torch.tensor(classes), torch.Generator().manual_seed(seed))


def sprite_centres(scene: Scene, video: Tensor) -> Tensor:
    """Centre of what differs from the background, from pixels alone: [B, N, (x, y)] relative to the middle."""
    background = video.median(dim=1, keepdim=True).values  # the sprite passes any pixel in under half of a turn
    difference = (video - background).abs().sum(2)
    difference = difference * (difference > 0.25)
    axis = torch.arange(SIZE) + 0.5 - SIZE / 2
    total = difference.sum((2, 3))
    return torch.stack([(difference.sum(2) * axis).sum(-1) / total, (difference.sum(3) * axis).sum(-1) / total], -1)


# ---- captions ----------------------------------------------------------------------------------------------------


def test_every_caption_comes_back() -> None:
    sizes = [range(len(words)) for words in VOCABULARY]
    sentences = set()
    for classes in itertools.product(*sizes):
        sentence = caption(list(classes))
        sentences.add(sentence)
        assert parse_caption(sentence) == list(classes)
    assert len(sentences) == math.prod(map(len, sizes))


def test_captions_are_read_in_any_order_and_case() -> None:
    want = parse_caption(caption([1, 2, 3, 1, 0]))
    assert parse_caption("Slate: COUNTERCLOCKWISE, from the left, a green ring!") == want


@pytest.mark.parametrize(
    ("text", "group", "name"),
    [
        ("a red thing starts at the top and circles clockwise on a sand background", 0, "no shape"),
        ("a pink disc starts at the top and circles clockwise on a sand background", 1, "no colour"),
        ("a red disc circles clockwise on a sand background", 2, "no start"),
        ("a red disc starts at the top on a sand background", 3, "no direction"),
        ("a red disc starts at the top and circles clockwise", 4, "no background"),
        ("a red or blue disc starts at the top and circles clockwise on a sand background", 1, "more than one colour"),
        ("", 0, "no shape"),
    ],
)
def test_what_cannot_be_drawn_is_told_with_what_can(text: str, group: int, name: str) -> None:
    with pytest.raises(ValueError, match=name) as caught:
        parse_caption(text)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in VOCABULARY[group])
    example = message[message.rindex("as in '") + 7 : -1]
    parse_caption(example)


# ---- rendering ---------------------------------------------------------------------------------------------------


def test_rendering_is_deterministic_and_any_stretch_is_a_cut_of_the_whole() -> None:
    scene = scenes([[0, 0, 0, 0, 0], [2, 4, 1, 1, 3]])
    whole = render(scene, 100)
    assert whole.shape == (2, 100, 3, SIZE, SIZE)
    assert torch.equal(whole, whole.clamp(0, 1))
    assert torch.equal(whole, render(scene, 100))
    torch.testing.assert_close(render(scene, 30, first=40), whole[:, 40:70], atol=1e-5, rtol=0)
    torch.testing.assert_close(render(scene, 6, first=-3)[:, 3:], whole[:, :3], atol=1e-5, rtol=0)
    assert not torch.equal(render(scenes([[0, 0, 0, 0, 0]], seed=1), 1), render(scenes([[0, 0, 0, 0, 0]], seed=2), 1))


def test_a_turn_takes_one_period() -> None:
    video = render(scenes([[0, 1, 2, 0, 1]]), 2 * PERIOD + 1)
    torch.testing.assert_close(video[:, PERIOD : PERIOD + 20], video[:, :20], atol=1e-3, rtol=0)
    assert (video[:, PERIOD // 2] - video[:, 0]).abs().max() > 0.2


@pytest.mark.parametrize("shape", [0, 1, 2])
@pytest.mark.parametrize("direction", [0, 1])
@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_start_direction_and_speed_are_those_of_the_caption(shape: int, direction: int, start: int) -> None:
    scene = scenes([[shape, 3, start, direction, 0]], seed=start)
    centres = sprite_centres(scene, render(scene, PERIOD))
    radius = centres.norm(dim=-1)
    assert (radius - RING).abs().max() < 0.5
    angle = torch.atan2(centres[0, :, 1], centres[0, :, 0])  # y grows downwards: growing angle is clockwise
    towards = {0: (0, -1), 1: (1, 0), 2: (0, 1), 3: (-1, 0)}[start]  # top, right, bottom, left
    assert centres[0, 0] @ torch.tensor(towards, dtype=torch.float32) > 0.9 * RING
    steps = torch.remainder(angle.diff() + math.pi, 2 * math.pi) - math.pi
    sign = 1 if direction == 0 else -1
    assert float(steps.mean()) == pytest.approx(sign * 2 * math.pi / PERIOD, rel=0.02)
    assert (steps * sign > 0).float().mean() > 0.95


def test_colours_and_backgrounds_are_those_of_the_caption() -> None:
    for colour, rgb in enumerate([(1, 0, 0), (1, 1, 0), (0, 1, 0), (0, 1, 1), (0, 0, 1), (1, 0, 1)]):
        scene = scenes([[0, colour, 0, 0, b] for b in range(4)], seed=colour)
        channels = scene.rgb
        bright, dark = channels[:, torch.tensor(rgb) == 1], channels[:, torch.tensor(rgb) == 0]
        assert (bright.amin(1) > dark.amax(1) + 0.15).all(), VOCABULARY[1][colour]
        corner = render(scene, PERIOD)[:, :, :, 0, 0].mean(1)
        assert (corner - torch.tensor(BACKGROUND_RGB)).abs().max() < 0.25
        nearest = torch.cdist(render(scene, 1)[:, 0, :, ::15, ::15].mean((2, 3)), torch.tensor(BACKGROUND_RGB)).argmin(
            1
        )
        assert nearest.tolist() == [0, 1, 2, 3]


def test_random_captions_cover_the_vocabulary() -> None:
    classes = random_classes(500, torch.Generator().manual_seed(0))
    for group, words in enumerate(VOCABULARY):
        assert set(classes[:, group].tolist()) == set(range(len(words)))


# ---- codec -------------------------------------------------------------------------------------------------------


@pytest.fixture
def codec() -> TinyCodec:
    codec = TinyCodec()
    codec.mean.copy_(torch.randn(CHANNELS, generator=torch.Generator().manual_seed(0)))
    codec.scale.copy_(torch.rand(CHANNELS, generator=torch.Generator().manual_seed(1)) + 0.5)
    return codec


@pytest.mark.parametrize("latents", [1, 2, 7])
def test_codec_is_exactly_invertible(codec: TinyCodec, latents: int) -> None:
    video = torch.rand(2, 4 * (latents - 1) + 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(2))
    z = codec.encode(video)
    assert z.shape == (2, latents, CHANNELS, SIZE // 2, SIZE // 2)
    torch.testing.assert_close(codec.decode(z), video, atol=1e-5, rtol=0)


def test_any_latent_is_some_video(codec: TinyCodec) -> None:
    """Orthogonal: nothing in the latent is ignored either."""
    z = torch.randn(1, 3, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(3))
    video = codec.decode(z, first=False)
    assert video.shape == (1, 12, 3, SIZE, SIZE)
    torch.testing.assert_close(codec.encode(video[:, 3:], before=video[:, :3]), z, atol=1e-5, rtol=0)
    plain = TinyCodec()
    assert float(plain.decode(z, first=False).norm()) == pytest.approx(float(z.norm()), rel=1e-5)


@pytest.mark.parametrize("chunk", [1, 3])
def test_decoding_chunk_by_chunk_is_decoding_the_whole(codec: TinyCodec, chunk: int) -> None:
    z = torch.randn(1, 9, CHANNELS, 8, 8, generator=torch.Generator().manual_seed(4))
    pieces = [codec.decode(z[:, i : i + chunk], first=i == 0) for i in range(0, 9, chunk)]
    whole = codec.decode(z)
    assert whole.shape[1] == 33
    torch.testing.assert_close(torch.cat(pieces, 1), whole, atol=1e-6, rtol=0)


def test_frames_before_the_first_are_used_where_known(codec: TinyCodec) -> None:
    long = render(scenes([[0, 0, 0, 0, 0]]), 9 + 4)
    cut = codec.encode(long[:, 4:], before=long[:, 1:4])
    torch.testing.assert_close(cut, codec.encode(long)[:, 1:], atol=1e-5, rtol=0)
    assert not torch.allclose(codec.encode(long[:, 4:])[:, 0], cut[:, 0], atol=1e-3)


@pytest.mark.parametrize("frames", [2, 4, 8])
def test_lengths_that_do_not_fit(codec: TinyCodec, frames: int) -> None:
    with pytest.raises(ValueError, match=f"{frames} frames"):
        codec.encode(torch.zeros(1, frames, 3, SIZE, SIZE))
