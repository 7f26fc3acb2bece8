"""The first real rollout: two policies on one prompt, every check, the likeliest cause of a failure, a report."""

from __future__ import annotations

import dataclasses
import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from deepforcing.environment import environment
from deepforcing.generator import GeneratorSpec
from deepforcing.prompts import Prompt
from deepforcing.rollout.schedule import Schedule
from deepforcing.runs import atomic_write_json, atomic_write_text
from experiments.health.causes import differences, likeliest
from experiments.health.checks import Check, Ranges, failed, of_video
from experiments.health.observed import Numbers, distance, observe
from experiments.health.resume import resume

OTHER = {"bfloat16": "float32", "float32": "bfloat16"}


@dataclass(frozen=True)
class Light:
    """specs: by the policy's name. published: the generator's schedule. source: where the ranges come from. words: of a rollout
    of the last policy, without runs_root; None: resuming is not looked at."""

    specs: dict[str, GeneratorSpec]
    published: Schedule
    prompt: Prompt
    total_frames: int
    device: torch.device
    ranges: Ranges
    source: str
    words: tuple[str, ...] | None
    out: Path


def first_light(light: Light, console: Console) -> bool:
    """Whether everything held. The report is written whatever came out."""
    checks: dict[str, list[Check]] = {}
    numbers: dict[str, list[Numbers]] = {}
    cause = None
    first = next(iter(light.specs.values()))
    first.model.prepare([light.prompt.text], light.device)
    checks["settings"] = [settings(first, light.published)]
    for name, spec in light.specs.items():
        console.print(f"{name}: {light.total_frames} latent frames, {spec.dtype} on {light.device}")
        numbers[name], latents = chunks_of(light, spec)
        checks[name] = of_video(numbers[name], light.ranges)
        if spec is first:
            checks[name].append(precision(light, spec, latents))
        show(checks[name], console)
        if failed(checks[name]) and cause is None:
            cause = likeliest(
                spec, light.published, checks[name], lambda other: of_video(chunks_of(light, other, 1)[0], light.ranges)
            )
    if light.words is not None:
        console.print("resume: a rollout is killed and started again")
        checks["resume"] = [resume(light.words, light.out.parent)]
        show(checks["resume"], console)
    show(checks["settings"], console)
    if cause is None and failed(checks["settings"]):
        cause = likeliest_setting(first, light.published)
    held = not any(map(failed, checks.values()))
    report = recorded(light, checks, numbers, cause)
    atomic_write_json(light.out, report)
    atomic_write_text(light.out.with_suffix(".md"), as_markdown(report))
    if cause is not None:
        console.print(f"likeliest cause: {cause}")
    verdict = "everything held" if held else "NOT everything held"
    console.print(f"first light: {verdict}; report: {light.out.absolute()} (and .md)")
    return held


def chunks_of(light: Light, spec: GeneratorSpec, chunks: int | None = None) -> tuple[list[Numbers], torch.Tensor]:
    """A video's numbers, the model loaded for it alone."""
    prompt = (light.prompt.text, light.prompt.id, 0)
    generator = spec.build(light.device)
    found = observe(generator, prompt, light.total_frames, chunks)
    del generator
    gc.collect()
    if light.device.type == "cuda":
        torch.cuda.empty_cache()
    return found


def settings(spec: GeneratorSpec, published: Schedule) -> Check:
    found = differences(spec, published)
    if getattr(spec.model, "checkpoint", None) is not None and not found:
        return Check(
            "settings", None, "the checkpoint is a file of yours: which averages and LoRA belong to it is not known"
        )
    said = "; ".join(f"{suspect.cause}: {suspect.said}" for suspect in found) or "as the generator was published"
    return Check("settings", not found, said)


def likeliest_setting(spec: GeneratorSpec, published: Schedule) -> str:
    suspect = differences(spec, published)[0]
    return f"{suspect.cause}: {suspect.said}; the numbers do not show it, the videos may"


def precision(light: Light, spec: GeneratorSpec, latents: torch.Tensor) -> Check:
    """The first chunk in the other precision."""
    other = OTHER[spec.dtype]
    _, again = chunks_of(light, dataclasses.replace(spec, dtype=other), 1)
    apart = distance(*((latents, again) if other == "float32" else (again, latents)))
    most = light.ranges["precision"][1]
    return Check(
        "precision",
        apart <= most,
        f"bfloat16 is {apart:.3g} of float32 away in the first chunk, wanted at most {most:g}",
    )


MARKS = {True: "held    ", False: "FAILED  ", None: "no word "}


def show(checks: Sequence[Check], console: Console) -> None:
    for check in checks:
        console.print(f"  {MARKS[check.passed]} {check.name:<21} {check.said}")


def recorded(
    light: Light, checks: dict[str, list[Check]], numbers: dict[str, list[Numbers]], cause: str | None
) -> dict[str, Any]:
    """Everything to send along: no paths, no environment variables, no words that were typed."""
    first = next(iter(light.specs.values()))
    return {
        "schema": 1,
        "held": not any(map(failed, checks.values())),
        "likeliest_cause": cause,
        "checks": {name: [check.record() for check in of] for name, of in checks.items()},
        "generator": first.name,
        "identity": {name: spec.identity(light.total_frames) for name, spec in light.specs.items()},
        "prompt": light.prompt.text,
        "latent_frames": light.total_frames,
        "ranges": {name: list(limits) for name, limits in light.ranges.items()},
        "ranges_source": light.source,
        "numbers": {name: [n.record() for n in of] for name, of in numbers.items()},
        "environment": environment(str(light.device)),
    }


def as_markdown(report: dict[str, Any]) -> str:
    made = f"{report['generator']}, {report['latent_frames']} latent frames"
    where = f"{report['environment']['device']}, torch {report['environment']['packages']['torch']}"
    lines = [
        "# First light",
        "",
        f"{'Everything held' if report['held'] else 'NOT everything held'}: {made}, on {where}.",
        "",
        *([f"Likeliest cause: {report['likeliest_cause']}", ""] if report["likeliest_cause"] else []),
        f"Ranges: {report['ranges_source']}",
        "",
        "| of | check | | found |",
        "|---|---|---|---|",
    ]
    for name, of in report["checks"].items():
        lines += [
            f"| {name} | {c['name']} | {MARKS[c['passed']].strip()} | {c['said'].replace('|', '/')} |" for c in of
        ]
    return "\n".join(lines) + "\n"
