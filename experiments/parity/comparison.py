"""What our engine makes of a fixture beside what the fixture holds, tensor by tensor."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforcing.wan.transformer import Backend
from experiments.parity import checkpoints, vae
from experiments.parity.files import read_fields, read_tensors
from experiments.parity.recording import Produced
from experiments.parity.systems import run

EXCLUDED = -1e30
SAME = 0.998  # of a quantised cache: the rest may be codes that rounding flipped


def compare(expected: dict[str, Tensor], produced: Produced) -> Iterator[tuple[str, float]]:
    """(tensor name, largest absolute difference); infinity for a missing or misshapen one, choices count as 0 or inf.

    Scores are sums of thousands of products, in the hundreds, so theirs is relative to the largest score; some systems put
    EXCLUDED where they would not choose, which must be just there.
    """
    until = produced.until
    for name, want in sorted(expected.items()):
        if not produced.compares(name):
            continue
        if name == "latents":
            got: Tensor | None = produced.latents[:, :until]
            want = want[:, :until]
        elif name.startswith("call"):
            number, _, kind = name.removeprefix("call").partition(".")
            got = produced.calls[int(number)].get(kind) if int(number) < len(produced.calls) else None
        else:
            got = produced.tensors.get(name)
        if got is None or got.shape != want.shape or not (got.isfinite().all() and want.isfinite().all()):
            yield name, float("inf")
        elif not want.dtype.is_floating_point:
            yield name, 0.0 if torch.equal(got.to(want.dtype), want) else float("inf")
        elif until is not None and name.startswith("kv_after"):
            yield name, float(torch.quantile((got - want).abs().flatten(), SAME))
        else:
            scale = 1.0
            if name.endswith(".scores"):
                excluded = want <= EXCLUDED
                if not torch.equal(excluded, got <= EXCLUDED):
                    yield name, float("inf")
                    continue
                want, got = want.masked_fill(excluded, 0), got.masked_fill(excluded, 0)
                scale = float(want.abs().max().clamp_min(1))
            yield name, float((got - want).abs().max()) / scale


def differences(directory: Path, backend: Backend = "plain") -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(tensor name, largest absolute difference, further fields) of whatever kind of fixture this is.

    backend: computes recorded rollouts; files of checkpoints have none, and the VAE is compiled where the rollouts are.
    """
    config = read_fields(directory / "config.json")
    if checkpoints.is_checkpoint_fixture(directory):
        yield from checkpoints.differences(directory)
    elif vae.is_vae_fixture(config):
        yield from vae.differences(directory, config, backend)
    else:
        expected = read_tensors(directory / "outputs.safetensors")
        produced = run(directory, config, backend)
        for name, difference in compare(expected, produced):
            yield name, difference, {} if produced.until is None else {"latent_frames_compared": produced.until}


@torch.no_grad()
def replayed(directory: Path, tolerance: float, backend: Backend = "plain") -> list[dict[str, Any]]:
    """JSON records: one per tensor, then one for the fixture. Raises ValueError, naming the file, for one that is unusable."""
    records: list[dict[str, Any]] = []
    try:
        for name, difference, details in differences(directory, backend):
            good = difference <= tolerance
            records.append({"fixture": directory.name, "tensor": name, **measured(difference), "ok": good, **details})
    except (
        KeyError,
        TypeError,
        AttributeError,
        IndexError,
        RuntimeError,
        ArithmeticError,
    ) as error:  # of other files' sizes
        reason = " ".join(str(error).split())[:200]
        raise ValueError(
            f"{directory / 'config.json'} and its tensors do not fit together: {type(error).__name__}: {reason}"
        ) from None
    if not records:
        raise ValueError(f"{directory} holds nothing to compare")
    worst = max(r["max_abs"] if r["max_abs"] is not None else float("inf") for r in records)
    ok = all(r["ok"] for r in records)
    return [*records, {"fixture": directory.name, **measured(worst), "tolerance": tolerance, "ok": ok}]


def measured(difference: float) -> dict[str, Any]:
    """JSON has no infinity: what cannot be compared is null, with the reason."""
    if difference == float("inf"):
        return {"max_abs": None, "reason": "missing, of another shape, not finite, or another choice"}
    return {"max_abs": difference}
