"""torch.save's files without torch.load: the same content as torch reads, nothing run, and bounded time and memory."""

from __future__ import annotations

import os
import pickle
import resource
import struct
import time
import zipfile
from collections import Counter, OrderedDict, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from deepforcing import pickles
from deepforcing.pickles import Foreign, ForeignObjectError
from deepforcing.torch_files import not_a_checkpoint, read_torch_file


class Runs:
    """An object whose pickle calls a function."""

    def __init__(self, function: Callable[..., object], *arguments: object) -> None:
        self.function, self.arguments = function, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.function, self.arguments


def everything() -> dict[Any, Any]:
    linear = nn.Linear(2, 3)
    numbers = torch.arange(24.0)
    optimiser = torch.optim.AdamW(linear.parameters())
    linear(torch.ones(1, 2)).sum().backward()
    optimiser.step()
    tensors = {
        "contiguous": numbers, "transposed": numbers.view(4, 6).T, "slice": numbers[3:9], "scalar": torch.tensor(3.5),
        "empty": torch.empty(0, 3), "expanded": torch.ones(1).expand(5), "parameter": nn.Parameter(torch.ones(2, 2)),
        "bool": torch.tensor([True, False]),
    }  # fmt: skip
    for dtype in ("float16", "bfloat16", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "complex64"):
        tensors[dtype] = torch.arange(5).to(getattr(torch, dtype))
    for dtype in ("float8_e4m3fn", "float8_e5m2"):
        tensors[dtype] = torch.arange(5.0).to(getattr(torch, dtype))
    attributed = nn.Parameter(torch.ones(3))
    attributed.note = "kept with the tensor"  # type: ignore[attr-defined]
    return {
        **tensors, "module": linear.state_dict(), "optimiser": optimiser.state_dict(), "attributed": attributed,
        "shared": [numbers, numbers.view(2, 12)], "size": torch.Size([1, 2]), "dtype": torch.bfloat16,
        "device": torch.device("cpu"), "counts": Counter("aab"), "ordered": OrderedDict(a=1), "set": {1, 2}, 7: "seven",
        "frozen": frozenset([1]), "bytes": b"x\xff", "buffer": bytearray(b"ab"), "complex": 1j, "none": None,
        "large": 1 << 100, "nested": {"list": [1, (2.5, "\u00e9")]}, ("a", 1): True,
    }  # fmt: skip


def same(got: Any, want: Any) -> bool:
    if isinstance(want, Tensor):
        layout = (got.dtype, got.shape, got.stride()) == (want.dtype, want.shape, want.stride())
        return layout and torch.equal(got.to(torch.complex128), want.detach().to(torch.complex128))
    if isinstance(want, dict):
        return list(got) == list(want) and all(same(got[k], want[k]) for k in want)
    if isinstance(want, (list, tuple)):
        return len(got) == len(want) and all(same(g, w) for g, w in zip(got, want, strict=True))
    return bool(got == want)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("zipped", [True, False])
def test_what_torch_saved_is_read(zipped: bool, protocol: int, tmp_path: Path) -> None:
    path, content = tmp_path / "x.pt", everything()
    torch.save(content, path, pickle_protocol=protocol, _use_new_zipfile_serialization=zipped)
    got = read_torch_file(path)
    for key, want in content.items():
        assert same(got[key], want), key
    assert got["shared"][0].data_ptr() == got["shared"][1].data_ptr()


def test_tensors_are_mapped_and_changing_them_leaves_the_file(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(50_000_000)}, path)
    before, used = path.stat().st_mtime_ns, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    tensor = read_torch_file(path)["a"]
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used < 20_000  # KB, of 200 MB
    tensor[:10] = 1
    assert float(read_torch_file(path)["a"].sum()) == 0
    assert path.stat().st_mtime_ns == before


@pytest.mark.parametrize("zipped", [True, False])
def test_nothing_is_called(zipped: bool, tmp_path: Path) -> None:
    path, sign = tmp_path / "x.pt", tmp_path / "ran"
    evil = [Runs(os.mkdir, str(sign)), Runs(exec, f"open({str(sign)!r}, 'w')"), Path("x"), defaultdict(list, a=[1])]
    for item in evil:
        torch.save({"weight": torch.ones(2), "evil": item}, path, _use_new_zipfile_serialization=zipped)
        with pytest.raises(ForeignObjectError, match="its pickle names '"):
            read_torch_file(path)
        got = read_torch_file(path, foreign=True)
        assert torch.equal(got["weight"], torch.ones(2))
        assert isinstance(got["evil"], Foreign)
    assert not sign.exists()


