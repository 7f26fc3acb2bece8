"""Records a fixture of any size: model, text, noise and the files that a replay reads."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from naive import NaiveWan
from safetensors.torch import save_file
from torch import Tensor

from deepforcing.wan.config import WanConfig
from deepforcing.wan.weights import random_wan

SIZES = [
    {"dim": 40, "heads": 2, "layers": 2, "latent": (4, 6)},  # head 20: pairs 4, 3, 3
    {"dim": 48, "heads": 3, "layers": 3, "latent": (2, 8)},  # head 16: pairs 4, 2, 2
]
# Shift 5; the numbers that are published for it.
STEPS = {
    1000: (1000.0, 1.0),
    800: (952.3810424804688, 0.9523810148239136),
    750: (937.5, 0.9375),
    600: (882.3529052734375, 0.882352888584137),
    500: (833.3333129882812, 0.8333333134651184),
    400: (769.2307739257812, 0.7692307829856873),
    250: (625.0, 0.625),
    200: (555.5556030273438, 0.5555555820465088),
}
SHIFT_8 = {1000: 1.0, 757: 0.7567567229270935, 522: 0.52173912525177}  # not warped


class Fixture:
    """Model, text and noise of a fixture to be, and what goes into its files."""

    def __init__(self, seed: int, prompts: int, dim: int, heads: int, layers: int, latent: tuple[int, int]) -> None:
        self.config = WanConfig(dim, 2 * dim, 16, 3, 3, heads, layers, text_dim=10, text_len=6)
        state = random_wan(self.config, seed=seed).state_dict()
        self.state = {name: t * (3 if "self_attn.norm" in name else 1) for name, t in state.items()}
        self.model = NaiveWan(self.state, heads, 16)
        self.latent, self.grid = latent, (latent[0] // 2, latent[1] // 2)
        self.s = self.grid[0] * self.grid[1]
        self.generator = torch.Generator().manual_seed(seed)
        self.text = self.randn(prompts, 1, 6, 10)
        self.text[:, :, 4:] = 0
        self.outputs: dict[str, Tensor] = {}
        self.calls = 0

    def randn(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator)

    def run(self, x: Tensor, t: Tensor, text: Tensor, attention: object) -> Tensor:
        flow = self.model(x, t, text, attention)  # type: ignore[arg-type]
        if self.calls % 3 == 0:
            self.outputs[f"call{self.calls:04d}.flow"] = flow.float().contiguous()
        self.calls += 1
        return flow

    def write(self, to: Path, options: dict, steps: list[int], inputs: dict[str, Tensor], shift: float = 5.0) -> Path:
        to.mkdir()
        save_file({f"model.{n}": t.contiguous() for n, t in self.state.items()}, to / "w.safetensors")
        save_file({n: t.contiguous() for n, t in inputs.items()}, to / "inputs.safetensors")
        save_file(self.outputs, to / "outputs.safetensors")
        names = ("dim", "ffn_dim", "freq_dim", "in_dim", "out_dim", "num_heads", "num_layers", "text_dim", "text_len")
        config = {
            "options": options,
            "model_config": {**{k: getattr(self.config, k) for k in names}, "eps": 1e-6},
            "latent_hw": self.latent,
            "chunk_frames": 3,
            "denoising_steps_requested": steps,
            "timestep_shift": shift,
            "weights": "w.safetensors",
            "weights_key_prefix": "model.",
        }
        (to / "config.json").write_text(json.dumps(config))
        return to
