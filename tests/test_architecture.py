"""The one-way doors between the packages, enforced."""

from __future__ import annotations

import ast
import importlib.util
import os
import pkgutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import deepforcing

ROOT = Path(__file__).parents[1]
HARNESS = {"hydra", "omegaconf", "wandb"}  # experiments only
HEAVY = {"pandas", "matplotlib", "vbench", "pyarrow", "jinja2", "cv2", "scipy"}  # not in the library
FORBIDDEN = {
    "deepforcing": {"eval", "experiments", "baselines", "benchmarks", *HARNESS, *HEAVY},
    "eval": {"experiments", "baselines", "benchmarks", *HARNESS},
    "baselines": {"eval", "experiments", "benchmarks", *HARNESS},
}


def imports(source: str, package: tuple[str, ...]) -> Iterator[str]:
    """Every module that a file names in an import, absolute; imports inside functions and strings given to
    importlib.import_module or __import__ among them."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in (
            "import_module",
            "__import__",
        ):
            yield from (a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str))


def violations(package: str, source: str, inside: tuple[str, ...]) -> list[str]:
    return [name for name in imports(source, inside) if name.split(".")[0] in FORBIDDEN[package]]


@pytest.mark.parametrize("package", FORBIDDEN)
def test_one_way_doors(package: str) -> None:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files
    found = {
        str(file.relative_to(ROOT)): bad
        for file in files
        if (bad := violations(package, file.read_text(), file.parent.relative_to(ROOT).parts))
    }
    assert not found


@pytest.mark.parametrize(
    "source",
    [
        "import eval.measure.metric",
        "from experiments import replay",
        "from ..eval import measure",
        "def f():\n    import hydra.utils as h",
        "import importlib\nimportlib.import_module('pandas')",
        "if TYPE_CHECKING:\n    from omegaconf import DictConfig",
    ],
)
def test_the_check_sees_a_violation(source: str) -> None:
    assert violations("deepforcing", source, ("deepforcing", "cache"))[:1] or violations(
        "deepforcing", source, ("deepforcing",)
    )


def test_the_check_lets_others_pass() -> None:
    assert not violations(
        "deepforcing", "import evaluation\nfrom deepforcing.eval import x\nfrom . import kv", ("deepforcing",)
    )


def commands() -> dict[str, str]:
    """Modules of experiments/ that are run, with their text."""
    files = {file.stem: file.read_text() for file in (ROOT / "experiments").glob("*.py")}
    return {name: text for name, text in files.items() if '__name__ == "__main__"' in text}


def test_commands_are_thin_and_know_no_other() -> None:
    """At most 120 lines over shared rooms, which import no command either."""
    names = commands()
    assert {
        "rollout",
        "evaluate",
        "report",
        "table",
        "track",
        "reproduce",
        "demo",
        "bench",
        "weights",
        "replay",
    } <= set(names)
    assert {name: text.count("\n") for name, text in names.items() if text.count("\n") > 120} == {}
    for package in ("experiments", "benchmarks", "eval"):
        for file in (ROOT / package).rglob("*.py"):
            inside = file.parent.relative_to(ROOT).parts
            for name in imports(file.read_text(), inside):
                assert (
                    name.split(".")[:1] != ["experiments"]
                    or name.split(".")[1:2] == []
                    or (name.split(".")[1] not in names)
                ), (file, name)


def test_no_file_is_longer_than_350_lines() -> None:
    for package in ("deepforcing", "baselines", "eval", "experiments", "benchmarks", "tests"):
        for file in (ROOT / package).rglob("*.py"):
            assert file.read_text().count("\n") <= 350, file


def test_packages_have_init_and_tests_have_none() -> None:
    """Packages are real (a bare `import eval` finds ours or nothing); tests are found by path."""
    for package in ("deepforcing", "eval", "experiments", "baselines", "benchmarks"):
        for file in (ROOT / package).rglob("*.py"):
            assert (file.parent / "__init__.py").is_file(), file
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_the_library_loads_nothing_heavy() -> None:
    """Every module of deepforcing imported in a fresh interpreter."""
    modules = ["deepforcing", *(m.name for m in pkgutil.walk_packages(deepforcing.__path__, "deepforcing."))]
    if importlib.util.find_spec("triton") is None:
        modules.remove("deepforcing.wan.rope_kernel")
    assert len(modules) > 15
    late = {"transformers", "diffusers", "huggingface_hub", "ftfy"}  # imported when a real model is built, not before
    unwanted = sorted(FORBIDDEN["deepforcing"] | late)
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        f"print(*(name for name in {unwanted!r} if name in sys.modules))"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, env=environment, check=True
    )
    assert done.stdout.split() == []
