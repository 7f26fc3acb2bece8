"""Replay of a VAE fixture: encode, decode whole, and the same decode in pieces, against the original's outputs.

A directory holds config.json (sizes in diffusers' terms, normalisation), weights under the original's names, inputs and
outputs in [B, C, T, H, W]. The decode in pieces runs in splits of our own, besides frame by frame.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforcing.wan.transformer import Backend
from deepforcing.wan.vae import WanVAE, load_vae
from experiments.parity.files import read_tensors


def is_vae_fixture(config: dict[str, Any]) -> bool:
    return "vae_config" in config


def differences(
    directory: Path, config: dict[str, Any], backend: Backend = "plain"
) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(what, largest absolute difference, details)."""
    sizes = dict(config["vae_config"])
    sizes["base_dim"] = sizes.pop("dim")
    sizes |= {key: config[key] for key in ("latents_mean", "latents_std")}
    vae = load_vae(directory / config["weights"], torch.float32, config=sizes)
    if backend == "compiled":
        torch.compiler.reset()
        vae.compile()
    inputs, outputs = (read_tensors(directory / f"{name}.safetensors") for name in ("inputs", "outputs"))
    for name, want in sorted(outputs.items()):
        if name.startswith("encode"):
            got = vae.means(inputs["video"])
            yield name, far(vae._normalised(got) if name.endswith("normalised") else got, want), {}
        elif name == "decode_whole":
            yield name, far(vae.stream()(inputs["latents"]), want), {}
            for pieces in ([1] * inputs["latents"].shape[2], [1, 2], [3]):
                got = in_pieces(vae, inputs["latents"], pieces)
                yield f"{name} in pieces", far(got, want), {"pieces": pieces}
        elif name == "decode_roundtrip_first_last":
            got = vae.stream()(vae._normalised(vae.means(inputs["video"])))
            yield name, far(got[:, :, [0, -1]], want), {}
        else:
            yield name, float("inf"), {"unknown": True}


def in_pieces(vae: WanVAE, latents: Tensor, pieces: list[int]) -> Tensor:
    """Decode with one decoder in pieces of these lengths, the last repeated."""
    decode, at = vae.stream(), 0
    out: list[Tensor] = []
    while at < latents.shape[2]:
        length = pieces[min(len(out), len(pieces) - 1)]
        out.append(decode(latents[:, :, at : at + length]))
        at += length
    return torch.cat(out, 2)


def far(got: Tensor, want: Tensor) -> float:
    return float((got - want).abs().max()) if got.shape == want.shape else float("inf")
