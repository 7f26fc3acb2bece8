"""What it was measured on, and what the machine could do at best."""

from __future__ import annotations

import subprocess
import time
from typing import Any

import torch

from deepforcing.environment import environment
from deepforcing.wan.config import WanConfig
from deepforcing.wan.kernels import ATTENTION, seconds_of

QUERY = {
    "driver": "driver_version", "clock_mhz": "clocks.sm", "memory_clock_mhz": "clocks.mem", "top_clock_mhz": "clocks.max.sm",
    "power_limit_w": "power.limit", "temperature_c": "temperature.gpu",
}  # fmt: skip


def describe(device: torch.device) -> dict[str, Any]:
    """Names, versions and, of a GPU, its clocks now; what cannot be asked is null."""
    found: dict[str, Any] = {**environment(str(device)), "torch": torch.__version__, "cuda": torch.version.cuda}
    found |= dict.fromkeys(QUERY)
    if device.type == "cuda":
        found["cudnn"] = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
        found["memory_bytes"] = torch.cuda.get_device_properties(device).total_memory
        command = ["nvidia-smi", f"--query-gpu={','.join(QUERY.values())}", "--format=csv,noheader,nounits"]
        command += ["-i", str(device.index or 0)]
        try:
            said = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20).stdout
            found |= {name: value.strip() for name, value in zip(QUERY, said.split(","), strict=True)}
        except (OSError, ValueError, subprocess.SubprocessError):
            pass
    return found


def wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def rate(device: torch.device, dtype: torch.dtype, side: int, seconds: float = 1.0) -> float:
    """Operations a second of the best of many large matrix products: what floors are divided by."""
    a = torch.rand(side, side, device=device, dtype=dtype)
    best, until = float("inf"), time.perf_counter() + seconds
    out = a @ a
    while time.perf_counter() < until:
        wait(device)
        began = time.perf_counter()
        torch.mm(a, a, out=out)
        wait(device)
        best = min(best, time.perf_counter() - began)
    return float(2 * side**3 / best)


def pass_flops(config: WanConfig, query_tokens: int, key_tokens: float) -> float:
    """Operations of one pass: matrix products and attention, the text's keys and values known."""
    d, q = config.dim, query_tokens
    linear = config.num_layers * 2 * q * d * (6 * d + 2 * config.ffn_dim)  # q, k, v, o; q, o of the text's; the FFN
    patch = config.patch[1] * config.patch[2]
    linear += 2 * q * d * patch * (config.in_dim + config.out_dim)
    return float(linear + config.num_layers * 4 * q * d * (key_tokens + config.text_len))


def attention_seconds(
    device: torch.device, dtype: torch.dtype, shape: tuple[int, int, int, int], tokens: int
) -> dict[str, float | str]:
    """Seconds of self-attention by kernel, or why there are none. shape: [batch, heads, queries, head dim]. tokens: keys."""
    found: dict[str, float | str] = {}
    for name in ATTENTION:
        if name != "math" or not any(
            isinstance(x, float) for x in found.values()
        ):  # all logits at once: never the fastest
            found[name] = seconds_of(name, device, dtype, shape, tokens)
    return found
