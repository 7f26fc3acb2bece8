"""Recorded runs of the published systems, run again by our engine: one function per kind of rollout.

Each takes a fixture directory and its config.json and gives what the fixture's outputs are compared with (see replay.py).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from baselines.causvid import overlapping
from deepforcing.cache.alignment import Absolute, BySlot, ReleaseSink, SinkAligned
from deepforcing.cache.compression import ParticipativeCompression
from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import KeepAll, SinkWindow
from deepforcing.cache.rolling import RollingCache
from deepforcing.rollout.chunkwise import OnSwitch, chunkwise, clean
from deepforcing.rollout.rolling import rolling
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.weights import load_strict


@dataclass
class RecordedNoise:
    """The fixture's draws, in their order. renoise: [draws, B * F, C, Y, X], batch-major rows."""

    noise: Tensor
    renoise_draws: Tensor
    first: int = 0
    used: int = 0

    def initial(self, start: int, shape: tuple[int, ...]) -> Tensor:
        return self.noise[:, start - self.first : start - self.first + shape[1]]

    def renoise(self, start: int, step: int, shape: tuple[int, ...]) -> Tensor:
        if self.used >= len(self.renoise_draws):
            raise ValueError(f"the fixture holds {self.used} re-noise draws; the run asks for more")
        self.used += 1
        return self.renoise_draws[self.used - 1].view(shape)

    def check_used(self) -> None:
        if self.used != len(self.renoise_draws):
            raise ValueError(f"the fixture holds {len(self.renoise_draws)} re-noise draws; the run used {self.used}")


@dataclass
class Produced:
    """What our engine computed: latents, all passes by call number, keys and choices by the fixture's tensor names."""

    latents: Tensor
    calls: list[dict[str, Tensor]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)


