"""Replay recorded runs of the published implementations and compare, tensor by tensor.

    python -m experiments.replay golden=DIR [golden=DIR ...] [tolerance=1e-4]

A fixture directory holds config.json (sizes, options, which weights), inputs.safetensors (noise, re-noise draws, text) and
outputs.safetensors (latents, some raw predictions, cached keys, Top-C choices). Everything is taken from these files.
Fixtures of checkpoint containers and of the VAE are recognised by what their json files hold.
Prints one JSON line per compared tensor and one per fixture; exit status 1 if any misses, 2 if a fixture is unusable.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from deepforcing.cache.alignment import Absolute, ReleaseSink
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan

TOLERANCE = 1e-4
CHUNKWISE_SYSTEMS = ("sf", "causalf", "deepf")
KEYS_LAYER = 1  # the layer whose cached keys the fixtures hold


@dataclass
class RecordedNoise:
    """The fixture's draws, in their order. renoise: [draws, B * F, C, Y, X], batch-major rows."""

    noise: Tensor
    renoise_draws: Tensor
    first: int
    used: int = 0

    def initial(self, start: int, shape: tuple[int, ...]) -> Tensor:
        return self.noise[:, start - self.first : start - self.first + shape[1]]

    def renoise(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        if self.used >= len(self.renoise_draws):
            raise ValueError(f"the fixture holds {self.used} re-noise draws; the run asks for more")
        self.used += 1
        return self.renoise_draws[self.used - 1].view(shape)


@dataclass
class Produced:
    """What our engine computed: latents, predictions by call number, keys and choices by the fixture's tensor names."""

    latents: Tensor
    calls: list[Tensor] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)


def policy_of(options: dict[str, Any]) -> CachePolicy:
    """The cache policy that a fixture's options name."""
    if options.get("repo") not in CHUNKWISE_SYSTEMS:
        raise ValueError(
            f"system {options.get('repo')!r} is not one that this engine replays: {', '.join(CHUNKWISE_SYSTEMS)}"
        )
    window, sink = options["local"], options.get("sink", 0)
    if window == -1:
        return CachePolicy(KeepAll(), Absolute())
    if options["repo"] != "deepf":
        return CachePolicy(SinkWindow(window, sink), Absolute())
    alignment = ReleaseSink(options.get("cap", 16))
    if not options.get("pc", False):
        return CachePolicy(SinkWindow(window, sink), alignment)
    return CachePolicy(
        ParticipativeCompression(
            window_frames=window,
            sink_frames=sink,
            budget_frames=options.get("cap", 16),
            recent_frames=options.get("R", 4),
            reuse_limit=options.get("reuse", 7),
            every_pass=True,
        ),
        alignment,
    )


def model_of(directory: Path, config: dict[str, Any]) -> CausalWan:
    sizes = {k: v for k, v in config["model_config"].items() if k in WanConfig.__dataclass_fields__}
    with torch.device("meta"):
        model = CausalWan(WanConfig(**sizes))
    prefix = config.get("weights_key_prefix", "")
    weights = load_file(directory / config["weights"])
    model.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items()}, assign=True)
    return model.eval()


