"""A recorded run of a published system: its model, sizes, inputs and draws, and what our engine made of them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforcing import backend as backends
from deepforcing.rollout.chunkwise import clean
from deepforcing.rollout.schedule import Schedule
from deepforcing.wan.config import WanConfig
from deepforcing.wan.transformer import Backend, CausalWan
from deepforcing.wan.weights import load_strict
from experiments.parity.files import read_tensors


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
    """What our engine computed: latents, all passes by call number, keys and choices by the fixture's tensor names.

    until: of runs that rounding makes chaotic, the latent frame up to which they can be compared; passes: of a chunk there.
    """

    latents: Tensor
    calls: list[dict[str, Tensor]] = field(default_factory=list)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    until: int | None = None
    passes: int = 5
    chunk_frames: int = 3

    def compares(self, name: str) -> bool:
        """Whether a tensor of the fixture belongs to what can be compared."""
        if self.until is None:
            return True
        if name.startswith("call"):
            return int(name[4:8]) // self.passes * self.chunk_frames < self.until
        frame = re.match(r"kv_after_frame(\d+)", name)
        return frame is None or int(frame[1]) < self.until


class Recording:
    """A fixture's model, sizes and inputs, and every pass that the model makes from now on, by a backend (backend.py)."""

    def __init__(self, directory: Path, config: dict[str, Any], backend: Backend = "plain") -> None:
        self.config, self.options = config, config["options"]
        self.inputs = read_tensors(directory / "inputs.safetensors")
        self.model = model_of(directory, config)
        backends.use(self.model, backend)
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
    weights = {k.removeprefix(prefix): v for k, v in read_tensors(directory / config["weights"]).items()}
    load_strict(model, weights, f"weights {directory / config['weights']}", torch.float32)
    return model.eval()


def refuse_what_is_not_replayed(config: dict[str, Any]) -> None:
    """Settings that change numbers and that this engine has no rule for. Raises ValueError naming them."""
    options = config["options"]
    wrong = [
        f"{name}={value!r}"
        for name, value, only in (
            ("keep_sinks", options.get("keep_sinks", True), True),
            ("clean_pass_timestep", config.get("clean_pass_timestep", 0), 0),
            ("dtype", config.get("dtype", "float32"), "float32"),
        )
        if value != only
    ]
    if wrong:
        raise ValueError(f"the fixture's {', '.join(wrong)} is not replayed by this engine")