@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_a_torchscript_program_is_read_as_data_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    linear = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    torch.jit.save(torch.jit.script(linear), path)  # type: ignore[no-untyped-call]
    with pytest.raises(ValueError, match="TorchScript program, which is never run"):
        read_torch_file(path, foreign=True)
    root = read_torch_file(path, foreign=True, script=True)
    assert same(root.state["1"].state["weight"], linear[1].weight)
    torch.save({}, path)
    with pytest.raises(ValueError, match="no TorchScript archive"):
        read_torch_file(path, foreign=True, script=True)


def rezipped(path: Path, change: Callable[[zipfile.ZipFile, str, bytes], None]) -> None:
    """The same archive with each entry written by `change`."""
    with zipfile.ZipFile(path) as archive:
        entries = [(name, archive.read(name)) for name in archive.namelist()]
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in entries:
            change(archive, name, content)


def test_compressed_entries_are_refused_at_once(tmp_path: Path) -> None:
    """What deflates to a thousandth: torch.save stores, so nothing need ever be inflated."""
    path = tmp_path / "x.pt"
    for bomb in ("data.pkl", "data/0"):
        torch.save({"a": torch.zeros(1000)}, path)

        def inflated(archive: zipfile.ZipFile, name: str, content: bytes, bomb: str = bomb) -> None:
            large = content + bytes(50_000_000) if name.endswith(bomb) else content
            archive.writestr(name, large, zipfile.ZIP_DEFLATED if name.endswith(bomb) else zipfile.ZIP_STORED)

        rezipped(path, inflated)
        start = time.perf_counter()
        with pytest.raises(ValueError, match="compressed zip archive"):
            read_torch_file(path)
        assert time.perf_counter() - start < 0.5


@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_an_archive_that_misleads(tmp_path: Path) -> None:
    """Readers differ in which of two entries of one name, and which of an entry's two headers, they believe."""
    path = tmp_path / "x.pt"
    torch.save({"a": torch.zeros(1000)}, path)
    good = path.read_bytes()
    directory = good.rindex(b"PK\x01\x02", 0, good.index(b"x/data/0", good.index(b"PK\x01\x02")))
    for offset, value, reason in (
        (10, struct.pack("<H", 8), "compressed"),  # the method
        (20, struct.pack("<II", 1 << 30, 1 << 30), "reaches beyond the file"),  # both sizes
        (42, struct.pack("<I", len(good) - 3), "not where the archive says"),  # its place
        (8, struct.pack("<H", 1), "encrypted"),  # flags
    ):
        path.write_bytes(good[: directory + offset] + value + good[directory + offset + len(value) :])
        with pytest.raises(ValueError, match=reason):
            read_torch_file(path)
    path.write_bytes(good)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("x/data/0", bytes(4000))
    with pytest.raises(ValueError, match="two entries of one name"):
        read_torch_file(path)


def raw(data: bytes) -> bytes:
    return b"\x80\x02" + data + b"."


DEEP = b"".join(b"\x85" for _ in range(60_000))
NESTED = b")" + DEEP
BOMBS = {
    "a memo of gigabytes": (raw(b"}r\xff\xff\xff\x7f"), None),
    "many objects": (raw(b"(" + b"}" * 3_000_000 + b"l"), "larger than any checkpoint's"),
    "a list again and again": (
        raw(b"ccollections\nCounter\nq\x00(" + b"N" * 300_000 + b"tq\x010h\x00" + b"h\x01\x85R0h\x00" * 1000),
        "larger than any checkpoint's",
    ),
    "a deep key": (raw(b"}" + NESTED + b"Ns"), "nested tuples as a key"),
    "a deep value": (raw(b"}K\x01" + NESTED + b"s"), None),
    "bytes by number": (raw(b"c__builtin__\nbytearray\nJ\xff\xff\xff\x7f\x85R"), r"calls bytearray\(int\)"),
    "a long number": (raw(b"L" + b"9" * 1_000_000 + b"L\n"), "damaged|limit"),
    "a long name": (raw(b"c" + b"x" * 1_000_000 + b"\ny\n"), "its pickle names"),
    "no end": (b"\x80\x02" + b"(0" * 100, "exhausted|no end"),
    "a string of gigabytes": (raw(b"T\xff\xff\xff\x7f"), "expected 2147483647 bytes"),
    "not hashable": (raw(b"}]Ns"), "unhashable"),
}


def container(path: Path, pickled: bytes, zipped: bool) -> None:
    if zipped:
        torch.save({}, path)
        rezipped(path, lambda a, name, content: a.writestr(name, pickled if name.endswith("data.pkl") else content))
    else:
        system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {}}
        head = [pickle.dumps(v, 2) for v in (0x1950A86A20F9469CFC6C, 1001, system)]
        path.write_bytes(b"".join(head) + pickled + pickle.dumps([], 2))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("bomb", BOMBS)
