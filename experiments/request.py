"""From words to a checked request: what to make, where, on which device. Everything that can fail early fails here."""

from __future__ import annotations

import importlib
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, cast

import torch
from hydra.utils import instantiate
from omegaconf import DictConfig

from deepforcing.cache.observe import Seen
from deepforcing.clip import Clip, read_clip
from deepforcing.continuation import Continuation, latents_file, read_continuation
from deepforcing.generator import DTYPES, GeneratorSpec
from deepforcing.lossy.exact import Exact
from deepforcing.memory import check_memory, plan_memory
from deepforcing.prompts import Prompt, Sample, load_prompts, plan_samples, prompts_from_texts, shard
from deepforcing.runs import check_writable
from deepforcing.tiny.model import TinySpec
from deepforcing.wan.model import WanSpec
from experiments.attention import with_attention
from experiments.command.kinds import check_values
from experiments.command.words import is_list, shown, whole
from experiments.suites import load_suite, suite_files

BEYOND = 4  # times a machine's memory: less is slow (pages, swap), this is a slip of the keyboard
ATTENTION = "experiments.probes.attention.Attention"


@dataclass(frozen=True)
class Request:
    """A checked request: what to make, where, on which device."""

    spec: GeneratorSpec
    plan: list[Sample]
    total_frames: int
    device: torch.device
    name: str
    start: Clip | Continuation | None = None
    batch: int = 1
    watch: str | None = None
    latents: bool = False

    @property
    def identity(self) -> dict[str, Any]:
        start = None if self.start is None else self.start.sha256
        return self.spec.identity(self.total_frames, start, self.device.type)


def check_request(config: DictConfig, here: bool = True) -> Request:
    """Checked before the first weight is read. here: whether it will run on this machine: where it will not, as on a login
    node, the device is looked at where it is. Raises ValueError or OSError."""
    spec = build_spec(config)
    prompts = find_prompts(config.prompts, spec.model.world)
    plan = shard(plan_samples(prompts, find_seeds(config.seeds)), str(config.shard))
    total_frames = spec.latent_frames(float(config.seconds))
    device = pick_device(str(config.device), here)
    set_threads(config.threads)
    if here:
        spec.check_device(device)
    batch, watch = whole(config.batch, "batch"), None if config.watch is None else str(config.watch)
    if watch is not None:
        find_observer(watch)
    spec.check_batch(batch)
    spec = with_attention(spec, config.get("attention", "torch"), device, str(config.runs_root), batch, here)
    spec.check_sizes(total_frames)
    for prompt in prompts:
        spec.cues(prompt.text, total_frames)
    start = None if config.start_from is None else find_start(str(config.start_from), spec, total_frames, plan)
    latents = str(config.latents) == "keep"
    if latents and not spec.rule.one_decoder:
        raise ValueError(
            f"generator {spec.name} decodes a video in rollouts that overlap, so its latents are no video by themselves: "
            "latents=keep goes with chunk-wise generators and rolling_forcing"
        )
    spec.check(total_frames)
    if here:
        check_room(spec, total_frames, device, batch)
    check_writable(str(config.runs_root))
    return Request(
        spec, plan, total_frames, device, str(config.name or default_name(spec)), start, batch, watch, latents
    )


def check_room(spec: GeneratorSpec, total_frames: int, device: torch.device, batch: int = 1) -> None:
    """Raises ValueError for videos that together need more memory than the GPU has free, or several times this machine's."""
    if device.type == "cuda":
        check_memory(spec, total_frames, torch.cuda.mem_get_info(device)[0], batch=batch)
        return
    if isinstance(spec.model, WanSpec):
        plan = plan_memory(spec, total_frames, batch=batch)
        needed = plan.weights + plan.cache + plan.activations + plan.vae + plan.taehv
    elif isinstance(spec.model, TinySpec):
        policy, tokens = spec.rule.cached(spec.cache, spec.chunk_frames), spec.model.geometry.tokens_per_frame
        needed = batch * policy.bytes(
            spec.model.config, tokens, spec.chunk_frames, total_frames, DTYPES[spec.dtype].itemsize
        )
    else:
        return
    there = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > BEYOND * there:
        raise ValueError(
            f"this run needs about {needed / 1e9:.1f} GB, but this machine has {there / 1e9:.1f} GB in all; use a smaller "
            "model, window_frames or dtype=bfloat16"
        )


