"""The UMT5 text encoder of Wan2.1, run once per set of prompts and then let go.

As the published systems do: the prompt is cleaned (mojibake repaired, HTML entities resolved, whitespace squeezed),
tokenised to 512 tokens with the end mark, encoded under its mask, and rows past its real length are set to zero. The
transformer attends to all 512 rows, zeros included.

Embeddings are kept on disk by content: their file's name is the sha256 of the cleaned text, under a directory named after
the encoder (weights, tokenizer, length). A run whose prompts are all there never loads the 11 GB encoder.

transformers and ftfy are imported when an encoder or a text is first used, not before.

Shapes: T = text_len rows, E text dim.
"""

from __future__ import annotations

import gc
import hashlib
import html
import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from deepforcing.torchvision_cpu import make_importable
from deepforcing.wan.containers import file_of, open_checkpoint
from deepforcing.wan.recognise import looks_like
from deepforcing.wan.weights import load_strict, sha256, sha256_of_all

RECIPE = 1  # counts up when cleaning or padding change, so that old files are not taken
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")
OFFICIAL = "token_embedding.weight"
SHARED, TIED = "shared.weight", "encoder.embed_tokens.weight"


def clean(text: str) -> str:
    """The published cleaning: ftfy, HTML entities twice, runs of whitespace to one space."""
    try:
        import ftfy
    except ImportError as error:
        raise ValueError(f"cleaning prompts needs the package ftfy ({error}): pip install 'deepforcing[wan]'") from None
    text = html.unescape(html.unescape(ftfy.fix_text(text)))
    return re.sub(r"\s+", " ", text).strip()


@dataclass(frozen=True)
class TextEncoderSpec:
    """Where the encoder is. weights: a file under the official or transformers' names. tokenizer: a local directory."""

    weights: Path
    tokenizer: Path
    text_len: int = 512

    def check(self) -> None:
        """Raises ValueError in one line when a file is missing or a package is."""
        file_of(self.weights)
        if not any((self.tokenizer / name).is_file() for name in TOKENIZER_FILES):
            raise ValueError(f"tokenizer {self.tokenizer} must be a directory with {' or '.join(TOKENIZER_FILES)}")

    def identity(self) -> str:
        """Hex digest of everything that an embedding depends on besides the text."""
        tokenizer = {n: sha256(self.tokenizer / n) for n in TOKENIZER_FILES if (self.tokenizer / n).is_file()}
        parts = [RECIPE, sha256_of_all(self.weights), tokenizer, self.text_len]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class TextEncoder:
    """Tokenizer and encoder on a device, in the dtype of the file (bfloat16 as published)."""

    def __init__(self, spec: TextEncoderSpec, device: torch.device | str = "cpu") -> None:
        spec.check()
        self.text_len, self.device = spec.text_len, torch.device(device)
        self.tokenizer = load_tokenizer(spec.tokenizer)
        model: Any = load_umt5(spec.weights, self.device)
        self.model, vocabulary = model, int(model.config.vocab_size)
        if len(self.tokenizer) > vocabulary:
            raise ValueError(
                f"tokenizer {spec.tokenizer} has {len(self.tokenizer)} tokens, but the encoder {spec.weights} knows "
                f"{vocabulary}: they do not belong together"
            )

    @torch.no_grad()
    def encode(self, text: str) -> Tensor:
        """The rows of the text's own tokens, end mark included, [n, E] with n <= text_len."""
        given = self.tokenizer(
            [clean(text)], padding="max_length", truncation=True, max_length=self.text_len, return_tensors="pt",
            add_special_tokens=True, return_attention_mask=True,
        ).to(self.device)  # fmt: skip
        out = self.model(input_ids=given.input_ids, attention_mask=given.attention_mask).last_hidden_state
        rows: Tensor = out[0, : int(given.attention_mask.sum())]
        if not rows.isfinite().all():
            raise ValueError(f"the text encoder gives NaN or Inf for {text[:40]!r}; are its weights the right ones?")
        return rows


