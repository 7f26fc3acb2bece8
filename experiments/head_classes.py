"""Which heads of a model look at the newest frames only. `python -m experiments.head_classes --help`"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.command import command
from experiments.command.moved import moved

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from deepforcing.prompts import Sample


def plan(config: DictConfig) -> tuple[Any, list[Sample], int]:
    """Spec, samples and latent frames of a checked request. Raises ValueError or OSError."""
    from deepforcing.cache.bands import BandedPolicy
    from deepforcing.prompts import plan_samples
    from experiments.command.outputs import check_output
    from experiments.request import build_spec, find_prompts, find_seeds

    spec = build_spec(config)
    prompts = find_prompts(config.prompts)
    total = spec.latent_frames(float(config.seconds))
    for prompt in prompts:
        spec.cues(prompt.text, total)
    spec.check(total)
    if isinstance(spec.cache, BandedPolicy):
        raise ValueError(
            f"under cache {spec.cache.name!r} heads see different frames: find classes under cache=self_forcing"
        )
    seen, least = spec.cache.slots(spec.chunk_frames, total), config.newest_frames + config.skip_frames
    if seen <= least:
        raise ValueError(
            f"passes see {seen} key frames, which must be more than newest_frames={config.newest_frames} and "
            f"skip_frames={config.skip_frames}: give more seconds, or a cache with a longer window"
        )
    check_output(str(config.out))
    return spec, plan_samples(prompts, find_seeds(config.seeds)), total


def find(config: DictConfig) -> None:
    import torch  # and all that follows: --help does without

    from deepforcing.runs import atomic_write_text
    from deepforcing.stopwatch import Stopwatch
    from experiments.probes.heads import Shares, groups
    from experiments.request import pick_device, set_threads

    spec, samples, total = plan(config)
    set_threads(config.threads)
    device = pick_device(str(config.device))
    spec.model.prepare([sample.prompt.text for sample in samples], device)
    generator, shares = spec.build(device), Shares(config.newest_frames, config.skip_frames, config.queries)
    with torch.inference_mode():
        for number, sample in enumerate(samples, 1):
            job = generator.job(sample.prompt.text, sample.prompt.id, sample.seed, total, Stopwatch(device))
            for _ in spec.rule.generate(replace(job, codec=None, watch=shares)):
                pass
            print(f"{number} of {len(samples)} videos", flush=True)
    of_layers = shares.of_layers()
    found = groups(of_layers, float(config.threshold))
    record = {
        "groups": found,
        "shares": [[round(share, 6) for share in heads] for heads in of_layers],
        "rule": {key: config[key] for key in ("newest_frames", "skip_frames", "threshold", "seconds", "queries")},
        "videos": len(samples),
        "model": spec.model.identity(),
    }
    out = Path(str(config.out))
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    atomic_write_text(out, f"{{\n{lines}\n}}\n")
    static = sum(len(group["static"]) for group in found)
    print(f"{out}: {static} static heads and {sum(map(len, of_layers)) - static} dynamic ones in {len(found)} layers")


def check(config: DictConfig, here: bool) -> object:
    return plan(config)


main = command("head_classes", check)(find)

__getattr__ = moved(__name__, {"experiments.probes.heads": "Shares groups"})

if __name__ == "__main__":
    main()
