"""What must hold of a real rollout, and whether it does: pure functions of numbers and of stated ranges."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from experiments.health.observed import Numbers

LATENTS, PIXELS = ("mean", "deviation"), ("contrast", "smoothness")
LEAST_STEP = 1 / 255  # of luma: below it a change is none
Ranges = Mapping[str, tuple[float, float]]


@dataclass(frozen=True)
class Check:
    """passed: None where it could not be looked at. said: what was found, and what was wanted."""

    name: str
    passed: bool | None
    said: str

    def record(self) -> dict[str, Any]:
        return asdict(self)


def of_video(numbers: Sequence[Numbers], ranges: Ranges) -> list[Check]:
    """Finite, latents, pixels, joints: each over all chunks."""
    bad = [n.start for n in numbers if not n.finite]
    said = f"NaN or infinite from latent frame {bad[0]} on" if bad else f"{len(numbers)} chunks"
    checks = [Check("finite", not bad, said)]
    checks += [in_range(name, numbers, ranges[name]) for name in (*LATENTS, *PIXELS)]
    return [*checks, joints(numbers, ranges["joint"][1])]


def in_range(name: str, numbers: Sequence[Numbers], limits: tuple[float, float]) -> Check:
    values = [(getattr(n, name), n.start) for n in numbers]
    what = f"{'latents' if name in LATENTS else 'pixels'}: {name}"
    wanted = f"wanted {limits[0]:g} to {limits[1]:g}"
    outside = [(value, start) for value, start in values if not limits[0] <= value <= limits[1]]  # NaN too
    if outside:
        return Check(what, False, f"{outside[0][0]:.3g} in the chunk at latent frame {outside[0][1]}, {wanted}")
    return Check(what, True, f"{min(values)[0]:.3g} to {max(values)[0]:.3g}, {wanted}")


def joints(numbers: Sequence[Numbers], most: float) -> Check:
    """The change into a chunk beside those inside of it and of the chunk before."""
    worst, where = 0.0, 0
    for one, other in itertools.pairwise(numbers):
        beside = [n.inside for n in (one, other) if math.isfinite(n.inside)]
        if not beside:
            return Check("joints", None, "chunks of one latent frame have no inside to compare with")
        ratio = other.joint / max(sum(beside) / len(beside), LEAST_STEP)
        if not ratio <= worst:
            worst, where = ratio, other.start
    said = f"at most {worst:.2f} times the change inside of chunks (at latent frame {where}), wanted at most {most:g}"
    return Check("joints", worst <= most, said)


def failed(checks: Sequence[Check], begins: Callable[[str], bool] = lambda name: True) -> list[str]:
    return [check.name for check in checks if check.passed is False and begins(check.name)]


def latents_hold(checks: Sequence[Check]) -> bool:
    return not failed(checks, lambda name: name == "finite" or name.startswith("latents"))


def pixels_hold(checks: Sequence[Check]) -> bool:
    return not failed(checks, lambda name: name.startswith("pixels"))
