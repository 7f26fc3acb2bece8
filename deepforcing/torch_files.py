"""Files of torch.save, the zip and the older kind, and TorchScript archives: what they hold, without torch.load.

torch.load hands a zip to torch.jit.load, which runs what is inside, by names that its own reader sees. Here one reader sees
all: a zip's entries must be stored as they are, as torch writes them, so nothing can be larger than the file; the pickle is
read by pickles.py; tensors are views of the mapped file and take no memory until they are used.

    zip     <top>/data.pkl  the pickle          <top>/data/<key>   a storage       <top>/constants.pkl   of TorchScript
    older   five pickles (magic number, version, system, content, keys), then per key its number of elements and its bytes
"""

from __future__ import annotations

import re
import struct
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch import Tensor

from deepforcing.pickles import LIMIT, MAX_BYTES, Storage, line, load_pickle

ZIP = b"PK\x03\x04"
MAGIC = 0x1950A86A20F9469CFC6C
MAX_ENTRIES = 200_000
BEGINNINGS = (
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself; `git lfs pull` in its repository fetches it"),
    (
        b"GGUF",
        "a GGUF file (quantised for llama.cpp and ComfyUI), which is not read; use the .safetensors or .pt release",
    ),
    (b"\x1f\x8b", "gzip-compressed; unpack it first"),
    (b"BZh", "bzip2-compressed; unpack it first"),
    (b"\xfd7zXZ", "xz-compressed; unpack it first"),
    (b"\x28\xb5\x2f\xfd", "zstd-compressed; unpack it first"),
    (b"7z\xbc\xaf", "a 7z archive; unpack it first"),
    (b"Rar!", "a rar archive; unpack it first"),
    (b"\x89HDF", "an HDF5 file (Keras or TensorFlow), which is not read; use the .safetensors or .pt release"),
    (b"\x93NUMPY", "a NumPy array, not a checkpoint"),
    (b"PAR1", "a parquet table, not a checkpoint"),
    (b"\x89PNG", "a picture, not a checkpoint"),
    (b"\xff\xd8\xff", "a picture, not a checkpoint"),
    (b"%PDF", "a PDF document, not a checkpoint"),
)


def not_a_checkpoint(path: Path) -> str | None:
    """What a file is that is neither a torch file nor safetensors, by its first bytes; None: it may be one of these.

    Raises OSError for what cannot be opened.
    """
    with open(path, "rb") as file:
        start = file.read(512)
        file.seek(257)
        tar = file.read(5) == b"ustar"
    if not start:
        return "an empty file (0 bytes), as a broken download leaves it; download it again"
    for beginning, what in BEGINNINGS:
        if start.startswith(beginning):
            return what
    if start[4:8] == b"ftyp" or start.startswith(b"\x1aE\xdf\xa3"):
        return "a video, not a checkpoint"
    if tar:
        return "a tar archive; unpack it first"
    if not start.strip(b"\0"):
        return "zeros at its beginning, as a broken download leaves it; download it again"
    text = start.decode("utf-8", "replace").lstrip("\ufeff \t\r\n").lower()
    if text.startswith(("<!doctype", "<html", "<?xml", "<head", "<body", "<script", "<error")):
        return "a web page or a server's error message, not the file itself; download it again"
    if is_safetensors(path):
        return None
    if text.startswith(("{", "[")) and '"weight_map"' in text:
        return "the index of a checkpoint in shards; its name must end in .safetensors.index.json"
    readable = "\ufffd" not in text and all(c.isprintable() or c in "\r\n\t" for c in text)
    if readable and not _is_old_pickle(start):
        kind = "JSON" if text.startswith(("{", "[")) else "text"
        return f"{kind}, not a checkpoint; it begins with {text[:40].splitlines()[0]!r}"
    return None


def _is_old_pickle(start: bytes) -> bool:
    """Pickles of protocol 0 and 1 are text: a mark, a container, a number or a name of a module, and then instructions."""
    return re.match(rb"[(}\]][dltiIFLSVNcpqg(}\]\n.]|[IL]-?\d+L?\n|c[\w.]+\n\w[\w.]*\n", start) is not None


def is_safetensors(path: Path) -> bool:
    """By content: the length of a header, and JSON there."""
    size = path.stat().st_size
    with open(path, "rb") as file:
        start = file.read(9)
    return len(start) == 9 and start[8:] == b"{" and struct.unpack("<Q", start[:8])[0] <= min(size - 8, 100_000_000)


def is_torch_file(path: Path) -> bool:
    """By its first bytes: a zip or a pickle of protocol 2 or later."""
    with open(path, "rb") as file:
        start = file.read(4)
    return start == ZIP or (start[:1] == b"\x80" and start[1:2] <= b"\x05")