def load_tokenizer(directory: Path) -> Any:
    """Local files only. Raises ValueError in one line."""
    make_importable()
    try:
        from transformers import AutoTokenizer

        kind: Any = AutoTokenizer  # without types
        # Sides are not left to its configuration, which is not part of the identity.
        return kind.from_pretrained(
            str(directory), local_files_only=True, padding_side="right", truncation_side="right"
        )
    except ImportError as error:
        raise ValueError(
            f"the text encoder needs the package transformers ({error}): pip install 'deepforcing[wan]', or make setup"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(f"tokenizer {directory} cannot be read: {str(error).splitlines()[0][:160]}") from None


def load_umt5(path: Path, device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> nn.Module:
    """transformers' UMT5EncoderModel with the weights of a file under either naming; sizes follow from the tensors.

    dtype: None: the file's own. Raises ValueError in one line for a file that is not such an encoder.
    """
    contents = open_checkpoint(path)
    tensors = contents.tensors
    if OFFICIAL in tensors:
        tensors = {transformers_name(n): t for n, t in tensors.items()}
    shared = tensors.get(SHARED, tensors.get(TIED))
    make_importable()
    try:
        from transformers import UMT5EncoderModel

        config = umt5_config(tensors)

        with torch.device("meta"):
            model: nn.Module = UMT5EncoderModel(config)  # type: ignore[no-untyped-call]
        assert shared is not None
        both = {SHARED: shared, TIED: shared}
        load_strict(model, {**tensors, **both}, f"text encoder {path}", dtype or shared.dtype, device)
    except ImportError as error:
        raise ValueError(f"the text encoder needs the package transformers ({error})") from None
    except (ValueError, KeyError) as error:
        what = f"{error}" if isinstance(error, ValueError) else f"text encoder {path} has no {error.args[0]}"
        raise ValueError(f"{what}; it looks like {looks_like(contents)}") from None
    return model.eval().requires_grad_(False)


def umt5_config(tensors: Mapping[str, Tensor]) -> Any:
    """Sizes as the tensors have them (transformers' names); what they do not show is as published."""
    from transformers import UMT5Config

    make: Any = UMT5Config  # without types
    block = "encoder.block.0.layer."
    bias = tensors[f"{block}0.SelfAttention.relative_attention_bias.weight"]
    vocabulary, dim = tensors.get(SHARED, tensors.get(TIED, torch.empty(0, 0))).shape
    heads = bias.shape[1]
    return make(
        vocab_size=vocabulary,
        d_model=dim,
        d_kv=tensors[f"{block}0.SelfAttention.q.weight"].shape[0] // heads,
        d_ff=tensors[f"{block}1.DenseReluDense.wo.weight"].shape[1],
        num_layers=len({n.split(".")[2] for n in tensors if n.startswith("encoder.block.")}),
        num_heads=heads,
        relative_attention_num_buckets=bias.shape[0],
        feed_forward_proj="gated-gelu",  # the tanh form
        layer_norm_epsilon=1e-6,
        dropout_rate=0.0,
    )


IN_BLOCK = {
    "norm1": "layer.0.layer_norm",
    "attn.q": "layer.0.SelfAttention.q",
    "attn.k": "layer.0.SelfAttention.k",
    "attn.v": "layer.0.SelfAttention.v",
    "attn.o": "layer.0.SelfAttention.o",
    "pos_embedding.embedding": "layer.0.SelfAttention.relative_attention_bias",
    "norm2": "layer.1.layer_norm",
    "ffn.gate.0": "layer.1.DenseReluDense.wi_0",
    "ffn.fc1": "layer.1.DenseReluDense.wi_1",
    "ffn.fc2": "layer.1.DenseReluDense.wo",
}


def transformers_name(name: str) -> str:
    """transformers' name of a tensor of models_t5_umt5-xxl-enc-bf16.pth; an unknown name stays, and will be named."""
    top = {OFFICIAL: SHARED, "norm.weight": "encoder.final_layer_norm.weight"}
    match = re.fullmatch(r"blocks\.(\d+)\.(.+)\.weight", name)
    if match is None or match[2] not in IN_BLOCK:
        return top.get(name, name)
    return f"encoder.block.{match[1]}.{IN_BLOCK[match[2]]}.weight"


class Embeddings:
    """Prompt embeddings by content, in memory and on disk; the encoder is loaded for what is missing, then freed."""

    def __init__(self, spec: TextEncoderSpec, folder: Path | None) -> None:
        self.spec = spec
        self.folder = None if folder is None else folder / spec.identity()[:16]
        self.rows: dict[str, Tensor] = {}

    def prepare(self, texts: Iterable[str], device: torch.device | str = "cpu") -> int:
        """Have the embeddings of all texts; returns how many had to be encoded. The encoder is gone when it returns."""
        missing = [t for t in dict.fromkeys(texts) if self._find(t) is None]
        if missing:
            encoder = TextEncoder(self.spec, device)
            try:
                for text in missing:
                    self._keep(text, encoder.encode(text).cpu())
            finally:
                del encoder
                gc.collect()  # transformers' modules hold cycles
                if torch.device(device).type == "cuda":
                    torch.cuda.empty_cache()
        return len(missing)

    def padded(self, texts: Sequence[str], device: torch.device | str = "cpu") -> Tensor:
        """[B, T, E]: each text's rows, then zeros. Encodes what is missing."""
        self.prepare(texts, device)
        found = [self._find(t) for t in texts]
        rows = [r for r in found if r is not None]
        out = rows[0].new_zeros(len(texts), self.spec.text_len, rows[0].shape[1])
        for i, r in enumerate(rows):
            out[i, : len(r)] = r
        return out

    def _path(self, text: str) -> Path | None:
        digest = hashlib.sha256(clean(text).encode()).hexdigest()
        return None if self.folder is None else self.folder / f"{digest}.safetensors"

    def _find(self, text: str) -> Tensor | None:
        if text not in self.rows:
            path = self._path(text)
            if path is None or not path.is_file():
                return None
            from safetensors.torch import load_file

            try:
                self.rows[text] = load_file(path)["rows"]
            except Exception:  # half a file or another's: made again
                return None
        return self.rows[text]

    def _keep(self, text: str, rows: Tensor) -> None:
        self.rows[text] = rows
        path = self._path(text)
        if path is not None:
            from safetensors.torch import save_file

            path.parent.mkdir(parents=True, exist_ok=True)
            partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
            save_file({"rows": rows.contiguous()}, partial)
            partial.replace(path)
