"""Why a first rollout does not look like one: what is not as published, and what makes the checks hold when it is put right.

A cause is named for one of three reasons. A setting differs from the published one. Or the latents hold and the pixels do
not: then it is what decodes them. Or the first chunk holds once a suspect is exchanged, tried one by one.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from deepforcing.generator import GeneratorSpec
from deepforcing.rollout.schedule import Schedule
from experiments.health.checks import Check, failed, latents_hold, pixels_hold

SHIFT, EMA, LORA, VAE = "wrong timestep shift or steps", "wrong EMA choice", "a LoRA left out", "wrong VAE"
# field of a model's spec -> what it comes to, and the cause; null means as published
PARTS = {"use_ema": ("averaged", EMA), "lora": ("lora_spec", LORA), "vae": ("vae_path", VAE)}


@dataclass(frozen=True)
class Suspect:
    """cause: what would be wrong. said: how it is now. without: the same generator with it put right."""

    cause: str
    said: str
    without: GeneratorSpec


def differences(spec: GeneratorSpec, published: Schedule) -> list[Suspect]:
    """Settings that are not the published generator's. Of a checkpoint of the user's own none but the schedule is known."""
    found = []
    if spec.schedule != published:
        names = [
            f.name for f in dataclasses.fields(Schedule) if getattr(spec.schedule, f.name) != getattr(published, f.name)
        ]
        told = ", ".join(f"{n} is {getattr(spec.schedule, n)}, published {getattr(published, n)}" for n in names)
        found.append(Suspect(SHIFT, told, dataclasses.replace(spec, schedule=published)))
    for field, (outcome, cause) in PARTS.items():
        if not hasattr(spec.model, field) or getattr(spec.model, "checkpoint", None) is not None:
            continue
        as_published = dataclasses.replace(spec.model, **{field: None})  # type: ignore[type-var]
        if getattr(as_published, outcome) != getattr(spec.model, outcome):
            told = f"model.{field}={named(getattr(spec.model, field))}, published with model.{field}=null"
            found.append(Suspect(cause, told, dataclasses.replace(spec, model=as_published)))
    return found


def named(value: object) -> str:
    """A file by its name alone: reports travel."""
    return str(value).lower() if isinstance(value, bool) else str(value).rpartition("/")[2]


def others(spec: GeneratorSpec) -> Iterator[Suspect]:
    """What could be wrong although it is set as published: averaged or raw weights, where a file has both."""
    averaged = getattr(spec.model, "averaged", None)
    if averaged is not None:
        kind = "averaged" if averaged else "raw"
        model = dataclasses.replace(spec.model, use_ema=not averaged)  # type: ignore[type-var]
        yield Suspect(
            EMA, f"the {kind} weights are used, the file has others too", dataclasses.replace(spec, model=model)
        )


def likeliest(
    spec: GeneratorSpec,
    published: Schedule,
    checks: Sequence[Check],
    first_chunk: Callable[[GeneratorSpec], list[Check]],
) -> str:
    """One line. checks: of the video that failed. first_chunk: checks of a generator's first chunk."""
    known = differences(spec, published)
    if latents_hold(checks) and not pixels_hold(checks):
        settings = next((f" ({suspect.said})" for suspect in known if suspect.cause == VAE), "")
        return f"{VAE}: the latents are as they should be and the pixels are not{settings}"
    tried = []
    for suspect in [*known, *others(spec)]:
        if suspect.cause in tried:
            continue
        try:
            again = first_chunk(suspect.without)
        except (ValueError, OSError) as error:  # a file that is not there, a container without the other weights
            tried.append(f"{suspect.cause}, which could not be tried: {' '.join(str(error).split())[:100]}")
            continue
        if latents_hold(again) and not failed(again):
            return f"{suspect.cause}: {suspect.said}; put right, the first chunk holds"
        tried.append(suspect.cause)
    if known:
        return f"{known[0].cause}: {known[0].said}; put right alone, the checks still fail"
    after = f" (tried: {'; '.join(tried)})" if tried else ""
    return f"none of the known causes{after}: look at the checkpoint's sha256, and try dtype=float32"