def find_start(choice: str, spec: GeneratorSpec, total_frames: int, plan: list[Sample]) -> Clip | Continuation:
    """An image, a clip, or latents of an earlier rollout. Raises ValueError."""
    latents = latents_file(choice)
    if latents is not None:
        return read_continuation(latents, spec, total_frames, plan)
    return read_clip(choice, spec, total_frames)


def default_name(spec: GeneratorSpec) -> str:
    """The cache's name, after the generator's where that is not the rule that all policies are compared on."""
    parts = [spec.cache.name]
    if spec.name not in ("self_forcing", "deep_forcing", spec.cache.name):
        parts.insert(0, spec.name)
    return "_".join(filter(None, parts)) or "run"


def build_spec(config: DictConfig) -> GeneratorSpec:
    """Plain dataclasses from the config; no DictConfig goes further."""
    for key in ("model", "cache", "generator", "lossy"):
        if key in config:  # not every command has a choice of lossy
            check_values(config[key], key)
    model = instantiate(config.model, _convert_="object")
    cache = instantiate(config.cache, _convert_="object")
    make = instantiate(config.generator, _convert_="object", _partial_=True)
    spec: GeneratorSpec = make(model=model, cache=cache, dtype=str(config.dtype))
    attention: Any = config.get("attention", "torch")
    attention = "torch" if attention == "measured" else attention  # until the device is known (attention.py)
    lossy: Exact = instantiate(config.lossy, _convert_="object") if "lossy" in config else Exact()
    return replace(spec, backend=config.get("backend", "plain"), attention=attention, lossy=lossy)


class Observer(Protocol):
    """Told of every layer of every pass (deepforcing/cache/observe.py); writes what it keeps when it is closed."""

    def __init__(self, folder: Path, samples: list[str]) -> None: ...
    def __call__(self, seen: Seen) -> None: ...
    def close(self) -> None: ...


def find_observer(name: str) -> type[Observer]:
    """The observer class of that dotted name. Raises ValueError."""
    module, _, attribute = name.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), attribute)
    except Exception as error:
        raise ValueError(f"watch={shown(name)} cannot be imported; give module.Class, as in {ATTENTION}") from error
    if not (
        isinstance(found, type) and hasattr(found, "close") and any("__call__" in vars(base) for base in found.__mro__)
    ):
        raise ValueError(f"watch={shown(name)} is no observer: it needs __call__(seen) and close()")
    return cast("type[Observer]", found)


def find_seeds(choice: Any) -> list[Any]:
    """One seed or a list of them; plan_samples sees that they are whole numbers."""
    return list(choice) if is_list(choice) else [choice]


def set_threads(choice: Any) -> None:
    if choice is not None:
        torch.set_num_threads(whole(choice, "threads"))


def find_prompts(choice: Any, world: str | None = None) -> list[Prompt]:
    """A list of texts, a text file, or the name of a suite in conf/suites/.

    world: of the model; where it has a suite of that name of its own, WORLD_NAME.yaml, that one is meant.
    """
    if is_list(choice):
        return prompts_from_texts([str(text) for text in choice])
    suites = suite_files()
    for name in (f"{world}_{choice}", str(choice)):
        if name in suites:
            return load_suite(name)
    if not Path(str(choice)).is_file():
        raise ValueError(
            f"prompts={shown(choice)} is neither a suite ({', '.join(suites)}) nor a text file; "
            "or give texts: 'prompts=[\"a red disc ...\"]'"
        )
    return load_prompts(Path(str(choice)))


def pick_device(choice: str, here: bool = True) -> torch.device:
    """here: whether it is to be on this machine; otherwise its name alone is checked. Raises ValueError."""
    if choice == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(choice)
    except RuntimeError:
        raise ValueError(f"device={choice} is unknown; use auto, cpu, cuda or cuda:N") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device={choice} is not supported; use auto, cpu, cuda or cuda:N")
    if device.type == "cpu" and device.index:
        raise ValueError(f"device={choice}: a machine has one cpu; use cpu, and threads=N for how many threads")
    if here and device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise ValueError(
            f"device={choice}, but torch sees {torch.cuda.device_count()} CUDA devices here; use device=cpu"
        )
    return device
