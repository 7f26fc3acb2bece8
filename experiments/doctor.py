"""What this machine has and lacks for a rollout, each lack with the command that mends it. It takes about ten seconds.

    python -m experiments.doctor                                    for the embedded world, which needs no weights
    python -m experiments.doctor generator=longlive                 for that generator's published weights
    python -m experiments.doctor generator=deep_forcing model=wan2.1-1.3b dtype=bfloat16 device=cuda seconds=60

The words are those of experiments.rollout; a generator without a model means the real one, wan2.1-1.3b. Looked at: Python and
packages, torch, CUDA, driver and memory, attention kernels, video encoders, disk, the weights and their sha256, and what
only some work needs: VBench's networks, SLURM, W&B.

Exit status: 0 if the chosen rollout can run here, 1 if something that it needs is missing (marked "missing"; "absent" is
what it does without), 2 for wrong words. Nothing is downloaded or changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from experiments.command import program
from experiments.command.terminal import visible
from experiments.health import machine
from experiments.health.machine import Finding

REAL = "model=wan2.1-1.3b"


def show(finding: Finding, wide: int) -> None:
    mark = "here   " if finding.here else "missing" if finding.needed else "absent "
    print(visible(f"  {mark}  {finding.what:<{wide}} {finding.text}"))
    if not finding.here and finding.mend:
        print(visible(f"{'':{wide + 11}}-> {finding.mend}"))


def looked(what: str, look: Callable[[], Iterator[Finding]], needed: bool) -> list[Finding]:
    """The findings of a look; one that fails is a finding itself. Raises ValueError for wrong words."""
    try:
        return list(look())
    except ValueError:
        raise
    except Exception as error:
        return [Finding(what, False, f"{type(error).__name__}: {error}", machine.SETUP, needed)]


def doctor(arguments: list[str]) -> int:
    wrong = next((word for word in arguments if "=" not in word or word.startswith("-")), None)
    if wrong is not None:
        raise ValueError(f"{wrong!r} is not key=value; see --help")
    keys = dict(word.split("=", 1) for word in arguments)
    words = [*arguments, *([REAL] if "generator" in keys and "model" not in keys else [])]
    wan = any(word.startswith("model=wan") for word in words)
    on_gpu = keys.get("device", "").startswith("cuda")
    found = [
        *looked("python", machine.python, needed=True),
        *looked("machine", machine.memory_and_cores, needed=False),
        *looked("packages", lambda: machine.packages(wan), needed=True),
        *looked("torch", lambda: machine.torch_and_cuda(on_gpu), needed=True),
        *looked("video", machine.video_encoders, needed=True),
    ]
    whole = all(finding.here for finding in found if finding.needed)
    if whole:
        from experiments.health.chosen import metric_networks, rollout  # torch and Hydra are there

        found += looked("rollout", lambda: rollout(words), needed=True)
        found += looked("VBench's networks", metric_networks, needed=False)
    found += [machine.slurm(), machine.wandb()]
    print(visible(f"for: python -m experiments.rollout {' '.join(words)}".rstrip()))
    for finding in found:
        show(finding, max(len(each.what) for each in found))
    missing = dict.fromkeys(finding.what for finding in found if finding.needed and not finding.here)
    more = "" if whole else "; the rollout's own needs are looked at when these are here"
    print(visible(f"not ready, missing: {', '.join(missing)}{more}") if missing else "ready")
    return int(bool(missing))


main = program(doctor, lambda: str(__doc__))

if __name__ == "__main__":
    main()
