"""Latents that rollouts kept, decoded anew: into the run directory that the same rollout with that decoder would have made."""

from __future__ import annotations

import time
from typing import Any

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console

from deepforcing import backend
from deepforcing.environment import environment
from deepforcing.generator import DTYPES, ModelSpec
from deepforcing.latents import read_latents
from deepforcing.runs import MIN_FREE_BYTES, RunDir, check_writable
from deepforcing.video import VideoWriter
from experiments.command.kinds import check_values
from experiments.command.terminal import bar
from experiments.command.words import is_list
from experiments.request import pick_device, set_threads
from experiments.results.runs import find_runs
from experiments.videos import command_line

DECODER = ("vae", "vae_dtype", "channels_last", "decoder", "taehv")  # of a model's identity: what may be another
COMPILED = ("compiled", "graphs")  # backends whose rollouts have a compiled decoder; its last bits are the run's
OF_THE_ROLLOUT = ("schema", "video", "bytes", "sha256", "latents", "wall_seconds", "peak_memory_bytes", "cache_bytes")


def decode_runs(config: DictConfig, console: Console) -> None:
    """Every video with latents that is not there yet, run by run. Raises ValueError before the first one is decoded."""
    if config.runs is None:
        raise ValueError("give runs=DIR, run directories that were made with latents=keep")
    check_values(config.model, "model")
    model: ModelSpec = instantiate(config.model, _convert_="object")
    device = pick_device(str(config.device))
    set_threads(config.threads)
    patterns = config.runs if is_list(config.runs) else [config.runs]
    old = [RunDir.open(path) for path in find_runs([str(pattern) for pattern in patterns])]
    identities = [decoded_identity(run, model) for run in old]
    for identity in identities:
        if identity.get("backend") in COMPILED:
            backend.check("compiled", device, DTYPES[identity["dtype"]])
    needed = sum(sample["bytes"] or 0 for run in old for sample in run.samples())
    check_writable(str(config.runs_root), needed + MIN_FREE_BYTES)
    for run, identity in zip(old, identities, strict=True):
        new = RunDir.create(str(config.runs_root), run.record()["name"], identity, decoded_record(run, model, config))
        kept = [sample for sample in run.samples() if run.has_latents(sample)]
        done = new.completed()
        todo = [sample for sample in kept if sample["sample"] not in done]
        told = f"{new.path}: {len(kept)} videos with latents, {len(kept) - len(todo)} already there"
        console.print(told, style="bold", markup=False)
        if not todo:
            continue
        decoders = model.decoders(device, DTYPES[identity["dtype"]], identity.get("backend") in COMPILED)
        with bar(console, "videos") as shown:
            for sample in shown.track(todo, description=str(run.record()["name"])):
                with new.claim(sample["sample"]) as mine:
                    if mine:
                        decode(run, new, sample, model, decoders(), device)


def decoded_identity(run: RunDir, model: ModelSpec) -> dict[str, Any]:
    """Of the run that the same rollout makes with this model's decoder. Raises ValueError where the model is another, or
    nothing is there to decode."""
    identity: dict[str, Any] = run.record().get("identity") or {}
    shapes = [sample["latents"]["shape"] for sample in run.samples() if run.has_latents(sample)]
    if not shapes:
        raise ValueError(f"{run.path} holds no latents: its own command with latents=keep adds them")
    before, after = identity.get("model") or {}, model.decoding()
    for key in sorted(after.keys() - set(DECODER)):
        if after[key] != before.get(key):
            raise ValueError(
                f"{run.path} is of a model with another {key} ({before.get(key)!s:.20}, not {after[key]!s:.20}): say its own "
                "as it was rolled out"
            )
    g = model.geometry
    size = [g.latent_channels, g.latent_height, g.latent_width]
    if any(shape[1:] != size for shape in shapes):
        raise ValueError(
            f"{run.path} holds latents of {shapes[0][1:]} channels, rows and columns, this model's are {size}"
        )
    if "start_from" in identity and after.get("vae") != before.get("vae"):
        raise ValueError(f"{run.path} starts from what its own VAE encoded: model.decoder=taehv alone goes with it")
    if identity.get("dtype") not in DTYPES:
        raise ValueError(f"{run.path} does not say which dtype it ran in")
    return {**identity, "model": {k: v for k, v in before.items() if k not in DECODER} | after}


def decoded_record(run: RunDir, model: ModelSpec, config: DictConfig) -> dict[str, Any]:
    """The fields of run.json beside the identity: the rollout's, but for what the decoder changes."""
    record = run.record()
    spec = {**(record.get("spec") or {}), "model": OmegaConf.to_container(config.model, resolve=True)}
    kept = {key: record[key] for key in ("geometry", "checkpoint") if record.get(key) is not None}
    return {
        **kept,
        "label": str(config.label or record.get("label") or record["name"]),
        "spec": spec,
        "pixel_scale": model.pixel_scale,
        "world": model.world,
        "environment": environment(str(config.device)),
        "command": command_line(),
        "decoded_from": run.name,
    }


@torch.inference_mode()
def decode(
    run: RunDir, new: RunDir, sample: dict[str, Any], model: ModelSpec, decoder: Any, device: torch.device
) -> None:
    """One video, chunk by chunk as it was made; its record is written last."""
    g, kept = model.geometry, sample["latents"]
    latents = read_latents(run.latents_path(sample["sample"]), kept["sha256"])
    rows = []
    with VideoWriter(new.video_path(sample["sample"]), g.width, g.height, g.fps, model.pixel_scale) as video:
        for chunk, made in zip(torch.split(latents, sample["chunk_frames"]), sample["chunks"], strict=True):
            began = time.perf_counter()
            pixels = decoder(chunk[None].to(device))[0].float().cpu()
            decoded = time.perf_counter()
            if not bool(pixels.isfinite().all()):
                raise ValueError(f"{run.latents_path(sample['sample'])} decodes to NaN or Inf")
            video.write(pixels.clamp(0, 1))
            seconds = {"decode_s": round(decoded - began, 6), "write_s": round(time.perf_counter() - decoded, 6)}
            rows.append({**{k: v for k, v in made.items() if not k.endswith("_s")}, **seconds})
    about = {key: value for key, value in sample.items() if key not in OF_THE_ROLLOUT}
    new.commit(
        {
            **about,
            "frames": video.frames,
            "width": g.width * model.pixel_scale,
            "height": g.height * model.pixel_scale,
            "decoded_from": {"run": run.name, "sha256": kept["sha256"]},
            "environment": environment(str(device)),
            "chunks": rows,
        }
    )
