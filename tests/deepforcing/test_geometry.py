"""Sizes, against the field's known numbers."""

from __future__ import annotations

import pytest

from deepforcing.geometry import Geometry


def test_wan_at_480p() -> None:
    wan = Geometry()
    assert (wan.latent_height, wan.latent_width) == (60, 104)
    assert wan.grid == (30, 52)
    assert wan.tokens_per_frame == 1560
    assert wan.tokens_per_frame * 21 == 32760


@pytest.mark.parametrize(("latent", "pixels"), [(1, 1), (3, 9), (21, 81), (240, 957), (1023, 4089)])
def test_pixel_frames(latent: int, pixels: int) -> None:
    assert Geometry().pixel_frames(latent) == pixels
    assert Geometry().seconds(latent) == pytest.approx(pixels / 16)


@pytest.mark.parametrize(
    ("seconds", "chunk", "frames"),
    [(5, 3, 21), (30, 3, 120), (60, 3, 240), (60, 1, 241), (0.01, 3, 3), (255.6, 3, 1023), (5, 4, 20), (600, 3, 2400)],
)
def test_latent_frames_of_a_duration(seconds: float, chunk: int, frames: int) -> None:
    assert Geometry().latent_frames(seconds, chunk) == frames


@pytest.mark.parametrize("chunk", [1, 3, 4])
def test_frames_to_seconds_and_back(chunk: int) -> None:
    geometry = Geometry()
    for frames in range(chunk, 400, chunk):
        assert geometry.latent_frames(geometry.seconds(frames), chunk) == frames


@pytest.mark.parametrize("seconds", [0, -5, float("nan"), float("inf")])
def test_durations_that_cannot_work(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"seconds=.*positive"):
        Geometry().latent_frames(seconds, 3)


@pytest.mark.parametrize(
    ("name", "size", "words"), [("height", 490, "480 or 496"), ("width", 0, "16"), ("height", 7, "16")]
)
def test_sizes_that_cannot_work(name: str, size: int, words: str) -> None:
    with pytest.raises(ValueError, match=f"{name}={size}.*{words}") as caught:
        Geometry(**{name: size})
    assert "\n" not in str(caught.value)


def test_other_models_follow_from_their_strides() -> None:
    small = Geometry(height=16, width=24, spatial_stride=2, temporal_stride=2, patch=2, latent_channels=12, fps=8)
    assert small.grid == (4, 6)
    assert small.pixel_frames(5) == 9
    assert small.latent_frames(10, 2) == 40
