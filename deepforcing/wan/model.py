"""Wan as a model choice: transformer, text encoder and VAE from published files, or of any size with random weights."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from deepforcing.geometry import Geometry
from deepforcing.identity import unusual
from deepforcing.limits import LARGEST_SIZE, within
from deepforcing.wan.catalogue import RELEASES, TAEHV, TEXT_ENCODER, TOKENIZER, VAE, Release, release_of, weights_root
from deepforcing.wan.config import WanConfig
from deepforcing.wan.containers import LORA_IN_A_DIRECTORY, file_of, notes_of
from deepforcing.wan.lora import LoraSpec, fit_lora
from deepforcing.wan.origin import SOURCE, origin, preferred, refuse_official, took_averaged
from deepforcing.wan.taehv import TaehvDecoder, TaehvSpec
from deepforcing.wan.text import Embeddings, TextEncoderSpec
from deepforcing.wan.transformer import CausalWan
from deepforcing.wan.vae import WanVAE, load_vae, random_vae
from deepforcing.wan.weights import check_wan, load_wan, random_wan, sha256_of_all

NONE = "none"
VAE_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
Streams = Callable[[], Callable[[Tensor], Tensor]]  # a new decoder at each call


@dataclass(frozen=True)
class WanSpec:
    """A transformer of any Wan size with what turns prompts into its input and its output into pixels.

    generator: whose published weights are meant when no file is named. checkpoint: a file, or the name of a release
    (catalogue.RELEASES). use_ema: averaged or raw weights; None: as the release's authors run it, else averaged where
    there is a choice. lora: over the checkpoint; None: the release's; "none": without. lora_rank, lora_alpha: of `lora`,
    where its file does not say; see LoraSpec.
    vae, taehv, text_encoder, tokenizer: files; None: looked up under weights_root (see catalogue.py); vae "none": no encoding.
    decoder: "vae", or "taehv", the tiny decoder (clips are encoded by the VAE even so). vae_dtype, taehv_dtype: None: the
    run's. channels_last: memory layout of the VAE. embeddings: directory where prompt embeddings are kept; None: <weights
    root>/embeddings. text_encoder "none": random text, for timing. random_weights: whatever is not given as a file is
    random, for speed and plumbing; vae_dim: width of the random VAE.
    """

    name: str = "wan2.1-1.3b"
    config: WanConfig = field(default_factory=WanConfig)
    geometry: Geometry = field(default_factory=Geometry)
    generator: str = "self_forcing"
    checkpoint: str | None = None
    use_ema: bool | None = None
    lora: str | None = None
    lora_rank: int | None = None
    lora_alpha: float | None = None
    vae: str | None = None
    vae_dim: int = 96
    vae_dtype: str | None = None
    channels_last: bool = False
    decoder: str = "vae"
    taehv: str | None = None
    taehv_dtype: str | None = None
    text_encoder: str | None = None
    tokenizer: str | None = None
    embeddings: str | None = None
    weights_root: str | None = None
    random_weights: bool = False
    pixel_scale: int = 1
    world: str | None = None
    train_frames: int = 21

    def __post_init__(self) -> None:
        within(1, 1024, vae_dim=self.vae_dim, pixel_scale=self.pixel_scale)
        within(1, LARGEST_SIZE, lora_rank=self.lora_rank, train_frames=self.train_frames)
        within(-LARGEST_SIZE, LARGEST_SIZE, lora_alpha=self.lora_alpha)
        if self.config.in_dim != self.geometry.latent_channels:
            raise ValueError(
                f"config.in_dim={self.config.in_dim} must equal geometry.latent_channels={self.geometry.latent_channels}"
            )
        if self.vae_dtype is not None and self.vae_dtype not in VAE_DTYPES:
            raise ValueError(f"vae_dtype={self.vae_dtype!r} must be one of {', '.join(VAE_DTYPES)}, or null: the run's")
        if self.decoder not in ("vae", "taehv"):
            raise ValueError(f"decoder={self.decoder!r} must be vae, or taehv for the tiny decoder")
        if self.taehv_spec is None and (self.taehv or self.taehv_dtype):
            raise ValueError("taehv and taehv_dtype are the tiny decoder's: they go with decoder=taehv")
        if self.lora in (None, NONE) and (self.lora_rank, self.lora_alpha) != (None, None):
            raise ValueError("lora_rank and lora_alpha are of a LoRA file of yours: they go with lora=FILE")

    # ---- which files ----------------------------------------------------------------------------------------------

    @property
    def root(self) -> Path:
        return weights_root(self.weights_root)

    @property
    def release(self) -> Release | None:
        """The published weights that are meant; None: a file of the user's, or random ones."""
        if self.checkpoint is None:
            return None if self.random_weights else release_of(self.generator)
        return RELEASES.get(self.checkpoint)

    @property
    def checkpoint_path(self) -> Path | None:
        """None: random weights."""
        if self.release is not None:
            return preferred(self.release.checkpoint.local(self.root), self.averaged)
        return None if self.checkpoint is None else Path(self.checkpoint).expanduser()

    @property
    def averaged(self) -> bool | None:
        return self.release.use_ema if self.use_ema is None and self.release is not None else self.use_ema

    def choice(self, path: Path) -> bool | None:
        """use_ema for opening the file: a converted one holds what was chosen, nothing else. Raises ValueError."""
        if SOURCE not in notes_of(file_of(path)):
            return self.averaged
        held = took_averaged(path, None)
        if self.use_ema not in (None, held):
            kind = "averaged" if held else "raw"
            raise ValueError(
                f"checkpoint {path} was converted from the {kind} weights, so use_ema={held} is all it has"
            )
        return None

    @property
    def lora_spec(self) -> LoraSpec | None:
        release = self.release
        if self.lora == NONE:
            return None
        if self.lora is not None:
            return LoraSpec(Path(self.lora).expanduser(), self.lora_rank, self.lora_alpha)
        if release is None or release.lora is None:
            return None
        return LoraSpec(release.lora.local(self.root), release.lora_rank, release.lora_alpha)

    @property
    def vae_path(self) -> Path | None:
        """None: a random one, or none at all."""
        if self.vae == NONE or (self.vae is None and self.random_weights):
            return None
        return VAE.local(self.root) if self.vae is None else Path(self.vae).expanduser()

    @property
    def taehv_spec(self) -> TaehvSpec | None:
        """None: the VAE decodes."""
        if self.decoder == "vae":
            return None
        path = None if self.random_weights else TAEHV.local(self.root)
        path = path if self.taehv is None else Path(self.taehv).expanduser()
        return TaehvSpec(path, self.taehv_dtype, self.config.out_dim)

    @property
    def text_spec(self) -> TextEncoderSpec | None:
        """None: random embeddings."""
        if self.text_encoder == NONE or (self.text_encoder is None and self.random_weights):
            return None
        weights = TEXT_ENCODER.local(self.root) if self.text_encoder is None else Path(self.text_encoder).expanduser()
        tokenizer = (
            TOKENIZER[0].local(self.root).parent if self.tokenizer is None else Path(self.tokenizer).expanduser()
        )
        return TextEncoderSpec(weights, tokenizer, self.config.text_len)

    def files(self) -> dict[str, Path]:
        """What must be there, by its name in messages."""
        lora, text, tiny = self.lora_spec, self.text_spec, self.taehv_spec
        wanted = {
            "checkpoint": self.checkpoint_path,
            "LoRA": None if lora is None else lora.path,
            "VAE": self.vae_path,
            "tiny decoder": None if tiny is None else tiny.path,
            "text encoder": None if text is None else text.weights,
            "tokenizer": None if text is None else text.tokenizer,
        }
        return {what: path for what, path in wanted.items() if path is not None}

    # ---- before any work ------------------------------------------------------------------------------------------

    def check_prompt(self, prompt: str) -> None:
        pass

    def check(self) -> None:
        """Reads headers only. Raises ValueError naming everything that is missing at once, then what does not fit."""
        if self.vae == NONE and self.decoder == "vae":
            raise ValueError(
                f"model {self.name} has no VAE (model.vae=none), so it cannot make videos: use model=tiny, or time the "
                "transformer with python -m experiments.bench"
            )
        if self.text_encoder == NONE and not self.random_weights:
            raise ValueError(
                f"model {self.name} has no text encoder (model.text_encoder=none): only timing goes without"
            )
        self.refuse_missing(self.files())
        if self.text_spec is not None:
            self.text_spec.check()
        if self.taehv_spec is not None:
            self.taehv_spec.check()
        path = self.checkpoint_path
        if path is not None:
            lora = check_wan(path, self.config, self.choice(path), self.lora_spec)
            if lora is not None and lora.own_alpha and self.lora_alpha is not None:
                raise ValueError(f"{lora.summary()}: lora_alpha={self.lora_alpha} has no meaning there, leave it away")
            refuse_official(path)
        elif self.lora_spec is not None:
            raise ValueError(f"LoRA {self.lora} goes over a checkpoint, and the transformer's weights are random")

    def notes(self) -> list[str]:
        """What is told before a run, a line each: how much of the model a LoRA updates."""
        return [] if self.lora_spec is None else [fit_lora(self.lora_spec, self.config).summary()]

    def refuse_missing(self, wanted: dict[str, Path]) -> None:
        missing = [f"{what} {path}" for what, path in wanted.items() if not path.exists()]
        if missing:
            own = self.generator.rpartition(".")[2] if self.checkpoint is None else self.checkpoint
            name = (own if self.release is not None else self.name) + (" taehv" if "tiny decoder" in wanted else "")
            raise ValueError(
                f"model {self.name} lacks {', '.join(missing)}; python -m experiments.weights {name} says where to get "
                "them and downloads them (download=true); model.random_weights=true runs without, to time and to try out"
            )

    def identity(self) -> dict[str, Any]:
        """Digests of all files, how they are put together, and what of config and geometry is not Wan2.1-1.3B's."""
        path, lora, text = self.checkpoint_path, self.lora_spec, self.text_spec
        known: dict[str, Any] = {"name": self.name, "checkpoint": "random" if path is None else origin(path)}
        if path is not None:
            known["averaged"] = True if took_averaged(path, self.choice(path)) else self.averaged
        if lora is not None:
            digest = sha256_of_all(lora.path, LORA_IN_A_DIRECTORY)
            known["lora"] = {"sha256": digest, "scale": fit_lora(lora, self.config).scales()}
        known["text"] = "random" if text is None else text.identity()
        for name, sizes in (("config", unusual(self.config)), ("geometry", unusual(self.geometry))):
            known |= {name: sizes} if sizes else {}
        return known | self.decoding()

    def decoding(self) -> dict[str, Any]:
        """What of the identity turns latents into pixels."""
        known: dict[str, Any] = {"name": self.name}
        if self.vae != NONE:
            vae = self.vae_path
            known["vae"] = f"random {self.vae_dim}" if vae is None else sha256_of_all(vae)
            known |= {"vae_dtype": self.vae_dtype, **({"channels_last": True} if self.channels_last else {})}
        if self.taehv_spec is not None:
            known |= {"decoder": self.decoder, "taehv": self.taehv_spec.identity()}
        return known | ({"pixel_scale": self.pixel_scale} if self.pixel_scale != 1 else {})

    # ---- work -----------------------------------------------------------------------------------------------------

    def prepare(self, prompts: Sequence[str], device: torch.device) -> None:
        """Embed all prompts before the transformer is loaded, and free the encoder: both need not fit at once."""
        embeddings, spec = self.make_embeddings(), self.text_spec
        if embeddings is not None and spec is not None:
            if device.type == "cuda" and torch.cuda.mem_get_info(device)[0] < encoder_bytes(spec):
                device = torch.device("cpu")
            embeddings.prepare(prompts, device)

    def make_embeddings(self) -> Embeddings | None:
        spec = self.text_spec
        folder = self.root / "embeddings" if self.embeddings is None else Path(self.embeddings).expanduser()
        return None if spec is None else Embeddings(spec, folder)

    def transformer(self, device: torch.device, dtype: torch.dtype) -> CausalWan:
        """Raises ValueError when there is neither a checkpoint nor leave to use random weights."""
        path = self.checkpoint_path
        if path is None:
            return random_wan(self.config, dtype, device)
        self.refuse_missing(self.files())
        return load_wan(path, self.config, dtype, device, self.choice(path), self.lora_spec)

    def build(self, device: torch.device, dtype: torch.dtype) -> WanModel:
        wan = self.transformer(device, dtype)
        tiny = None if self.taehv_spec is None else self.taehv_spec.build(device, dtype)
        return WanModel(wan, self.make_embeddings(), self.make_vae(device, dtype), self.geometry, tiny)

    def decoders(self, device: torch.device, dtype: torch.dtype, compiled: bool = False) -> Streams:
        """A decoder for each video (see WanModel.decoder), without the transformer. Raises ValueError for missing files."""
        if self.vae == NONE and self.decoder == "vae":
            raise ValueError(f"model {self.name} has no VAE (model.vae=none), so nothing can be decoded")
        self.refuse_missing({k: path for k, path in self.files().items() if k in ("VAE", "tiny decoder")})
        if self.taehv_spec is not None:
            self.taehv_spec.check()
            return self.taehv_spec.build(device, dtype).stream
        vae = self.make_vae(device, dtype)
        assert vae is not None
        return vae.compile().decoder if compiled else vae.decoder

    def make_vae(self, device: torch.device, dtype: torch.dtype) -> WanVAE | None:
        if self.vae == NONE:
            return None
        dtype = dtype if self.vae_dtype is None else VAE_DTYPES[self.vae_dtype]
        if self.vae_path is not None:
            return load_vae(self.vae_path, dtype, device, self.channels_last)
        return random_vae(self.vae_dim, self.config.out_dim, dtype, device, self.channels_last)


