"""The words of `python -m experiments.bench gpu-table`. Nothing here imports torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

NAMES = ("full", "toy")
GROUPS = ("card", "passes", "faster", "vae", "tiny", "memory", "vbench", "batches")


@dataclass(frozen=True)
class Settings:
    """size: "full" or "toy" (size.py). minutes: all of it ends by then. out: folder of the two files.
    groups: which of the measurements, in their order."""

    size: str = "full"
    minutes: float = 8.0
    out: str = "reports/gpu_table"
    device: str = "auto"
    groups: tuple[str, ...] = ()

    @property
    def folder(self) -> Path:
        return Path(self.out).expanduser()


HELP = """Speed on one GPU, as a table: 4 denoising passes, Self Forcing against Deep Forcing, end to end, memory, VBench.

  python -m experiments.bench gpu-table            # at most 8 minutes; needs a checkout, torch and a GPU, nothing else
  python -m experiments.bench gpu-table size=toy device=cpu minutes=3     # every branch of it, small

size=full            # full: Wan2.1-1.3B at 480 x 832 with random weights in bfloat16; toy: small, float32
minutes=8            # everything ends by then; what was not reached says so
out=reports/gpu_table   # folder for gpu_table.json and gpu_table.md
device=auto          # auto, cuda, cuda:1 ..., cpu
groups=all           # or some, in this order, such as groups=attention,passes"""


def read(words: list[str], known: tuple[str, ...] = GROUPS) -> Settings:
    """Settings from words. known: names of groups. Raises ValueError in one line for what is wrong."""
    given: dict[str, str] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals or key not in ("size", "minutes", "out", "device", "groups"):
            raise ValueError(f"{word!r} is no key here; known: size=, minutes=, out=, device=, groups=")
        given[key] = value
    size = given.get("size", "full")
    if size not in NAMES:
        raise ValueError(f"size={size!r} must be one of {', '.join(NAMES)}")
    try:
        minutes = float(given.get("minutes", "8"))
    except ValueError:
        minutes = 0.0
    if not 0 < minutes <= 600:
        raise ValueError(f"minutes={given['minutes']!r} must be a number above 0, at most 600")
    if not given.get("out", "x"):
        raise ValueError("out= must name a folder")
    asked = given.get("groups", "all")
    groups = known if asked == "all" else tuple(asked.split(","))
    if unknown := [name for name in groups if name not in known]:
        raise ValueError(f"groups={','.join(unknown)}: choose among {', '.join(known)}, or all")
    return Settings(size, minutes, given.get("out", Settings.out), given.get("device", "auto"), groups)
