"""The models' files: which of them a generator needs, what is here, and the work that was asked for."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from safetensors.torch import save_file

from deepforcing.wan.catalogue import COMPONENTS, RELEASES, TAEHV, HubFile, weights_root
from deepforcing.wan.containers import open_checkpoint
from deepforcing.wan.origin import SOURCE, TAKEN, converted
from deepforcing.wan.weights import sha256
from experiments.downloads.fetch import fetch
from experiments.downloads.hub import download
from experiments.downloads.manifest import Manifest
from experiments.downloads.metrics import download_metrics, show_metrics, verify_metrics
from experiments.suites import published_suites

MODEL = "wan2.1-1.3b"  # the model without a generator: its own files and the default generator's
DECODER = "taehv"  # as in model.decoder=taehv: a file that no generator needs
METRICS = "metrics"
FLAGS = ("download", "convert", "verify")


@dataclass
class Request:
    names: list[str] = field(default_factory=list)
    flags: set[str] = field(default_factory=set)
    root: Path = field(default_factory=weights_root)
    revision: str | None = None


def parse(arguments: list[str]) -> Request:
    """Raises ValueError in one line for anything unknown."""
    request = Request()
    known = [MODEL, *RELEASES, DECODER, *published_suites(), METRICS]
    for argument in arguments:
        key, equals, value = argument.partition("=")
        if not equals:
            if argument not in known:
                raise ValueError(f"{argument!r} is unknown; there are {', '.join(known)}")
            request.names.append(argument)
        elif key in FLAGS and value in ("true", "false"):
            request.flags |= {key} if value == "true" else set()
        elif key == "root" and value:
            request.root = weights_root(value)
        elif key == "revision" and value:
            request.revision = value
        else:
            raise ValueError(f"{argument!r} is not NAME, {'=true, '.join(FLAGS)}=true, root=DIR or revision=REV")
    if request.revision and len(request.names) != 1:
        raise ValueError("revision=REV goes with one NAME: revisions are a repository's")
    if request.revision and request.names == [DECODER]:
        raise ValueError(f"revision=REV does not go with {DECODER}: its file is pinned")
    return request


def files_of(name: str) -> Iterator[HubFile]:
    if name == DECODER:
        yield TAEHV
        return
    release = RELEASES["self_forcing" if name == MODEL else name]
    yield release.checkpoint
    if release.lora is not None:
        yield release.lora
    yield from COMPONENTS


def convert(name: str, root: Path) -> Path:
    """The tensors of a release that are used, as safetensors; notes say what they came from."""
    release = RELEASES["self_forcing" if name == MODEL else name]
    source = release.checkpoint.local(root)
    target = converted(source, release.use_ema)
    if target.is_file():
        return target
    contents = open_checkpoint(source, release.use_ema)
    notes = {SOURCE: sha256(source), "source": source.name, TAKEN: "/".join(contents.taken)}
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        save_file({f"model.{n}": t.contiguous() for n, t in contents.tensors.items()}, partial, metadata=notes)
        partial.replace(target)
    finally:
        partial.unlink(missing_ok=True)
    return target


def size_text(gigabytes: float | None) -> str:
    return "size unknown" if gigabytes is None else f"{gigabytes:.2f} GB" if gigabytes >= 0.01 else "< 10 MB"


def line(file: HubFile, root: Path, manifest: Manifest) -> str:
    path = file.local(root)
    here = path.is_file()
    size = size_text(path.stat().st_size / 1e9 if here else file.gigabytes)
    known = file.sha256 or manifest.digest(path)
    digest = f"sha256 {known[:12]}" if known else "sha256 not known yet"
    mark = "here   " if here else "missing"
    return f"  {mark}  {file.what:<12}  {path}  ({file.repo}, {size}, {file.licence}, {digest})"


def show(request: Request) -> int:
    """Print what there is; the number of missing files."""
    manifest, missing = Manifest(request.root), {}
    names = request.names or [*RELEASES, DECODER, *published_suites()]
    if names != [METRICS]:
        print(f"weights root: {request.root}")
    for name in names:
        if name == METRICS:
            continue
        print(f"{name}:")
        suite = published_suites().get(name)
        if suite is not None:
            path = suite.local(request.root)
            mark = "here   " if path.is_file() else "missing"
            print(f"  {mark}  prompts       {path}  ({suite.licence}, sha256 {suite.sha256[:12]})")
            if not path.is_file():
                missing[path] = suite.url
            continue
        for file in files_of(name):
            if request.names or file not in COMPONENTS:
                print(line(file, request.root, manifest))
            if not file.local(request.root).is_file():
                missing[file.local(request.root)] = file.url
    if not request.names:
        print("the metrics' networks: python -m experiments.weights metrics")
        print("every generator:")
        for file in COMPONENTS:
            print(line(file, request.root, manifest))
    if missing and request.names:
        own = [name for name in request.names if name != METRICS]
        print(f"to get what is missing: python -m experiments.weights {' '.join(own)} download=true")
        print("or, without a network here, copy:")
        for path, url in missing.items():
            print(f"  {url}\n    to {path}")
    return len(missing) + (show_metrics() if METRICS in names else 0)


def work(request: Request) -> None:
    """Whatever of download, verify and convert was asked for. Raises ValueError in one line."""
    if not request.names:
        raise ValueError(f"say which: NAME {next(iter(request.flags))}=true; there are {', '.join(RELEASES)}")
    manifest = Manifest(request.root)
    for name in request.names:
        if name == METRICS:
            work_on_metrics(request.flags)
            continue
        suite = published_suites().get(name)
        if suite is not None:
            path = suite.local(request.root)
            if "download" in request.flags and not path.is_file():
                fetch(suite.url, path, "the prompts", suite.verify)
            if path.is_file():
                suite.verify(path)
            continue
        for file in files_of(name):
            path = file.local(request.root)
            if "download" in request.flags and not path.is_file():
                own = file.repo == next(files_of(name)).repo
                print(f"{file.repo}/{file.path} -> {path} ({size_text(file.gigabytes)}, {file.licence})")
                download(file, request.root, manifest, request.revision if own else None)
            elif "verify" in request.flags and path.is_file():
                print(f"{manifest.record(file, path)}  {path}")
        if "convert" in request.flags and name != DECODER:  # published as safetensors
            print(f"converted: {convert(name, request.root)}")


def work_on_metrics(flags: set[str]) -> None:
    if "convert" in flags:
        raise ValueError("the metrics' files are read as they are; there is nothing to convert")
    if "download" in flags:
        download_metrics()
    if "verify" in flags:
        verify_metrics()
