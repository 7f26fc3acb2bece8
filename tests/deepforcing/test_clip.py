"""Videos that begin with given frames: what the engine makes of them, and what is read from a file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.clip import check_length, read_clip
from deepforcing.frames import PixelChunk
from deepforcing.generator import Generator, GeneratorSpec
from deepforcing.rollout.rules import Chunkwise, Rolling
from deepforcing.rollout.schedule import Schedule
from deepforcing.stopwatch import Stopwatch
from deepforcing.tiny.codec import TinyCodec
from deepforcing.tiny.model import TinySpec
from deepforcing.tiny.world import parse_caption, render, sample_scenes
from deepforcing.video import VideoWriter
from deepforcing.yuv import Frames

RED = "a red disc starts at the left and circles clockwise on a slate background"
CPU = torch.device("cpu")
POLICIES = {
    "deep_sink": CachePolicy(SinkWindow(9, 3), "sink"),
    "deep_forcing": CachePolicy(ParticipativeCompression(9, 2, 7, 4), "unified"),
}


def spec(policy: str = "deep_sink", chunk: int = 3, **changes: object) -> GeneratorSpec:
    return GeneratorSpec("g", TinySpec(), POLICIES[policy], Schedule((1000, 500)), chunk, **changes)  # type: ignore[arg-type]


def scene(frames: int, seed: int = 5) -> Tensor:
    """Rendered truth, [frames, 3, 16, 16] in 0..1."""
    return render(sample_scenes(torch.tensor([parse_caption(RED)]), torch.Generator().manual_seed(seed)), frames, 0)[0]


def levels(video: Tensor) -> Frames:
    array: Frames = (video * 255).round().byte().permute(0, 2, 3, 1).numpy()
    return array


def run(generator: Generator, total: int, initial: Tensor | None = None, prompt: str = RED) -> tuple[Tensor, Tensor]:
    """Latents and pixels of one video."""
    job = generator.job(prompt, "p", 0, total, Stopwatch(CPU), initial)
    chunks = list(generator.spec.rule.generate(job))
    return torch.cat([c.latents for c, _ in chunks], 1), torch.cat([p[0] for _, p in chunks if p is not None])


# ---- the engine --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("on_switch", ["nothing", "recache"])
def test_a_run_continued_from_its_own_beginning_is_that_run(policy: str, on_switch: str) -> None:
    """To the last bit, prompt schedule included: the cache sees what it saw, noise is keyed by the chunk.

    Deep Forcing chooses tokens by noisy queries from frame 9 on; of given chunks it sees the clean ones.
    """
    generator = spec(policy, rule=Chunkwise(on_switch)).build(CPU)  # type: ignore[arg-type]
    line = f"{RED} [0.5s] | {RED.replace('red', 'blue')} [1.3s] | {RED}"
    whole, pixels = run(generator, 18, prompt=line)
    for given in (3, 12 if policy == "deep_sink" else 9):
        latents, again = run(generator, 18, whole[:, :given], line)
        assert torch.equal(latents, whole)
        assert torch.equal(again, pixels)
    other, _ = run(generator, 18, whole[:, :12] + 0.1, line)
    assert not torch.allclose(other[:, 12:], whole[:, 12:], atol=1e-3)


def test_the_codec_gives_latents_back_all_but_the_first() -> None:
    """The first latent holds one picture: what preceded it in the original is not in the pixels."""
    codec = TinyCodec()
    latents = torch.randn(1, 6, 48, 8, 8, generator=torch.Generator().manual_seed(1))
    pixels = codec.decode(latents)
    again = codec.encode(pixels)
    torch.testing.assert_close(again[:, 1:], latents[:, 1:], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(again[:, :1], latents[:, :1], atol=0.1)
    torch.testing.assert_close(codec.decode(again), pixels, atol=1e-5, rtol=1e-5)


def shown(chunks: Iterator[PixelChunk]) -> torch.Tensor:
    """Pixels in 0..1, [N, 3, H, W]."""
    return torch.cat([torch.from_numpy(c.frames) for c in chunks]).permute(0, 3, 1, 2) / 255


def test_a_rendered_clip_goes_on_as_the_world_does() -> None:
    """The shipped weights continue a clip that they have never seen where the renderer would."""
    generator = GeneratorSpec("g", TinySpec(), POLICIES["deep_sink"]).build(CPU)
    truth = scene(69)
    initial = generator.encode(levels(truth[:33]))
    pixels = shown(generator.generate(RED, "p", 0, 18, initial))
    assert pixels.shape == truth.shape
    assert (pixels[:33] - truth[:33]).abs().max() < 0.01  # the clip itself, through 8 bits and the codec
    assert (pixels[33:] - truth[33:]).abs().mean() < 0.02
    blind = shown(generator.generate(RED, "p", 0, 18))
    assert (blind[33:] - truth[33:]).abs().mean() > 0.05


def test_the_published_noise_begins_with_the_first_frame_made() -> None:
    job = spec(noise="upstream").build(CPU).job(RED, "p", 7, 12, Stopwatch(CPU), torch.zeros(1, 6, 48, 8, 8))
    want = torch.randn((1, 6, 48, 8, 8), generator=torch.Generator().manual_seed(7))
    assert torch.equal(job.noise.initial(6, (1, 3, 48, 8, 8)), want[:, :3])
    assert torch.equal(job.noise.initial(9, (1, 3, 48, 8, 8)), want[:, 3:])


def test_identity_holds_the_content_and_nothing_when_nothing_is_given() -> None:
    plain, given = spec().identity(12), spec().identity(12, "ab")
    assert given == {**plain, "start_from": "ab"}
    assert "start_from" not in plain


# ---- files -------------------------------------------------------------------------------------------------------


def write(path: Path, frames: Frames, fps: int = 16, scale: int = 8) -> Path:
    with VideoWriter(path, frames.shape[2], frames.shape[1], fps, scale) as video:
        video.write(frames)
    return path


def test_an_mp4_of_the_world_is_pooled_to_its_pixels(tmp_path: Path) -> None:
    wanted = levels(scene(21))
    clip = read_clip(write(tmp_path / "a.mp4", wanted), spec(), 12)
    assert (clip.frames.shape, clip.frames.dtype, clip.latent_frames) == (wanted.shape, np.uint8, 6)
    error = np.abs(clip.frames.astype(int) - wanted)
    assert error.mean() < 1
    assert error.max() <= 12
    copy = tmp_path / "copy.mp4"
    copy.write_bytes((tmp_path / "a.mp4").read_bytes())
    assert read_clip(copy, spec(), 12).sha256 == clip.sha256


LENGTHS = [
    # frames, chunk, what is said
    (1, 3, r"is a single frame.*9, 21, 33, 45 \.\.\. frames: an image starts a frame-wise generator"),
    (5, 3, r"has 5 frames.*must have 9, 21, 33, 45 \.\.\. frames$"),
    (20, 3, r"has 20 frames.*cut it, for example to its last 9$"),
    (44, 3, r"has 44 frames.*cut it, for example to its last 33$"),
    (4, 1, r"has 4 frames.*chunks of 1 latent frames.*1, 5, 9, 13 \.\.\. frames: cut it, for example to its last 1$"),
    (45, 3, r"lasts 2\.81 s.*to last 2\.81 s in all: ask for at least seconds=3\.56"),
    (57, 3, r"ask for at least seconds=4\.31"),
]


@pytest.mark.parametrize(("frames", "chunk", "says"), LENGTHS)
def test_lengths_that_do_not_fit_say_which_do(frames: int, chunk: int, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        check_length("it", frames, spec(chunk=chunk), 12)


@pytest.mark.parametrize(("frames", "chunk"), [(9, 3), (21, 3), (33, 3), (1, 1), (5, 1), (41, 1)])
def test_whole_chunks_fit_and_encode_to_what_is_announced(frames: int, chunk: int) -> None:
    made = spec(chunk=chunk)
    latents = TinyCodec().encode(scene(frames)[None])
    assert check_length("it", frames, made, 12) == latents.shape[1]
    assert latents.shape[1] % chunk == 0
    with pytest.raises(ValueError, match=f"seconds={made.model.geometry.seconds(latents.shape[1] + chunk):.2f}"):
        check_length("it", frames, made, latents.shape[1])


def test_the_length_asked_for_is_enough() -> None:
    """The seconds named in the message give a longer video, at every chunk size and length."""
    for chunk in (1, 2, 3, 5):
        made = spec(chunk=chunk)
        g = made.model.geometry
        for given in range(chunk, 100 * chunk, chunk):
            assert made.latent_frames(float(f"{g.seconds(given + chunk):.2f}")) == given + chunk


def test_a_joint_window_refuses_before_the_file_is_looked_for(tmp_path: Path) -> None:
    made = spec(rule=Rolling())
    with pytest.raises(ValueError, match="generator g cannot start from given frames: its window denoises several"):
        read_clip(tmp_path / "nowhere.png", made, 12)
