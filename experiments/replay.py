"""Replay recorded runs of the published implementations and compare, tensor by tensor.

    python -m experiments.replay golden=DIR [golden=DIR ...] [tolerance=1e-4] [backend=plain]

A fixture directory holds config.json (sizes, options, which weights), inputs.safetensors (noise, re-noise draws, text) and
outputs.safetensors (latents, some raw predictions, cached keys, Top-C choices). Everything is taken from these files.
Fixtures of checkpoint containers and of the VAE are recognised by what their json files hold. backend: how passes are
computed, as a rollout's key of that name; it says nothing of a container's tensors.
Prints one JSON line per compared tensor and one per fixture; exit status 1 if any misses, 2 if a fixture is unusable.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import program, say
from experiments.command.moved import moved
from experiments.command.words import describe

if TYPE_CHECKING:
    from deepforcing.wan.transformer import Backend

TOLERANCE = 1e-4
BACKENDS: tuple[Backend, ...] = ("plain", "packed", "compiled")  # replays run on the CPU


def is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def main(arguments: list[str]) -> int:
    directories, tolerance, backend = [], TOLERANCE, BACKENDS[0]
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "golden" and value:
            directories.append(Path(value).expanduser())
        elif key == "tolerance" and is_positive(value):
            tolerance = float(value)
        elif key == "backend" and value in BACKENDS:
            backend = value
        else:
            say(
                f"{argument!r} is not golden=DIR, tolerance=NUMBER, as in tolerance=1e-4, or backend= one of "
                f"{', '.join(BACKENDS)}"
            )
            return 2
    if not directories:
        say("nothing to replay: give golden=DIR, as in golden=tests/golden/deep_forcing_pc")
        return 2
    import torch  # --help does without

    from deepforcing.backend import check
    from experiments.parity.comparison import replayed

    try:
        check(backend, torch.device("cpu"), torch.float32)
    except ValueError as error:
        say(str(error))
        return 2

    missed = unusable = False
    for directory in directories:
        if not (directory / "config.json").is_file():
            say(f"{directory} holds no config.json, so it is no fixture directory")
            unusable = True
            continue
        try:
            records = replayed(directory, tolerance, backend)
        except (ValueError, OSError) as error:
            reason = describe(error)
            reason = reason if str(directory) in reason else f"{directory}: {reason}"
            records = [
                {"fixture": directory.name, "max_abs": None, "error": reason, "tolerance": tolerance, "ok": False}
            ]
            unusable = True
        for record in records:
            print(json.dumps(record, allow_nan=False), flush=True)
        missed = missed or not records[-1]["ok"]
    return 2 if unusable else int(missed)


run = program(main, lambda: str(__doc__))

__getattr__ = moved(__name__, {"experiments.parity.comparison": "compare differences measured replayed"})

if __name__ == "__main__":
    run()
