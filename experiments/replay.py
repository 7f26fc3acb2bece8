"""Replay recorded runs of the published implementations and compare, tensor by tensor.

    python -m experiments.replay golden=DIR [golden=DIR ...] [tolerance=1e-4]

A fixture directory holds config.json (sizes, options, which weights), inputs.safetensors (noise, re-noise draws, text) and
outputs.safetensors (latents, some raw predictions, cached keys, Top-C choices). Everything is taken from these files.
Fixtures of checkpoint containers and of the VAE are recognised by what their json files hold.
Prints one JSON line per compared tensor and one per fixture; exit status 1 if any misses, 2 if a fixture is unusable.
"""

from __future__ import annotations

import json
from pathlib import Path

from experiments.command import program, say
from experiments.command.moved import moved
from experiments.command.words import describe

TOLERANCE = 1e-4


def is_positive(text: str) -> bool:
    try:
        return 0 < float(text) < float("inf")
    except ValueError:
        return False


def main(arguments: list[str]) -> int:
    directories, tolerance = [], TOLERANCE
    for argument in arguments:
        key, _, value = argument.partition("=")
        if key == "golden" and value:
            directories.append(Path(value).expanduser())
        elif key == "tolerance" and is_positive(value):
            tolerance = float(value)
        else:
            say(f"{argument!r} is not golden=DIR or tolerance=NUMBER, as in tolerance=1e-4")
            return 2
    if not directories:
        say("nothing to replay: give golden=DIR, as in golden=tests/golden/deep_forcing_pc")
        return 2
    from experiments.parity.comparison import replayed  # torch: --help does without

    missed = unusable = False
    for directory in directories:
        if not (directory / "config.json").is_file():
            say(f"{directory} holds no config.json, so it is no fixture directory")
            unusable = True
            continue
        try:
            records = replayed(directory, tolerance)
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
