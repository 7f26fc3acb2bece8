"""Noise levels: the published systems' exact numbers."""

from __future__ import annotations

import pytest
import torch

from deepforcing.rollout.schedule import Schedule

# Timesteps fed to the model after warping, by (shift, requested step): float32 values of the published code.
WARPED = {
    5.0: {
        1000: 1000.0,
        800: 952.381042,
        750: 937.5,
        600: 882.352905,
        500: 833.333313,
        400: 769.230774,
        250: 625.0,
        200: 555.555603,
    },
    8.0: {1000: 1000.0, 750: 960.0, 500: 888.888916, 250: 727.272766},
}


@pytest.mark.parametrize(
    ("shift", "step", "timestep"), [(s, a, b) for s, steps in WARPED.items() for a, b in steps.items()]
)
def test_warped_timesteps(shift: float, step: int, timestep: float) -> None:
    (got,) = Schedule((step,), shift).timesteps
    assert torch.tensor(got, dtype=torch.float32) == torch.tensor(timestep, dtype=torch.float32)
    assert got == float(torch.tensor(got, dtype=torch.float32))  # the model is fed float32
    (sigma,) = Schedule((step,), shift).sigmas
    assert sigma == pytest.approx(timestep / 1000, abs=1e-7)


def test_unwarped_steps_take_the_nearest_sigma() -> None:
    schedule = Schedule((1000, 757, 522), 8.0, warp=False)
    assert schedule.timesteps == [1000.0, 757.0, 522.0]
    assert schedule.sigmas == pytest.approx([1.0, 0.7567567, 0.5217391], abs=5e-8)
    table = schedule.table()
    assert [float(table[720]), float(table[880])] == schedule.sigmas[1:]


@pytest.mark.parametrize("shift", [1.0, 5.0, 8.0])
def test_table(shift: float) -> None:
    table = Schedule(shift=shift).table()
    assert table.dtype == torch.float32
    assert table.shape == (1000,)
    assert table[0] == 1
    u = 1 - torch.arange(1000, dtype=torch.float64) / 1000
    torch.testing.assert_close(table.double(), shift * u / (1 + (shift - 1) * u), atol=2e-7, rtol=1e-5)
    assert (table.diff() < 0).all()


def test_the_first_chunk_may_have_its_own_steps() -> None:
    schedule = Schedule((1000, 500), first_chunk_steps=(1000, 750, 500, 250))
    assert schedule.timesteps_of(True) == pytest.approx([1000.0, 937.5, 833.333313, 625.0])
    assert schedule.timesteps_of(False) == schedule.timesteps == pytest.approx([1000.0, 833.333313])
    assert len(schedule.sigmas_of(True)) == 4
    plain = Schedule((1000, 500))
    assert plain.timesteps_of(True) == plain.timesteps_of(False)


@pytest.mark.parametrize(
    "steps", [(), (500, 1000), (1000, 1000), (1001,), (1000, 0), (1000, -5), (1000, 250.5), ("1000",)]
)
def test_steps_that_cannot_work(steps: tuple[int, ...]) -> None:
    for name in ("steps", "first_chunk_steps"):
        with pytest.raises(ValueError, match=f"^{name}=.*descending integers"):
            Schedule(**{name: steps})  # type: ignore[arg-type]


@pytest.mark.parametrize("shift", [0.0, -5.0, float("nan")])
def test_shift_that_cannot_work(shift: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Schedule(shift=shift)


def test_lists_from_a_config_file_are_taken() -> None:
    assert Schedule([1000, 250]) == Schedule((1000, 250))  # type: ignore[arg-type]
    assert hash(Schedule([1000], first_chunk_steps=[1000, 500])) == hash(
        Schedule((1000,), first_chunk_steps=(1000, 500))
    )  # type: ignore[arg-type]