def run(directory: Path, config: dict[str, Any]) -> Produced:
    """Generate the fixture's video with our engine."""
    inputs = load_file(directory / "inputs.safetensors")
    options = config["options"]
    model = model_of(directory, config)
    initial = inputs.get("initial_latent")
    given = 0 if initial is None else initial.shape[1]
    batch, frames = inputs["noise"].shape[:2]
    patch = model.config.patch
    size = (int(config["latent_hw"][0]), int(config["latent_hw"][1]))
    cache = KVCache(
        policy_of(options),
        model.config,
        (size[0] // patch[1], size[1] // patch[2]),
        config["chunk_frames"],
        given + frames,
        batch,
        keep_selections=True,
    )
    schedule = Schedule(
        steps=tuple(config["denoising_steps_requested"]),
        shift=config["timestep_shift"],
        warp=options.get("warp", True),
        first_chunk_steps=tuple(options["first_steps"]) if "first_steps" in options else None,
    )
    noise = RecordedNoise(inputs["noise"], inputs["renoise"], given)
    calls: list[Tensor] = []
    tensors: dict[str, Tensor] = {}
    latents = []
    with torch.no_grad():
        text = model.encode_text(inputs["text_embeds"])
    for chunk in chunkwise(
        model, text, cache, schedule, noise, given + frames, size, initial, watch=lambda s, t, out: calls.append(out)
    ):
        latents.append(chunk.latents)
        if model.config.num_layers > KEYS_LAYER:
            tensors[f"kv_after_frame{chunk.start:04d}.k_layer{KEYS_LAYER}"] = cache.keys(KEYS_LAYER)
    if noise.used != len(noise.renoise_draws):
        raise ValueError(f"the fixture holds {len(noise.renoise_draws)} re-noise draws; the run used {noise.used}")
    for chosen in cache.selections or ():
        name = f"pc.layer{chosen.layer}.frame{chosen.start:04d}"
        flat = slice(0, 1) if batch == 1 else slice(None)
        tensors[f"{name}.topc_selected"] = chosen.indices[flat, 0].squeeze(0) if batch == 1 else chosen.indices[:, 0]
        tensors[f"{name}.scores"] = chosen.scores[flat, 0].squeeze(0) if batch == 1 else chosen.scores[:, 0]
    return Produced(torch.cat(latents, 1), calls, tensors)


def compare(expected: dict[str, Tensor], produced: Produced) -> Iterator[tuple[str, float]]:
    """(tensor name, largest absolute difference); infinity for a missing or misshapen one, choices count as 0 or inf.

    Scores are sums of thousands of products, in the hundreds, so theirs is relative to the largest score.
    """
    for name, want in sorted(expected.items()):
        if name == "latents":
            got: Tensor | None = produced.latents
        elif name.startswith("call"):
            number = int(name.removeprefix("call").split(".")[0])
            got = produced.calls[number] if number < len(produced.calls) else None
        else:
            got = produced.tensors.get(name)
        if got is None or got.shape != want.shape or not got.isfinite().all():
            yield name, float("inf")
        elif not want.dtype.is_floating_point:
            yield name, 0.0 if torch.equal(got.to(want.dtype), want) else float("inf")
        else:
            scale = float(want.abs().max().clamp_min(1)) if name.endswith(".scores") else 1.0
            yield name, float((got - want).abs().max()) / scale


def differences(directory: Path) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(tensor name, largest absolute difference, further fields) of whatever kind of fixture this is."""
    from experiments import replay_checkpoints, replay_vae  # they use this module

    config = json.loads((directory / "config.json").read_text())
    if replay_checkpoints.is_checkpoint_fixture(directory):
        yield from replay_checkpoints.differences(directory)
    elif replay_vae.is_vae_fixture(config):
        yield from replay_vae.differences(directory, config)
    else:
        expected = load_file(directory / "outputs.safetensors")
        for name, difference in compare(expected, run(directory, config)):
            yield name, difference, {}


def replay(directory: Path, tolerance: float) -> Iterator[dict[str, Any]]:
    """JSON records: one per tensor, then one for the fixture."""
    worst, ok = 0.0, True
    for name, difference, details in differences(directory):
        good = difference <= tolerance
        worst, ok = max(worst, difference), ok and good
        yield {"fixture": directory.name, "tensor": name, "max_abs": difference, "ok": good, **details}
    yield {"fixture": directory.name, "max_abs": worst, "tolerance": tolerance, "ok": ok}


def main(arguments: list[str]) -> int:
    if not arguments or any(a in ("-h", "--help") for a in arguments):
        print(__doc__)
        return 0 if arguments else 2
    directories, tolerance = [], TOLERANCE
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "golden" and value:
            directories.append(Path(value))
        elif key == "tolerance":
            tolerance = float(value)
        else:
            print(f"replay: {argument!r} is not golden=DIR or tolerance=NUMBER", file=sys.stderr)
            return 2
    missed = unusable = False
    for directory in directories:
        if not (directory / "config.json").is_file():
            print(f"replay: {directory} holds no config.json, so it is no fixture directory", file=sys.stderr)
            unusable = True
            continue
        try:
            for record in replay(directory, tolerance):
                print(json.dumps(record), flush=True)
            missed = missed or not record["ok"]
        except (ValueError, KeyError, RuntimeError, OSError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(
                json.dumps({"fixture": directory.name, "error": reason, "tolerance": tolerance, "ok": False}),
                flush=True,
            )
            unusable = True
    return 2 if unusable else int(missed)


if __name__ == "__main__":
    torch.set_grad_enabled(False)
    sys.exit(main(sys.argv[1:]))
