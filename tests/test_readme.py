"""What the README says works: its example policy, its commands' keys, its length."""

from __future__ import annotations

import itertools
import re
import sys
import tomllib
import types
from pathlib import Path

import torch
import yaml

from deepforcing.cache.kv import KVCache
from deepforcing.cache.policy import CachePolicy
from deepforcing.wan.config import WanConfig

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()


def block(language: str) -> str:
    found = re.search(rf"```{language}\n(.*?)```", README, re.S)
    assert found, f"README.md has no {language} example"
    return found[1]


def test_readme_is_short_and_its_links_lead_somewhere() -> None:
    assert len(README.splitlines()) < 200
    for target in re.findall(r"\]\(([^)#]+)\)", README):
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_readme_commands_name_modules_and_choices_that_exist() -> None:
    for module in set(re.findall(r"python -m (experiments\.\w+)", README)):
        assert (ROOT / (module.replace(".", "/") + ".py")).exists(), module
    for group in ("cache", "generator", "model"):
        for choice in re.findall(rf"(?<![.\w]){group}=([\w.-]+\w)", README):
            assert choice == "every_other" or (ROOT / "conf" / group / f"{choice}.yaml").exists(), (group, choice)


def test_example_policy_runs_as_printed() -> None:
    config = yaml.safe_load(block("yaml"))
    module = types.ModuleType("example_policy")
    sys.modules["example_policy"] = module  # dataclasses look their module up
    exec(block("python"), module.__dict__)
    retention = dict(config["retention"])
    name = retention.pop("_target_").rpartition(".")[2]
    policy = CachePolicy(getattr(module, name)(**retention), config["alignment"], config["name"])
    sizes = WanConfig(
        dim=24, ffn_dim=24, freq_dim=8, in_dim=2, out_dim=2, num_heads=1, num_layers=1, text_dim=4, text_len=2
    )
    cache = KVCache(policy, sizes, (1, 2), 3, 300)
    for start in range(0, 120, 3):
        cache.begin(start)
        q, k, v = (torch.randn(1, 1, 6, 24) for _ in range(3))
        assert cache.commit().attend(0, q, k, v).isfinite().all()
        assert cache.attended_tokens <= 21 * 2
    frames = [slot.frame for slot in cache.view.slots]
    assert frames[:4] == [0, 1, 2, 3], "the sink survives"
    gaps = [b - a for a, b in itertools.pairwise(frames[4:]) if a is not None and b is not None]
    assert max(gaps) > 1, "it keeps a sparse past"


def test_layout_names_every_folder_and_no_other() -> None:
    tree = README.split("## Layout")[1]
    named = set(re.findall(r"^ {4,6}(\w+)/ ", tree, re.M))
    tops = ("deepforcing", "eval", "experiments")
    inside = {file.parent.name for top in tops for file in (ROOT / top).glob("*/*.py")}
    assert inside <= named, f"folders without a phrase: {inside - named}"
    there = {folder.name for top in ("", *tops) for folder in (ROOT / top).iterdir() if folder.is_dir()}
    assert named <= there, f"phrases without a folder: {named - there}"
    for file in set(re.findall(r"\w+\.py", tree)):
        assert any(any((ROOT / top).rglob(file)) for top in tops), file


def test_every_package_that_is_depended_on_has_its_licence_told() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    names = {re.split(r"[^\w.-]", each)[0] for each in wanted}
    told = set(re.findall(r"[\w.-]+", (ROOT / "THIRD_PARTY.md").read_text()))
    assert names - told == set()
