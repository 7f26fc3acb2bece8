"""Which heads of a model look at the newest frames only. `python -m experiments.head_classes --help`"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from experiments.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from deepforcing.cache.observe import Seen
    from deepforcing.prompts import Sample


class Shares:
    """An observer that adds up where heads look: attention mass on the newest key frames, and on all but the first ones.

    queries: of a pass, evenly spread. Passes that see no more than newest + skip key frames tell nothing and are left out.
    """

    def __init__(self, newest: int, skip: int, queries: int) -> None:
        self.newest, self.skip, self.queries = newest, skip, queries
        self.sums: dict[int, Tensor] = {}

    def __call__(self, seen: Seen) -> None:
        count = len(seen.slots)
        if count <= self.newest + self.skip:
            return
        order = sorted(range(count), key=lambda i: -1 if seen.slots[i].frame is None else int(seen.slots[i].frame or 0))
        step = max(1, seen.queries.shape[2] // self.queries)
        q, k = seen.queries[:, :, ::step].float(), seen.keys.float()
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1).mean((0, 2))  # [H, T]
        mass = weights.unflatten(1, (count, -1)).sum(2)[:, order]
        found = torch.stack([mass[:, -self.newest :].sum(1), mass[:, self.skip :].sum(1)])
        self.sums[seen.layer] = self.sums.get(seen.layer, 0) + found.double()

    def of_layers(self) -> list[list[float]]:
        """A share in 0..1 per layer and head."""
        return [(self.sums[layer][0] / self.sums[layer][1]).tolist() for layer in range(len(self.sums))]


def groups(shares: Sequence[Sequence[float]], threshold: float) -> list[dict[str, Any]]:
    """Per layer, as head_classes.read_classes takes them."""
    return [
        {
            "layer": layer,
            "static": [h for h, share in enumerate(of_layer) if share >= threshold],
            "dynamic": [h for h, share in enumerate(of_layer) if share < threshold],
        }
        for layer, of_layer in enumerate(shares)
    ]


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
    from deepforcing.generator import Stopwatch
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
    partial = out.with_name(out.name + ".partial")
    lines = ",\n".join(f" {json.dumps(key)}: {json.dumps(value)}" for key, value in record.items())
    partial.write_text(f"{{\n{lines}\n}}\n")
    os.replace(partial, out)
    static = sum(len(group["static"]) for group in found)
    print(f"{out}: {static} static heads and {sum(map(len, of_layers)) - static} dynamic ones in {len(found)} layers")


def check(config: DictConfig, here: bool) -> object:
    return plan(config)


main = command("head_classes", check)(find)

if __name__ == "__main__":
    main()
