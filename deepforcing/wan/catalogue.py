"""The published files: where they come from, under which licence, and where they lie on this machine.

Layout: <weights root>/<name of the repository>/<path in the repository>, so that a plain
`hf download Wan-AI/Wan2.1-T2V-1.3B --local-dir weights/Wan2.1-T2V-1.3B` puts things in place. The root is the environment
variable DEEPFORCING_WEIGHTS, or ./weights. Nothing here touches the network: experiments/weights.py does, when asked.

Sizes are decimal, as the hub shows them; None: not known to us. Nobody here could open the hub, so no sha256 of its files
is known beforehand: experiments.weights records it, with the revision, when a file is first fetched or found.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

ROOT_VARIABLE = "DEEPFORCING_WEIGHTS"


@dataclass(frozen=True)
class HubFile:
    """One file of a repository on the Hugging Face hub; with a `commit`, of one on GitHub. gigabytes: about."""

    repo: str
    path: str
    licence: str
    gigabytes: float | None = None
    sha256: str | None = None
    what: str = ""
    commit: str | None = None

    @property
    def url(self) -> str:
        if self.commit is not None:
            return f"https://raw.githubusercontent.com/{self.repo}/{self.commit}/{self.path}"
        return f"https://huggingface.co/{self.repo}/resolve/main/{self.path}"

    def local(self, root: Path) -> Path:
        return root / self.repo.rpartition("/")[2] / self.path


@dataclass(frozen=True)
class Release:
    """The weights of one published generator. use_ema: as its authors run it (None: the file offers no choice)."""

    checkpoint: HubFile
    use_ema: bool | None = None
    lora: HubFile | None = None
    lora_rank: int = 256
    lora_alpha: float = 256.0


WAN = "Wan-AI/Wan2.1-T2V-1.3B"
CARD = "see the model card"
VAE = HubFile(WAN, "Wan2.1_VAE.pth", "Apache-2.0", 0.51, what="VAE")
TEXT_ENCODER = HubFile(WAN, "models_t5_umt5-xxl-enc-bf16.pth", "Apache-2.0", 11.4, what="text encoder")
TOKENIZER = tuple(
    HubFile(WAN, f"google/umt5-xxl/{name}", "Apache-2.0", size, what="tokenizer")
    for name, size in (
        ("tokenizer.json", 0.017),
        ("tokenizer_config.json", 0.0001),
        ("special_tokens_map.json", 0.0001),
        ("spiece.model", 0.0046),
    )
)
COMPONENTS = (VAE, TEXT_ENCODER, *TOKENIZER)
# Size and digest as several projects state that pin this file of its author's repository. Files of the same name elsewhere
# hold other values in the same tensors, and so do its siblings for other models: only the digest tells.
TAEHV = HubFile(
    "madebyollin/taehv", "safetensors/taew2_1.safetensors", "MIT", 0.0226,
    "04766eac0221b5390b985ae3fdcca652cbb4b1e8b82b28ea7ff89dfad1b1a93f", "tiny decoder",
    "0ad83bb8fdc48e9e94138704e939d500a3b43660",
)  # fmt: skip


def _checkpoint(repo: str, path: str, licence: str, gigabytes: float | None = None) -> HubFile:
    return HubFile(repo, path, licence, gigabytes, what="checkpoint")


_CAUSAL_FORCING = "zhuhz22/Causal-Forcing"
SELF_FORCING = Release(_checkpoint("gdhe17/Self-Forcing", "checkpoints/self_forcing_dmd.pt", CARD), use_ema=True)
RELEASES: dict[str, Release] = {
    "self_forcing": SELF_FORCING,
    "deep_forcing": SELF_FORCING,
    "causal_forcing": Release(_checkpoint(_CAUSAL_FORCING, "chunkwise/causal_forcing.pt", CARD), use_ema=False),
    "causal_forcing_framewise": Release(_checkpoint(_CAUSAL_FORCING, "framewise/causal_forcing.pt", CARD), False),
    "causal_forcing_2step": Release(_checkpoint(_CAUSAL_FORCING, "causal-forcing++/framewise-2step.pt", CARD), True),
    "causal_forcing_1step": Release(_checkpoint(_CAUSAL_FORCING, "causal-forcing++/framewise-1step.pt", CARD), True),
    "longlive": Release(
        _checkpoint("Efficient-Large-Model/LongLive-1.3B", "models/longlive_base.pt", "non-commercial; " + CARD),
        None,
        HubFile("Efficient-Large-Model/LongLive-1.3B", "models/lora.pt", "non-commercial; " + CARD, what="LoRA"),
    ),
    "rolling_forcing": Release(
        _checkpoint("TencentARC/RollingForcing", "checkpoints/rolling_forcing_dmd.pt", "academic use; " + CARD), True
    ),
    "causvid": Release(
        _checkpoint("tianweiy/CausVid", "autoregressive_checkpoint/model.pt", "non-commercial; " + CARD)
    ),
}


def release_of(generator: str) -> Release:
    """The weights that a generator was published with; a dotted function name counts by its last part.

    Variants of a known generator (longlive_infinity) have its weights. Raises ValueError that lists the known ones.
    """
    name = generator.rpartition(".")[2]
    known = [r for r in RELEASES if name == r or name.startswith(f"{r}_")]
    if not known:
        raise ValueError(
            f"no published weights are known for generator {name!r}: give model.checkpoint=FILE, or the name of one of "
            f"{', '.join(RELEASES)}"
        )
    return RELEASES[max(known, key=len)]


def weights_root(given: str | None = None) -> Path:
    """Where weights lie: what is given, else $DEEPFORCING_WEIGHTS, else ./weights."""
    return Path(given or os.environ.get(ROOT_VARIABLE) or "weights").expanduser()
