"""The files that the metrics' networks are read from: found exactly where the vbench package looks for them."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from deepforcing.wan.weights import sha256

SAYS_HOW = "python -m experiments.weights metrics says how to get it"  # end of what is said of a file that is missing


def vbench_cache() -> Path:
    """$VBENCH_CACHE_DIR, else ~/.cache/vbench."""
    return Path(os.environ.get("VBENCH_CACHE_DIR") or Path.home() / ".cache" / "vbench")


def torch_home() -> Path:
    """$TORCH_HOME, else $XDG_CACHE_HOME/torch, else ~/.cache/torch."""
    return Path(
        os.environ.get("TORCH_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "torch")
    )


def clip_package() -> Path:
    """Where the clip package is, which comes with its vocabulary; not imported."""
    spec = importlib.util.find_spec("clip")
    return Path(spec.origin).parent if spec and spec.origin else Path(sysconfig.get_path("purelib"), "clip")


@dataclass(frozen=True)
class File:
    """One thing to be found. places: paths in the order in which they are looked for, with {cache}, {torch},
    {home} and {clip}.

    megabytes: about, None if not known. source: address of the file, of a zip that has it as `member`, or of a source tree
    of which `members` are needed. by_hand: how to put it in place where no download can, for what only few need. sha256:
    of the published file, or the beginning of it, "" where nobody has said it. everywhere: the vbench package wants it in
    all of its places.
    """

    places: tuple[str, ...]
    what: str
    megabytes: float | None
    source: str
    sha256: str = ""
    member: str = ""
    members: tuple[str, ...] = ()
    by_hand: str = ""
    everywhere: bool = False

    def find(self) -> Path | None:
        """The first place where there is something, or None."""
        return next((path for path in self.paths() if path.exists()), None)

    def paths(self) -> list[Path]:
        known = {"cache": vbench_cache(), "torch": torch_home(), "home": Path.home(), "clip": clip_package()}
        return [Path(place.format(**known)) for place in self.places]

    @property
    def missing(self) -> str:
        """What is said where it is not there. No folder of this machine: tables and pages that people publish say it too."""
        known = {"cache": "<VBench's cache>", "torch": "<torch's cache>", "home": "~", "clip": "<the package clip>"}
        return f"{self.what} is not at {self.places[0].format(**known)}; {SAYS_HOW}"


FILES: dict[str, File] = {
    "clip_b32": File(
        ("{cache}/clip_model/ViT-B-32.pt", "{home}/.cache/clip/ViT-B-32.pt"),
        "CLIP ViT-B/32", 354, "https://openaipublic.azureedge.net/clip/models/40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af/ViT-B-32.pt",
        "40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af",
    ),
    "clip_l14": File(
        ("{cache}/clip_model/ViT-L-14.pt", "{home}/.cache/clip/ViT-L-14.pt"),
        "CLIP ViT-L/14", 933, "https://openaipublic.azureedge.net/clip/models/b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836/ViT-L-14.pt",
        "b8cca3fd41ae0c99ba7e8951adf17d267cdb84cd88be6f7c2e0eca1737a03836",
    ),
    "aesthetic_head": File(
        ("{cache}/aesthetic_model/emb_reader/sa_0_4_vit_l_14_linear.pth",),
        "LAION aesthetic head", 0.004, "https://github.com/LAION-AI/aesthetic-predictor/blob/main/sa_0_4_vit_l_14_linear.pth?raw=true",
    ),
    "musiq": File(
        ("{cache}/pyiqa_model/musiq_spaq_ckpt-358bb6af.pth",),
        "MUSIQ-SPAQ", 109, "https://github.com/chaofengc/IQA-PyTorch/releases/download/v0.1-weights/musiq_spaq_ckpt-358bb6af.pth",
        "358bb6af",
    ),
    "dino_code": File(
        ("{cache}/dino_model/facebookresearch_dino_main", "{torch}/hub/facebookresearch_dino_main"),
        "DINO's source", None, "https://raw.githubusercontent.com/facebookresearch/dino/main",
        members=("hubconf.py", "vision_transformer.py", "utils.py"),
    ),
    "dino": File(
        ("{torch}/hub/checkpoints/dino_vitbase16_pretrain.pth", "{cache}/dino_model/dino_vitbase16_pretrain.pth"),
        "DINO ViT-B/16", 343, "https://dl.fbaipublicfiles.com/dino/dino_vitbase16_pretrain/dino_vitbase16_pretrain.pth",
        everywhere=True,
    ),
    "raft": File(
        ("{cache}/raft_model/models/raft-things.pth",),
        "RAFT-things", 21, "https://dl.dropboxusercontent.com/s/4j4z58wuv8o0mfz/models.zip",
        member="models/raft-things.pth",
    ),
    "amt": File(("{cache}/amt_model/amt-s.pth",), "AMT-S", 12, "https://huggingface.co/lalala125/AMT/resolve/main/amt-s.pth"),
    "viclip": File(
        ("{cache}/ViCLIP/ViClip-InternVid-10M-FLT.pth",),
        "ViCLIP-L/14", 1710, "https://huggingface.co/OpenGVLab/VBench_Used_Models/resolve/main/ViClip-InternVid-10M-FLT.pth",
    ),
    "viclip_vocabulary": File(
        ("{cache}/ViCLIP/bpe_simple_vocab_16e6.txt.gz", "{clip}/bpe_simple_vocab_16e6.txt.gz"),
        "ViCLIP's vocabulary", 1.4, "https://raw.githubusercontent.com/openai/CLIP/main/clip/bpe_simple_vocab_16e6.txt.gz",
        everywhere=True,
    ),
    "dinov2_code": File(
        ("{torch}/hub/facebookresearch_dinov2_main",),
        "DINOv2's source", None, "https://github.com/facebookresearch/dinov2",
        by_hand="git clone it there",
    ),
    "dinov2": File(
        ("{torch}/hub/checkpoints/dinov2_vitb14_pretrain.pth",),
        "DINOv2 ViT-B/14", 346, "https://dl.fbaipublicfiles.com/dinov2/dinov2_vitb14/dinov2_vitb14_pretrain.pth",
        by_hand="copy it there",
    ),
    "dreamsim": File(
        ("{home}/.cache/ensemble_lora",),
        "DreamSim's ensemble", None, "https://github.com/ssundaram21/dreamsim/releases/download/v0.2.0-checkpoints/dreamsim_ensemble_checkpoint.zip",
        by_hand="pip install --no-deps dreamsim open-clip-torch peft, which fetches it",
    ),
}  # fmt: skip


def required(name: str) -> Path:
    """The file behind a name of FILES. Raises ValueError that says where it belongs and how to get it."""
    path = FILES[name].find()
    if path is None:
        raise ValueError(FILES[name].missing)
    return path


def fingerprint(names: Sequence[str]) -> str:
    """One sha256 over the files behind several names of FILES, "" for none. Raises ValueError if one is missing."""
    digests = []
    for name in names:
        path = required(name)
        try:
            digests.append(directory_sha256(path, FILES[name].members) if path.is_dir() else sha256(path))
        except OSError as error:
            raise ValueError(f"{FILES[name].what}, {path}, cannot be read: {error.strerror}") from None
    return hashlib.sha256("".join(digests).encode()).hexdigest() if digests else ""


def directory_sha256(path: Path, members: Sequence[str] = ()) -> str:
    """Of the files in a directory and their names, but for hidden ones and what Python compiles.

    members: only those of them, where a whole checkout and the few files that are needed of it must give the same.
    """
    inside = (
        file for file in path.rglob("*") if file.is_file() and (not members or str(file.relative_to(path)) in members)
    )
    files = sorted(f for f in inside if not any(p[0] == "." or p == "__pycache__" for p in f.relative_to(path).parts))
    return hashlib.sha256("".join(f"{file.relative_to(path)} {sha256(file)}\n" for file in files).encode()).hexdigest()