def read_torch_file(path: Path, foreign: bool = False, script: bool = False) -> Any:
    """What torch.save put into the file. Tensors are on the CPU, mapped where the file has them aligned.

    foreign: objects of unknown classes become pickles.Foreign; otherwise they raise pickles.ForeignObjectError. script: the
    file must be a TorchScript archive, whose module tree is given (with foreign=True: Foreign.state holds a module's
    tensors and modules by name); otherwise it must not be one. Nothing in the file is run. Raises ValueError with a
    reason that does not name the file, OSError for what cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            if file.read(4) == ZIP:
                return _read_zip(file, path, foreign, script)
            if script:
                raise ValueError("it is no TorchScript archive")
            return _read_old(file, path, foreign)
        except (MemoryError, ValueError):
            raise
        except Exception as error:  # a damaged file may fail in any way
            raise ValueError(f"it is damaged: {line(error)}") from None


def _read_zip(file: BinaryIO, path: Path, foreign: bool, script: bool) -> Any:
    entries = _entries(file, path.stat().st_size)
    pickled = [name for name in entries if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickled) != 1:
        raise ValueError("it is a zip archive, but not one of torch.save" + _inside(entries))
    top = pickled[0].removesuffix("data.pkl")
    if (f"{top}constants.pkl" in entries) is not script:
        raise ValueError(
            "it is no TorchScript archive" if script else "it is a TorchScript program, which is never run"
        )
    if f"{top}byteorder" in entries and _bytes(file, entries[f"{top}byteorder"]) != b"little":
        raise ValueError("it was written on a big-endian machine")
    numbers = _mapped(path)

    def storage(at: Storage) -> Tensor:
        start, length = entries[f"{top}data/{at.key}"]
        return _typed(numbers, start, length, at.dtype)

    return load_pickle(_bytes(file, entries[pickled[0]]), storage, foreign)[0]


def _entries(file: BinaryIO, size: int) -> dict[str, tuple[int, int]]:
    """name -> (start, length) of an archive's entries, each in the file as it is. Raises ValueError for any other."""
    try:
        with zipfile.ZipFile(file) as archive:
            if len(archive.infolist()) > MAX_ENTRIES:
                raise ValueError(LIMIT)
            found: dict[str, tuple[int, int]] = {}
            for info in archive.infolist():
                needed = info.filename.endswith(".pkl") or "/data/" in info.filename
                if needed and (info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size):
                    raise ValueError(
                        "it is a compressed zip archive: torch.save writes none; unpack it, or save it again"
                    )
                if info.flag_bits & 1:
                    raise ValueError("it is an encrypted zip archive")
                file.seek(info.header_offset)
                header = file.read(30)
                if len(header) < 30 or header[:4] != ZIP:
                    raise ValueError("it is truncated: an entry is not where the archive says")
                start = info.header_offset + 30 + sum(struct.unpack("<HH", header[26:]))
                if start + info.compress_size > size:
                    raise ValueError("it is truncated: an entry reaches beyond the file")
                if info.filename in found:
                    raise ValueError("its archive has two entries of one name")
                found[info.filename] = start, info.compress_size
            return found
    except (zipfile.BadZipFile, NotImplementedError) as error:
        raise ValueError(f"it is truncated or damaged ({line(error)})") from None


def _inside(entries: Mapping[str, object]) -> str:
    files = [name[:60] for name in entries if name.endswith((".safetensors", ".pt", ".pth", ".ckpt", ".bin"))]
    return f"; it holds {files[0]}: unpack it first" if files else ""


def _bytes(file: BinaryIO, place: tuple[int, int]) -> bytes:
    start, length = place
    if length > MAX_BYTES:
        raise ValueError(LIMIT)
    file.seek(start)
    return file.read(length)


def _mapped(path: Path) -> Tensor:
    """All bytes of a file, [size] uint8, changes to which stay in memory."""
    return torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)


def _typed(numbers: Tensor, start: int, length: int, dtype: torch.dtype) -> Tensor:
    content = numbers[start : start + length // dtype.itemsize * dtype.itemsize]
    return (content if start % 16 == 0 else content.clone()).view(dtype)


def _read_old(file: BinaryIO, path: Path, foreign: bool) -> Any:
    file.seek(0)
    data = file.read(MAX_BYTES)

    def part(begin: int, storage: Callable[[Storage], Tensor], foreign: bool = False) -> tuple[Any, int]:
        value, length = load_pickle(data[begin:], storage, foreign)
        return value, begin + length

    def none(at: Storage) -> Tensor:
        raise ValueError("a storage is where none belongs")

    magic, end = part(0, none)
    if magic != MAGIC:
        raise ValueError("it is a pickle, but not one of torch.save")
    _, end = part(end, none)
    system, begin = part(end, none)
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise ValueError("it was written on a big-endian machine")
    dtypes: dict[str, tuple[torch.dtype, int]] = {}

    def note(at: Storage) -> Tensor:
        """The first reading learns the storages' types, without which their places are not known."""
        dtypes.setdefault(at.key, (at.dtype, at.numel))
        return torch.empty(at.numel, dtype=at.dtype, device="meta")

    _, end = part(begin, note, foreign)
    keys, end = part(end, none)
    if not isinstance(keys, list) or set(keys) != dtypes.keys():
        raise ValueError("its storages are not those that its pickle names")
    places: dict[str, tuple[int, int]] = {}
    size = path.stat().st_size
    for key in keys:
        dtype, _ = dtypes[key]
        file.seek(end)
        numel = struct.unpack("<q", file.read(8))[0]
        places[key] = end + 8, numel * dtype.itemsize
        end += 8 + numel * dtype.itemsize
        if numel < 0 or end > size:
            raise ValueError("it is truncated: a storage reaches beyond the file")
    numbers, made = _mapped(path), {}

    def storage(at: Storage) -> Tensor:
        if at.key not in made:
            made[at.key] = _typed(numbers, *places[at.key], dtypes[at.key][0])
        return made[at.key]

    return part(begin, storage, foreign)[0]
