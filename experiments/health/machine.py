"""What this machine has and lacks, each lack with the command that mends it. Nothing here changes the machine.

Every look is short and fails alone: a library that cannot be imported is a finding, not an end.
"""

from __future__ import annotations

import importlib.util
import netrc
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from experiments.tables.words import plural

ROOT = Path(__file__).parents[2]
OLDEST_PYTHON = (3, 11)
PATIENCE = 4  # seconds for a program that is asked for its version
SETUP = "make setup"
# By the names of pyproject.toml's extras; core is what every command needs.
EXTRAS = {
    "core": ("torch", "numpy", "safetensors", "av", "pydantic"),
    "harness": (
        "hydra-core", "omegaconf", "pandas", "pyarrow", "opencv-python-headless", "matplotlib", "scipy", "jinja2", "rich",
    ),
    "wan": ("transformers", "diffusers", "huggingface_hub", "ftfy", "sentencepiece", "protobuf"),
    "metrics": ("vbench", "pyiqa", "openai-clip", "torchvision", "timm", "decord", "scikit-image", "einops"),
    "tracking": ("wandb",),
    "cluster": ("hydra-submitit-launcher", "submitit"),
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """One thing. here: whether it is there. mend: the command that brings it. needed: whether the chosen rollout does
    without it; the doctor's exit status goes by these alone."""

    what: str
    here: bool
    text: str
    mend: str = ""
    needed: bool = False


def answer(*command: str) -> str | None:
    """What a program prints; None if it is not there, fails or takes too long."""
    if shutil.which(command[0]) is None:
        return None
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError, UnicodeDecodeError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def installed(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def locked() -> dict[str, str]:
    """{package: version} of requirements.lock; empty where there is none."""
    path = ROOT / "requirements.lock"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return {name.lower().replace("_", "-"): version for name, version in re.findall(r"^([\w.-]+)==(\S+)$", text, re.M)}


def python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    oldest = ".".join(map(str, OLDEST_PYTHON))
    new = sys.version_info >= OLDEST_PYTHON
    yield Finding("python", new, f"{version} (at least {oldest})", f"make PYTHON=python{oldest} setup", needed=True)


def packages(wan: bool) -> Iterator[Finding]:
    """wan: whether the chosen model reads published weights, which takes the text encoder's libraries."""
    lock = locked()
    for extra, names in EXTRAS.items():
        missing = [name for name in names if installed(name) is None]
        have = {name: installed(name) or "" for name in names}
        other = [
            f"{name} {version} (tested: {lock[name.lower().replace('_', '-')]})"
            for name, version in have.items()
            if version
            and version.partition("+")[0] != lock.get(name.lower().replace("_", "-"), version.partition("+")[0])
        ]
        text = f"{', '.join(missing)} not installed" if missing else plural(len(names), "package")
        text += f"; other versions than tested: {', '.join(other)}" if other else ""
        needed = extra in ("core", "harness") or (extra == "wan" and wan)
        yield Finding(f"packages: {extra}", not missing, text, SETUP, needed)


def driver() -> tuple[str, str] | None:
    """Name and driver version of the first NVIDIA card, whatever torch thinks of it; None: no card that answers."""
    told = answer("nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader")
    if not told:
        return None
    name, _, version = told.splitlines()[0].rpartition(",")
    return name.strip(), version.strip()


def torch_and_cuda(on_gpu: bool) -> Iterator[Finding]:
    """on_gpu: whether the chosen rollout was asked to run there (device=cuda)."""
    card = driver()
    if importlib.util.find_spec("torch") is None:
        yield Finding("torch", False, "not installed", SETUP, needed=True)
        return
    import torch

    built = torch.version.cuda
    yield Finding(
        "torch", True, f"{torch.__version__}, {f'built for CUDA {built}' if built else 'a build without CUDA'}"
    )
    told = f"driver {card[1]} ({card[0]})" if card else "no NVIDIA driver answers (nvidia-smi)"
    if torch.cuda.is_available():
        yield Finding("CUDA", True, told)
        for index in range(torch.cuda.device_count()):
            free, total = torch.cuda.mem_get_info(index)
            properties = torch.cuda.get_device_properties(index)
            text = (
                f"{properties.name}, compute capability {properties.major}.{properties.minor}, {free / 1e9:.1f} of "
                f"{total / 1e9:.1f} GB free{'' if torch.cuda.is_bf16_supported() else ', no bfloat16: use dtype=float32'}"
            )
            yield Finding(f"cuda:{index}", True, text)
    elif card and not built:
        mend = f"{sys.executable} -m pip install --force-reinstall torch=={torch.__version__.partition('+')[0]}"
        yield Finding(
            "CUDA",
            False,
            f"{told}, but this torch has no CUDA",
            f"{mend}   (from an index that has CUDA builds)",
            on_gpu,
        )
    elif built:
        hint = "nvidia-smi   (install or update the driver until it answers)"
        yield Finding("CUDA", False, f"{told}; torch was built for CUDA {built} and sees no device", hint, on_gpu)
    else:
        mend = "the same command without device=cuda" if on_gpu else ""
        yield Finding("CUDA", False, f"{told}: everything runs on the CPU", mend, on_gpu)
    yield attention("cuda" if torch.cuda.is_available() else "cpu")


def attention(device: str) -> Finding:
    """Which of torch's attention kernels run, tried on a small example."""
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention

    kernels = {
        "flash": SDPBackend.FLASH_ATTENTION, "cuDNN": SDPBackend.CUDNN_ATTENTION,
        "memory-efficient": SDPBackend.EFFICIENT_ATTENTION, "plain": SDPBackend.MATH,
    }  # fmt: skip
    there = []
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    q = torch.zeros(1, 1, 16, 64, dtype=dtype, device=device)
    for name, kernel in kernels.items():
        try:
            with sdpa_kernel([kernel]):
                scaled_dot_product_attention(q, q, q)
            there.append(name)
        except RuntimeError:  # torch's word for: not for this device, type or size
            pass
    fast = bool({"flash", "cuDNN", "memory-efficient"} & set(there))
    return Finding("attention", fast, f"{', '.join(there)} ({device}, {str(dtype).removeprefix('torch.')})", SETUP)


def memory_and_cores() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES") / 1e9
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield Finding("machine", True, f"{cores} cores, {total:.1f} GB of memory, {free:.1f} GB of it unused")


def video_encoders() -> Iterator[Finding]:
    """x264 writes every video; H.264 decoding reads it back for scores."""
    if importlib.util.find_spec("av") is None:
        yield Finding("video", False, "PyAV is not installed", SETUP, needed=True)
        return
    import av

    lacking = sorted({"libx264", "h264"} - av.codecs_available)
    text = f"{', '.join(lacking)} missing from PyAV's FFmpeg" if lacking else f"libx264, h264 (PyAV {av.__version__})"
    mend = f"{sys.executable} -m pip install --force-reinstall --no-deps av"
    yield Finding("video", not lacking, text, mend, needed=True)


def disk(place: str | Path, key: str, wanted_gb: float, needed: bool) -> Finding:
    """Free space where something will be written. key: by which another place is chosen. wanted_gb: what will be."""
    path = Path(place).expanduser()
    there = next(folder for folder in (path.absolute(), *path.absolute().parents) if folder.exists())
    free = shutil.disk_usage(there).free / 1e9
    writable = os.access(there, os.W_OK)
    text = f"{path}: {free:.1f} GB free, {wanted_gb:.2g} GB wanted{'' if writable else ', and it cannot be written'}"
    return Finding(f"disk: {key}", free >= wanted_gb and writable, text, f"choose another place with {key}", needed)


def slurm() -> Finding:
    told = answer("sbatch", "--version")
    mend = "apt-get install slurm-client   (or the same command on the cluster's login node)"
    return Finding("SLURM", told is not None, told or "no sbatch here", mend)


def wandb() -> Finding:
    """Whether there is a key, never which."""
    if installed("wandb") is None:
        return Finding("W&B", False, "not installed", SETUP)
    try:
        in_file = netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        in_file = False
    known = in_file or bool(os.environ.get("WANDB_API_KEY"))
    text = f"{installed('wandb')}, {'a key is set' if known else 'no key: runs are written offline, and can be uploaded later'}"
    return Finding("W&B", known, text, "wandb login")