class WanModel:
    """Everything loaded. embeddings: None: random text. vae: None: no encoding. tiny: decodes in the VAE's place."""

    def __init__(
        self, wan: CausalWan, embeddings: Embeddings | None, vae: WanVAE | None, geometry: Geometry,
        tiny: TaehvDecoder | None = None,
    ) -> None:  # fmt: skip
        self.wan, self.embeddings, self.vae, self.geometry, self.tiny = wan, embeddings, vae, geometry, tiny

    def embed(self, prompts: list[str]) -> Tensor:
        """[B, text_len, text_dim]; what was not prepared is encoded now, on the CPU."""
        config = self.wan.config
        if self.embeddings is None:
            return torch.stack([random_text(p, config.text_len, config.text_dim) for p in prompts])
        rows = self.embeddings.padded(prompts)
        if rows.shape[2] != config.text_dim:
            raise ValueError(
                f"the text encoder gives {rows.shape[2]} numbers a token, the transformer takes {config.text_dim}: "
                "they do not belong together"
            )
        return rows

    def decoder(self) -> Callable[[Tensor], Tensor]:
        if self.tiny is not None:
            return self.tiny.stream()
        if self.vae is None:
            raise ValueError("this model has no VAE (model.vae=none)")
        return self.vae.decoder()

    def encode(self, video: Tensor) -> Tensor:
        """[B, N, 3, H, W] in 0..1 -> latents [B, F, C, Y, X], to start or continue a video from. One frame: an image.

        Raises ValueError for another size than the model's, and for a number of frames that is not 4(n-1)+1.
        """
        if self.vae is None:
            raise ValueError("this model has no VAE (model.vae=none), which images and clips are encoded by")
        g, size = self.geometry, tuple(video.shape[3:])
        if size != (g.height, g.width):
            raise ValueError(
                f"the image or clip is {size[0]} x {size[1]} pixels (height x width), the model makes {g.height} x "
                f"{g.width}: resize or crop it first"
            )
        return self.vae.encode(video)


def encoder_bytes(spec: TextEncoderSpec) -> int:
    """What the text encoder takes while it runs: its file, and half a gigabyte of activations."""
    return file_of(spec.weights).stat().st_size + 500_000_000


def random_text(prompt: str, rows: int, dim: int) -> Tensor:
    """Random embeddings that depend on the prompt alone: one row a word and one for the end, zeros after, [rows, dim]."""
    seed = int.from_bytes(hashlib.sha256(prompt.encode()).digest()[:7], "big")
    out = torch.randn(rows, dim, generator=torch.Generator().manual_seed(seed))
    out[min(rows, len(prompt.split()) + 1) :] = 0
    return out
