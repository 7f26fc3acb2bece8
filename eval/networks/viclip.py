"""ViCLIP (InternVid, arXiv 2307.06942), video and text in one space, behind VBench's overall consistency.

The vbench package's layers; sizes are those of the checkpoint's tensors.
"""

from __future__ import annotations

import functools
import gzip
import tempfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from eval.networks import backend
from eval.networks.checkpoint import read_state
from eval.networks.linears import pack
from eval.networks.package import vbench_module

FRAMES = 8
SIDE = 224  # pixels
HEAD = 64  # channels of an attention head
LARGEST_VOCABULARY = 16 << 20  # bytes, unpacked; the published one has 3.2 MB
MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's, of RGB in 0..1
STD = (0.26862954, 0.26130258, 0.27577711)


@functools.cache
def load(path: Path, vocabulary: Path, device: torch.device) -> ViClip:
    """ViCLIP with the weights of a file in the layout of ViClip-InternVid-10M-FLT.pth. Raises ValueError if it is not."""
    modules = _modules(vocabulary)
    state = read_state(path, "model")
    try:
        video = _video_encoder(modules[0], _part(state, "vision_encoder."))
        text = _text_encoder(modules[1], _part(state, "text_encoder."))
    except (KeyError, RuntimeError, ValueError):
        raise ValueError(f"{path} holds other tensors than ViCLIP") from None
    return ViClip(pack(video.to(device).eval()), text.to(device).eval(), device)


def fit(frame: Tensor) -> Tensor:
    """The middle 224 x 224 of a frame uint8 [3, H, W] whose shorter side is resized to 224, still uint8 (bicubic)."""
    height, width = frame.shape[1:]
    short = min(height, width)
    size = (SIDE * height // short, SIDE * width // short)
    resized = F.interpolate(frame[None].float(), size, mode="bicubic", align_corners=False)[0].clamp(0, 255).round()
    top, left = (round((length - SIDE) / 2) for length in size)
    return resized[:, top : top + SIDE, left : left + SIDE].byte()


class ViClip:
    """The two encoders. Embeddings are of length 1."""

    def __init__(self, video: Any, text: Any, device: torch.device) -> None:
        self._video, self._text, self._device = video, text, device
        self._mean, self._std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (MEAN, STD))
        self._known: dict[str, Tensor] = {}

    @torch.inference_mode()
    def video(self, frames: Tensor) -> Tensor:
        """uint8 [8, 3, 224, 224] -> [d]."""
        pixels = (frames.float() / 255 - self._mean) / self._std
        network = backend.compiled(self._video)
        return _unit(backend.run(network, pixels.transpose(0, 1)[None].contiguous())[0].float())

    @torch.inference_mode()
    def text(self, prompt: str) -> Tensor:
        """[d], computed once per prompt. The first 30 tokens count."""
        if prompt not in self._known:
            tokens = self._text.tokenize(prompt, context_length=self._text.context_length).to(self._device)
            self._known[prompt] = _unit(self._text(tokens)[0].float())
        return self._known[prompt]


def _unit(vector: Tensor) -> Tensor:
    length: Tensor = vector.norm()
    return vector / length


def _part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name.removeprefix(prefix): tensor.float() for name, tensor in state.items() if name.startswith(prefix)}


def _layers(state: Mapping[str, Tensor]) -> int:
    return len({name.split("resblocks.")[1].split(".")[0] for name in state if "resblocks." in name})


def _video_encoder(module: Any, state: Mapping[str, Tensor]) -> Any:
    width, _, depth, patch, _ = state["conv1.weight"].shape
    with torch.device("meta"):  # no time spent on initial values
        model = module.VisionTransformer(
            input_resolution=SIDE,
            patch_size=patch,
            width=width,
            layers=0,  # its schedule of dropped layers does not work without values: they are added below
            heads=width // HEAD,
            output_dim=state["proj"].shape[1],
            kernel_size=depth,
            num_frames=FRAMES,
        )
        layers = [module.ResidualAttentionBlock(width, width // HEAD) for _ in range(_layers(state))]
        model.transformer.resblocks.extend(layers)
    model.load_state_dict(state, assign=True)
    return model


def _text_encoder(module: Any, state: Mapping[str, Tensor]) -> Any:
    vocabulary, width = state["token_embedding.weight"].shape
    length = len(state["positional_embedding"])
    with torch.device("meta"):
        model = module.CLIP_TEXT(
            embed_dim=state["text_projection"].shape[1],
            context_length=length,
            vocab_size=vocabulary,
            transformer_width=width,
            transformer_heads=width // HEAD,
            transformer_layers=_layers(state),
            checkpoint_num=0,
        )
    model.load_state_dict(state, assign=True)
    causal = torch.full((length, length), float("-inf")).triu(1)
    for layer in model.transformer.resblocks:
        layer.attn_mask = causal  # not part of the state, so it has no values yet
    return model


def _modules(vocabulary: Path) -> tuple[Any, Any]:
    """The package's modules of both encoders, with their tokenizer reading `vocabulary`.

    The tokenizer's default file is looked for when its module is imported, and fetched with wget if it is not where the
    package keeps it. It is shown an empty one there; the real one is set afterwards.
    """
    try:
        with gzip.open(vocabulary) as file:
            content = file.read(LARGEST_VOCABULARY + 1)
        if len(content) > LARGEST_VOCABULARY:
            raise EOFError
        content.decode()
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        raise ValueError(
            f"ViCLIP's vocabulary, {vocabulary}, is damaged or something else; download it again"
        ) from None
    utils = vbench_module("utils")
    place = utils.CACHE_DIR
    with tempfile.TemporaryDirectory() as directory:
        shown = Path(directory, "ViCLIP", "bpe_simple_vocab_16e6.txt.gz")
        shown.parent.mkdir()
        shown.touch()
        utils.CACHE_DIR = directory
        try:
            tokenizer = vbench_module("third_party.ViCLIP.simple_tokenizer")
        finally:
            utils.CACHE_DIR = place
    tokenizer.SimpleTokenizer.__init__.__defaults__ = (str(vocabulary),)
    return vbench_module("third_party.ViCLIP.viclip_vision"), vbench_module("third_party.ViCLIP.viclip_text")
