"""Prompt suites of conf/suites/: lists of our own, and published lists that are not part of the repository.

A published list names its file, the sha256 of the whole file, how many prompts from its start are meant, and where it is
fetched from. It is looked for under <weights root>/prompts and taken only with that sha256.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from deepforcing.prompts import Prompt, load_prompts, prompts_from_texts
from deepforcing.wan.catalogue import weights_root
from deepforcing.wan.weights import sha256
from experiments.command import CONF


@dataclass(frozen=True)
class Published:
    """A list of prompts that others published. first: the prompts from its start that are meant; None: all."""

    suite: str
    file: str
    sha256: str
    url: str
    licence: str
    first: int | None = None

    def local(self, root: Path) -> Path:
        return root / "prompts" / self.file

    def verify(self, path: Path) -> None:
        """Raises ValueError when the file is not, byte by byte, the published one."""
        found = sha256(path)
        if found != self.sha256:
            raise ValueError(
                f"{path} is not the published {self.file}: its sha256 begins {found[:12]}, not {self.sha256[:12]}; "
                "line ends changed by an editor or by git are enough"
            )

    def read(self, path: Path) -> list[Prompt]:
        self.verify(path)
        prompts = load_prompts(path)
        return prompts if self.first is None else prompts[: self.first]


def suite_files() -> dict[str, Path]:
    return {path.stem: path for path in sorted((CONF / "suites").glob("*.yaml"))}


def published_suites() -> dict[str, Published]:
    found = {}
    for name, path in suite_files().items():
        config = OmegaConf.load(path)
        if isinstance(config, DictConfig) and "file" in config:
            fields = {str(k): config[k] for k in config}
            found[name] = Published(suite=name, **fields)
    return found


def load_suite(name: str) -> list[Prompt]:
    """The prompts of a suite. Raises ValueError that says how to get a published one that is not there."""
    published = published_suites().get(name)
    if published is None:
        return prompts_from_texts([str(text) for text in OmegaConf.load(suite_files()[name]).prompts])
    path = published.local(weights_root())
    if not path.is_file():
        raise ValueError(
            f"prompts={name} needs {published.file}, which is not part of this repository: "
            f"python -m experiments.weights {name} download=true, or copy it to {path}"
        )
    return published.read(path)