def test_bombs_are_short_lines_and_quick(bomb: str, zipped: bool, tmp_path: Path) -> None:
    data, reason = BOMBS[bomb]
    container(tmp_path / "x.pt", data, zipped)
    start = time.perf_counter()
    if reason is None:
        read_torch_file(tmp_path / "x.pt")
    else:
        with pytest.raises(ValueError, match=reason) as caught:
            read_torch_file(tmp_path / "x.pt", foreign=bomb != "a long name")
        assert len(str(caught.value)) < 200
        assert "\n" not in str(caught.value)
    assert time.perf_counter() - start < 5


def test_a_large_pickle_is_refused_unread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x.pt"
    torch.save({"a": "x" * 5000}, path)
    monkeypatch.setattr("deepforcing.torch_files.MAX_BYTES", 4000)
    with pytest.raises(ValueError, match=pickles.LIMIT):
        read_torch_file(path)


@pytest.mark.parametrize(
    ("offset", "size", "stride", "reason"),
    [
        (0, (5,), (1,), "beyond its storage"),
        (3, (2,), (1,), "beyond its storage"),
        (0, (2, 2), (3, 1), "beyond its storage"),
        (-1, (2,), (1,), "no proper shape"),
        (0, (2,), (-1,), "no proper shape"),
        (0, (1 << 40,), (0,), "without end"),
        (0, (1 << 70,), (0,), "no proper shape"),
        (0, (1,) * 65, (1,) * 65, "no proper shape"),
        (0, (2,), (1, 1), "no proper shape"),
    ],
)
def test_a_tensor_stays_in_its_storage(
    offset: int, size: tuple[int, ...], stride: tuple[int, ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        pickles.placed(torch.zeros(10)[2:6], offset, size, stride)


def test_a_tensor_is_the_storages_own_elements() -> None:
    assert pickles.placed(torch.arange(10)[2:6], 1, (3,), (1,)).tolist() == [3, 4, 5]
    assert pickles.placed(torch.arange(10)[2:6], 0, (2, 2), (1, 2)).tolist() == [[2, 4], [3, 5]]
    assert pickles.placed(torch.arange(4), 9, (0, 3), (3, 1)).shape == (0, 3)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "a git-lfs pointer"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "a web page"),
        (
            b'\xef\xbb\xbf<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>',
            "a web page or a server's error",
        ),
        (b"GGUF\x03\0\0\0" + bytes(100), "a GGUF file"),
        (b"\x1f\x8b\x08" + bytes(30), "gzip"),
        (b'{"error": "Repository not found"}', "JSON, not a checkpoint"),
        (b'{"metadata": {}, "weight_map": {}}', "the index of a checkpoint in shards"),
        (b"Invalid username or password.", "text, not a checkpoint"),
        (b"(no such file)", "text, not a checkpoint"),
        (b"cannot be found", "text, not a checkpoint"),
        (pickle.dumps([1], 0), None),
        (pickle.dumps(5, 0), None),
        (pickle.dumps(Path, 0), None),
        (pickle.dumps((1, "a"), 1), None),
        (b"Access denied\n", "text, not a checkpoint; it begins with 'access denied'"),
        (bytes(1000), "zeros"),
        (bytes(257) + b"ustar" + bytes(300), "tar archive"),
        (b"\x89HDF\r\n\x1a\n" + bytes(10), "an HDF5 file"),
        (struct.pack("<Q", 2) + b"{}", None),
        (pickle.dumps({"a": 1}, 0), None),
        (pickle.dumps({"a": 1}, 4), None),
        (b"PK\x03\x04", None),
    ],
)
def test_what_is_no_checkpoint_is_named_by_its_first_bytes(content: bytes, what: str | None, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    path.write_bytes(content)
    found = not_a_checkpoint(path)
    assert found is None if what is None else found is not None and what in found


@pytest.mark.filterwarnings("ignore:invalid escape:DeprecationWarning")
@pytest.mark.parametrize("zipped", [True, False])
def test_any_damage_is_a_value_error(zipped: bool, tmp_path: Path) -> None:
    path = tmp_path / "x.pt"
    torch.save({"generator": {f"a{i}": torch.randn(3) for i in range(4)}}, path, _use_new_zipfile_serialization=zipped)
    data = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for round_ in range(300):
        changed = bytearray(data[: len(data) - round_ * 7 % len(data)] if round_ % 3 == 0 else data)
        for at in torch.randint(0, min(900, len(changed)), (3,), generator=generator).tolist():
            changed[at] = int(torch.randint(0, 256, (1,), generator=generator))
        path.write_bytes(changed)
        message = ""
        try:
            read_torch_file(path, foreign=round_ % 2 == 0)
        except ValueError as error:
            message = str(error)
        assert len(message) < 250
        assert "\n" not in message