class Recording:
    """A fixture's model, sizes and inputs, and every pass that the model makes from now on."""

    def __init__(self, directory: Path, config: dict[str, Any]) -> None:
        self.config, self.options = config, config["options"]
        self.inputs = load_file(directory / "inputs.safetensors")
        self.model = model_of(directory, config)
        self.size = (int(config["latent_hw"][0]), int(config["latent_hw"][1]))
        patch = self.model.config.patch
        self.grid = (self.size[0] // patch[1], self.size[1] // patch[2])
        self.chunk_frames = int(config["chunk_frames"])
        self.schedule = Schedule(
            steps=tuple(step for step in config["denoising_steps_requested"] if step),  # CausVid ends its list with 0
            shift=config["timestep_shift"],
            warp=self.options.get("warp", True),
            first_chunk_steps=tuple(self.options["first_steps"]) if "first_steps" in self.options else None,
        )
        self.sigma_table = self.schedule.table()
        self.calls: list[dict[str, Tensor]] = []
        self.model.register_forward_hook(self._record)

    def _record(self, module: Any, inputs: tuple[Any, ...], flow: Tensor) -> None:
        x, t = inputs[:2]
        sigma = float(self.sigma_table[torch.argmin((self.sigma_table * 1000 - float(t[0, 0])).abs())])
        self.calls.append({"flow": flow, "x0": clean(self.model, x, flow, sigma)})


def model_of(directory: Path, config: dict[str, Any]) -> CausalWan:
    given = config["model_config"]
    sizes = {k: v for k, v in given.items() if k in WanConfig.__dataclass_fields__}
    with torch.device("meta"):
        model = CausalWan(WanConfig(**sizes, **({"patch": given["patch_size"]} if "patch_size" in given else {})))
    prefix = config.get("weights_key_prefix", "")
    weights = {k.removeprefix(prefix): v for k, v in load_file(directory / config["weights"]).items()}
    load_strict(model, weights, f"weights {config['weights']}", torch.float32)
    return model.eval()


def refuse_what_is_not_replayed(config: dict[str, Any]) -> None:
    """Settings that change numbers and that this engine has no rule for. Raises ValueError naming them."""
    options = config["options"]
    wrong = [
        f"{name}={value!r}"
        for name, value, only in (
            ("fusion", options.get("fusion", "sum"), "sum"),
            ("keep_sinks", options.get("keep_sinks", True), True),
            ("clean_pass_timestep", config.get("clean_pass_timestep", 0), 0),
            ("dtype", config.get("dtype", "float32"), "float32"),
        )
        if value != only
    ]
    if wrong:
        raise ValueError(f"the fixture's {', '.join(wrong)} is not replayed by this engine")


def policy_of(options: dict[str, Any]) -> CachePolicy:
    """The cache policy that the options of a chunk-wise fixture name."""
    window, sink = options.get("local", -1), options.get("sink", 0)
    if options["repo"] == "longlive1":
        window = 21 if window == -1 else window  # its "global" attention still ends there
        return CachePolicy(SinkWindow(window, sink), BySlot() if options.get("infinity") else Absolute())
    if window == -1:
        return CachePolicy(KeepAll(), Absolute())
    if options["repo"] != "deepf":
        return CachePolicy(SinkWindow(window, sink), Absolute())
    if not options.get(
        "pc", False
    ):  # the release's sink-only model has no capacity and does not move its sink at first
        return CachePolicy(SinkWindow(window, sink), ReleaseSink(options.get("cap", 21)))
    budget, recent = options.get("cap", 16), options.get("R", 4)
    return CachePolicy(
        ParticipativeCompression(
            window_frames=window,
            sink_frames=sink,
            budget_frames=max(budget, sink + recent),  # too small a budget is exceeded, not an error
            recent_frames=recent,
            reuse_limit=options.get("reuse", 7),
            every_pass=True,
        ),
        ReleaseSink(budget),
    )


def switch_starts(requested: list[int], chunk_frames: int, total_frames: int) -> list[int]:
    """LongLive's rule: at every chunk, the next prompt if its frame has been reached; one prompt a chunk."""
    starts: list[int] = []
    for start in range(0, total_frames, chunk_frames):
        if len(starts) < len(requested) and start >= requested[len(starts)]:
            starts.append(start)
    return starts


def run_chunkwise(directory: Path, config: dict[str, Any]) -> Produced:
    """Self Forcing, Causal Forcing, Deep Forcing, LongLive."""
    r = Recording(directory, config)
    initial = r.inputs.get("initial_latent")
    given = 0 if initial is None else initial.shape[1]
    batch, frames = r.inputs["noise"].shape[:2]
    total = given + frames
    policy = policy_of(r.options)
    cache = KVCache(policy, r.model.config, r.grid, r.chunk_frames, total, batch, keep_selections=True)
    noise = RecordedNoise(r.inputs["noise"], r.inputs["renoise"], given)
    starts = switch_starts(list(r.options.get("switch", ())), r.chunk_frames, total)
    embeds = r.inputs["text_embeds"]
    with torch.no_grad():
        texts = [r.model.encode_text(e) for e in (embeds if embeds.ndim == 4 else embeds[None])]
    on_switch: OnSwitch = "recache" if r.options.get("global_sink", True) else "recache_sink"
    tensors: dict[str, Tensor] = {}
    latents = []
    for chunk in chunkwise(
        r.model, texts[0], cache, r.schedule, noise, total, r.size, initial,
        switches=dict(zip(starts, texts[1:], strict=False)), on_switch=on_switch,
    ):  # fmt: skip
        latents.append(chunk.latents)
        for layer in range(r.model.config.num_layers):
            keys = cache.keys(layer, rotated=not r.options.get("infinity", False))
            tensors[f"kv_after_frame{chunk.start:04d}.k_layer{layer}"] = keys
    noise.check_used()
    for chosen in cache.selections or ():
        name = f"pc.layer{chosen.layer}.frame{chosen.start:04d}"
        flat = slice(0, 1) if batch == 1 else slice(None)
        tensors[f"{name}.topc_selected"] = chosen.indices[flat, 0].squeeze(0) if batch == 1 else chosen.indices[:, 0]
        tensors[f"{name}.scores"] = chosen.scores[flat, 0].squeeze(0) if batch == 1 else chosen.scores[:, 0]
    return Produced(torch.cat(latents, 1), r.calls, tensors)


def run_rolling(directory: Path, config: dict[str, Any]) -> Produced:
    """Rolling Forcing. Its 21 attended frames and one-chunk sink are constants of the original."""
    r = Recording(directory, config)
    batch, total = r.inputs["noise"].shape[:2]
    policy = CachePolicy(SinkWindow(21, r.chunk_frames), SinkAligned())
    cache = RollingCache(policy, r.model.config, r.grid, r.chunk_frames, total, batch)
    noise = RecordedNoise(r.inputs["noise"], r.inputs["renoise"])
    with torch.no_grad():
        text = r.model.encode_text(r.inputs["text_embeds"])
    tensors: dict[str, Tensor] = {}
    latents = []
    for chunk in rolling(r.model, text, cache, r.schedule, noise, total, r.size):
        latents.append(chunk.latents)
        for layer in range(r.model.config.num_layers):
            tensors[f"kv_after_frame{chunk.start:04d}.k_layer{layer}"] = cache.keys(layer)
    noise.check_used()
    return Produced(torch.cat(latents, 1), r.calls, tensors)


def run_causvid(directory: Path, config: dict[str, Any]) -> Produced:
    """CausVid: overlapping rollouts. The re-encoded first latents come from the fixture; it has no codec."""
    r = Recording(directory, config)
    noise = r.inputs["noise"]
    rollouts, batch, frames = noise.shape[:3]
    overlap = int(r.options.get("overlap", r.chunk_frames))
    draws = RecordedNoise(noise[0], r.inputs["renoise"])

    def of_rollout(number: int) -> RecordedNoise:
        draws.noise = noise[number]
        return draws

    caches: list[KVCache] = []

    def new_cache(length: int) -> KVCache:
        policy = CachePolicy(KeepAll(), Absolute())
        caches.append(KVCache(policy, r.model.config, r.grid, r.chunk_frames, length, batch))
        return caches[-1]

    with torch.no_grad():
        text = r.model.encode_text(r.inputs["text_embeds"])
    tensors: dict[str, Tensor] = {}
    latents: list[list[Tensor]] = [[] for _ in range(rollouts)]
    for number, chunk in overlapping(
        r.model, {0: text}, new_cache, r.schedule, of_rollout, overlap + rollouts * (frames - overlap), r.size,
        lambda number: r.inputs["start_latents"][number - 1][:, :1], frames, overlap,
    ):  # fmt: skip
        latents[number].append(chunk.latents)
        for layer in range(r.model.config.num_layers):
            tensors[f"kv_after_frame{chunk.start:04d}.k_layer{layer}"] = caches[-1].keys(layer)
    draws.check_used()
    return Produced(torch.stack([torch.cat(parts, 1) for parts in latents]), r.calls, tensors)


SYSTEMS = {
    "sf": run_chunkwise,
    "causalf": run_chunkwise,
    "deepf": run_chunkwise,
    "longlive1": run_chunkwise,
    "rolling": run_rolling,
    "causvid": run_causvid,
}
"""By options.repo of config.json."""


def run(directory: Path, config: dict[str, Any]) -> Produced:
    """Generate the fixture's video with our engine. Raises ValueError for a system that is not in SYSTEMS."""
    system = config["options"].get("repo")
    if system not in SYSTEMS:
        raise ValueError(f"system {system!r} is not one that this engine replays: {', '.join(SYSTEMS)}")
    refuse_what_is_not_replayed(config)
    return SYSTEMS[system](directory, config)
