"""DINO ViT-B/16 (Caron et al. 2021) from its own repository's source, as torch.hub loads it for VBench."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, NoReturn
from unittest import mock

import torch
from torch import Tensor, nn

from deepforcing.torchvision_cpu import make_importable
from eval.measure.batch import Batch
from eval.networks.batches import in_parts
from eval.networks.checkpoint import read_state
from eval.networks.files import fill
from eval.networks.linears import pack
from eval.networks.preprocess import bilinear_layout, dino_input
from eval.networks.weights import FILES, required

ENTRY = "dino_vitb16"


def load_dino(device: torch.device) -> nn.Module:
    """The network, once per process. Raises ValueError if its source or its weights are absent or unfit."""
    source = required("dino_code")
    # VBench tests for one of these places and torch.hub reads the other, so that an empty file may stand in for one.
    paths = (path for path in FILES["dino"].paths() if path.is_file() and path.stat().st_size)
    return pack(dino(source, next(paths, None), device))


@functools.cache
def dino(source: Path, checkpoint: Path | None, device: torch.device) -> nn.Module:
    """The repository's entry point, filled from a plain state dict.

    Without a checkpoint the entry point is called as VBench calls it, which is enough for one that brings its own
    weights; the moment it wants to download any, this ends with a ValueError: the network is never touched.
    """

    def absent(*_: Any, **__: Any) -> NoReturn:
        file = FILES["dino"]
        raise ValueError(file.missing)

    arguments = {} if checkpoint is None else {"pretrained": False}
    try:
        with mock.patch.object(torch.hub, "load_state_dict_from_url", absent):
            make_importable()  # the repository imports torchvision
            network: nn.Module = torch.hub.load(  # type: ignore[no-untyped-call]
                str(source), ENTRY, source="local", **arguments
            )
    except ValueError:
        raise
    except Exception as error:  # it is someone's source: it may fail in any way
        raise ValueError(
            f"{source} is not the source of facebookresearch/dino, or cannot be imported here "
            f"({type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''})"
        ) from None
    if checkpoint is not None:
        fill(network, read_state(checkpoint), checkpoint)
    return network.to(device).eval().requires_grad_(False)


def dino_features(batch: Batch, device: torch.device) -> Tensor:
    """Features of the class token [b, D], float32, not normalised. Computed once."""

    @torch.inference_mode()
    def compute() -> Tensor:
        return in_parts(load_dino(device), dino_input(batch.floats_on(device, bilinear_layout(device))))

    return batch.kept(("dino_features", device), compute)
