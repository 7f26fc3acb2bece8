"""Replay recorded runs of the published implementations and compare, tensor by tensor.

    python -m experiments.replay golden=DIR [golden=DIR ...] [tolerance=1e-4]

A fixture directory holds config.json (sizes, options, which weights), inputs.safetensors (noise, re-noise draws, text) and
outputs.safetensors (latents, some raw predictions, cached keys, Top-C choices). Everything is taken from these files.
Fixtures of checkpoint containers and of the VAE are recognised by what their json files hold.
Prints one JSON line per compared tensor and one per fixture; exit status 1 if any misses, 2 if a fixture is unusable.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from experiments.parity import checkpoints, vae
from experiments.parity.recording import Produced
from experiments.parity.systems import run

TOLERANCE = 1e-4


def compare(expected: dict[str, Tensor], produced: Produced) -> Iterator[tuple[str, float]]:
    """(tensor name, largest absolute difference); infinity for a missing or misshapen one, choices count as 0 or inf.

    Scores are sums of thousands of products, in the hundreds, so theirs is relative to the largest score.
    """
    for name, want in sorted(expected.items()):
        if name == "latents":
            got: Tensor | None = produced.latents
        elif name.startswith("call"):
            number, _, kind = name.removeprefix("call").partition(".")
            got = produced.calls[int(number)].get(kind) if int(number) < len(produced.calls) else None
        else:
            got = produced.tensors.get(name)
        if got is None or got.shape != want.shape or not got.isfinite().all():
            yield name, float("inf")
        elif not want.dtype.is_floating_point:
            yield name, 0.0 if torch.equal(got.to(want.dtype), want) else float("inf")
        else:
            scale = float(want.abs().max().clamp_min(1)) if name.endswith(".scores") else 1.0
            yield name, float((got - want).abs().max()) / scale


def differences(directory: Path) -> Iterator[tuple[str, float, dict[str, Any]]]:
    """(tensor name, largest absolute difference, further fields) of whatever kind of fixture this is."""
    config = json.loads((directory / "config.json").read_text())
    if checkpoints.is_checkpoint_fixture(directory):
        yield from checkpoints.differences(directory)
    elif vae.is_vae_fixture(config):
        yield from vae.differences(directory, config)
    else:
        expected = load_file(directory / "outputs.safetensors")
        for name, difference in compare(expected, run(directory, config)):
            yield name, difference, {}


def replay(directory: Path, tolerance: float) -> Iterator[dict[str, Any]]:
    """JSON records: one per tensor, then one for the fixture."""
    worst, ok = 0.0, True
    for name, difference, details in differences(directory):
        good = difference <= tolerance
        worst, ok = max(worst, difference), ok and good
        yield {"fixture": directory.name, "tensor": name, **measured(difference), "ok": good, **details}
    yield {"fixture": directory.name, **measured(worst), "tolerance": tolerance, "ok": ok}


def measured(difference: float) -> dict[str, Any]:
    """JSON has no infinity: what cannot be compared is null, with the reason."""
    if difference == float("inf"):
        return {"max_abs": None, "reason": "missing, of another shape, not finite, or another choice"}
    return {"max_abs": difference}


def is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def main(arguments: list[str]) -> int:
    if not arguments or any(a in ("-h", "--help") for a in arguments):
        print(__doc__)
        return 0 if arguments else 2
    directories, tolerance = [], TOLERANCE
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "golden" and value:
            directories.append(Path(value))
        elif key == "tolerance" and is_positive(value):
            tolerance = float(value)
        else:
            print(f"error: {argument!r} is not golden=DIR or tolerance=NUMBER, as in tolerance=1e-4", file=sys.stderr)
            return 2
    missed = unusable = False
    for directory in directories:
        if not (directory / "config.json").is_file():
            print(f"error: {directory} holds no config.json, so it is no fixture directory", file=sys.stderr)
            unusable = True
            continue
        try:
            for record in replay(directory, tolerance):
                print(json.dumps(record, allow_nan=False), flush=True)
            missed = missed or not record["ok"]
        except (ValueError, KeyError, RuntimeError, OSError, SafetensorError) as error:
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            print(
                json.dumps(
                    {"fixture": directory.name, "max_abs": None, "error": reason, "tolerance": tolerance, "ok": False}
                ),
                flush=True,
            )
            unusable = True
    return 2 if unusable else int(missed)


if __name__ == "__main__":
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # `| head` may close the pipe
    torch.set_grad_enabled(False)
    sys.exit(main(sys.argv[1:]))
