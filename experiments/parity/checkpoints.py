"""Replay of a checkpoint fixture: every container file loads to the tensors that the original loaders took from it.

A directory holds info.json (sizes, options, LoRA scale), config.json (the official Wan file's), container files (.pt,
diffusion_pytorch_model.safetensors), expected_generator_{ema,raw}.safetensors, and a recorded run of a base with and
without its LoRA. A container with both generators is taken both ways. One with a single generator must equal one of the
two expected ones throughout; which, the record says.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.rollout.chunkwise import chunkwise
from deepforcing.rollout.schedule import TABLE, Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import open_checkpoint, open_lora
from deepforcing.wan.lora import LoraSpec
from deepforcing.wan.recognise import AVERAGED, LORA
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_wan
from experiments.parity.files import read_fields, read_tensors
from experiments.parity.recording import RecordedNoise

INFO = "info.json"
EXPECTED = {True: "expected_generator_ema.safetensors", False: "expected_generator_raw.safetensors"}
MERGED = "expected_lora_merged_generator.safetensors"
Difference = tuple[str, float, dict[str, Any]]


def is_checkpoint_fixture(directory: Path) -> bool:
    return (directory / INFO).is_file() and any((directory / name).is_file() for name in EXPECTED.values())


def differences(directory: Path) -> Iterator[Difference]:
    """(what, largest absolute difference, details)."""
    info = read_fields(directory / INFO)
    sizes = {k: v for k, v in info["model_config"].items() if k in WanConfig.__dataclass_fields__}
    config = WanConfig(**sizes)
    official = directory / "config.json"
    if official.is_file():
        given = read_fields(official)
        wrong = {k: given[k] for k in sizes if k in given and given[k] != sizes[k]}
        yield "config.json", float("inf") if wrong else 0.0, {"fields": sorted(k for k in sizes if k in given)}
    expected = {ema: _expected(directory / name) for ema, name in EXPECTED.items() if (directory / name).is_file()}
    for path in containers(directory):
        yield from _container(directory, path, config, expected)
    loras = [p for p in _files(directory) if p.suffix == ".pt" and _is_lora(p)]
    scale = info.get("lora", {})
    for path in loras:
        spec = LoraSpec(path, int(scale["rank"]), float(scale["alpha"]))
        base = _base(directory)
        if (directory / MERGED).is_file():
            model = load_wan(base, config, torch.float32, lora=spec)
            yield f"{base.name} + {path.name}", _worst(model.state_dict(), _expected(directory / MERGED)), {}
        yield from _recorded(directory, info, config, base, spec)


def containers(directory: Path) -> list[Path]:
    """The checkpoint files of a fixture, LoRA and recorded tensors excluded."""
    return [
        p
        for p in _files(directory)
        if (p.suffix == ".pt" and not _is_lora(p)) or p.name.startswith("diffusion_pytorch_model")
    ]


def _container(
    directory: Path, path: Path, config: WanConfig, expected: dict[bool, dict[str, Tensor]]
) -> Iterator[Difference]:
    name = str(path.relative_to(directory))
    contents = open_checkpoint(path)
    stored = {t.dtype for t in contents.tensors.values()}
    dtype = stored.pop() if len(stored) == 1 else torch.float32
    if AVERAGED in contents.held:
        for ema, want in expected.items():
            got = load_wan(path, config, dtype, use_ema=ema).state_dict()
            yield f"{name} use_ema={str(ema).lower()}", _worst(got, want), {"tensors": len(want)}
        return
    got = load_wan(path, config, dtype).state_dict()
    worst = {EXPECTED[ema]: _worst(got, want) for ema, want in expected.items()}
    nearest = min(worst, key=lambda k: worst[k])
    yield name, worst[nearest], {"tensors": len(got), "equals": nearest, "dtype": str(dtype).removeprefix("torch.")}


def _recorded(
    directory: Path, info: dict[str, Any], config: WanConfig, base: Path, lora: LoraSpec
) -> Iterator[Difference]:
    inputs, outputs = next(iter(sorted(directory.glob("*_inputs.safetensors"))), None), None
    if inputs is not None:
        outputs = inputs.with_name(inputs.name.replace("_inputs", "_outputs"))
    if inputs is None or outputs is None or not outputs.is_file():
        return
    given, want = read_tensors(inputs), read_tensors(outputs)
    for name, adapter in (("latents_base_only", None), ("latents_with_lora", lora)):
        if name in want:
            got = _rollout(load_wan(base, config, torch.float32, lora=adapter), info, given)
            same = got.shape == want[name].shape
            yield name, float((got - want[name]).abs().max()) if same else float("inf"), {}


def _rollout(model: CausalWan, info: dict[str, Any], inputs: dict[str, Tensor]) -> Tensor:
    """The recorded run on our engine: LongLive's own rollout, a sink window at absolute positions."""
    options = info["options"]
    batch, frames = inputs["noise"].shape[:2]
    chunk = inputs["renoise"].shape[1] // batch
    size = (int(info["latent_hw"][0]), int(info["latent_hw"][1]))
    grid = (size[0] // model.config.patch[1], size[1] // model.config.patch[2])
    policy = CachePolicy(SinkWindow(options["local"], options.get("sink", 0)), "absolute")
    cache = KVCache(policy, model.config, grid, chunk, frames, batch)
    schedule = schedule_of(info["timesteps"], info["timestep_shift"])
    noise = RecordedNoise(inputs["noise"], inputs["renoise"], 0)
    with torch.no_grad():
        text = model.encode_text(inputs["text_embeds"])
    return torch.cat([c.latents for c in chunkwise(model, text, cache, schedule, noise, frames, size)], 1)


def schedule_of(timesteps: list[float], shift: float) -> Schedule:
    """The schedule whose warped timesteps these are."""
    table = Schedule(shift=shift).table() * TABLE
    steps = tuple(TABLE - int((table - t).abs().argmin()) for t in timesteps)
    schedule = Schedule(steps, shift)
    if max(abs(a - b) for a, b in zip(schedule.timesteps, timesteps, strict=True)) > 1e-3:
        return Schedule(tuple(round(t) for t in timesteps), shift, warp=False)
    return schedule


def _base(directory: Path) -> Path:
    """The file that the LoRA goes over: LongLive's, in full precision."""
    bases = [p for p in containers(directory) if "base" in p.name and "bf16" not in p.name]
    if not bases:
        raise ValueError(f"{directory} holds a LoRA but no *base*.pt to put it over")
    return bases[0]


def _files(directory: Path) -> list[Path]:
    return sorted(p for p in directory.rglob("*") if p.is_file())


def _is_lora(path: Path) -> bool:
    return any(".lora_A." in name for name in open_lora(path)) or LORA in open_checkpoint(path).held


def _expected(path: Path) -> dict[str, Tensor]:
    return {name.removeprefix("model."): tensor for name, tensor in read_tensors(path).items()}


def _worst(got: dict[str, Tensor], want: dict[str, Tensor]) -> float:
    """Largest absolute difference, after the same cast; infinity if names or shapes differ."""
    if got.keys() != want.keys() or any(got[n].shape != want[n].shape for n in want):
        return float("inf")
    return max(float((got[n].float() - want[n].to(got[n].dtype).float()).abs().max()) for n in want)
