"""conf/ as text: which keys, groups and choices there are, without Hydra."""

from __future__ import annotations

import re
from pathlib import Path

CONF = Path(__file__).parents[2] / "conf"


def groups() -> dict[str, list[str]]:
    """Config groups, groups in groups among them ("cache/store"), and their options."""
    folders = sorted(path for path in CONF.rglob("*") if path.is_dir())
    return {d.relative_to(CONF).as_posix(): sorted(f.stem for f in d.glob("*.yaml")) for d in folders}


def used_groups(text: str) -> list[str]:
    """The groups in the defaults of a main configuration."""
    return [name for name in groups() if re.search(rf"^  - {name}:", text, re.M)]


def top_keys(config_name: str) -> set[str]:
    """The keys that a command takes."""
    text = (CONF / f"{config_name}.yaml").read_text()
    own = set(re.findall(r"^([a-z_]\w*):", text, re.M)) - {"defaults"}
    return own | {group.partition("/")[0] for group in used_groups(text)}


def help_text(config_name: str) -> str:
    text = (CONF / f"{config_name}.yaml").read_text()
    used = used_groups(text)
    lines = [line for line in text.splitlines() if line.strip() != "- _self_"]
    shown = re.sub(r"^defaults:\n(?!  -)", "", "\n".join(lines), flags=re.M)
    options = "\n".join(
        option_texts(name) if name == config_name else f"  {name:<12}{', '.join(groups()[name])}" for name in used
    )
    tail = f"\n\nChoices:\n{options}" if options else ""
    return shown.rstrip() + tail + "\n\nAny key can be set: key=value, nested.key=value. Sweeps: -m key=a,b,c"


def option_texts(group: str) -> str:
    """Each choice of a group with what it is and its own keys: how the group that a command is called after is explained."""
    found = []
    for name in groups()[group]:
        first, *lines = (CONF / group / f"{name}.yaml").read_text().splitlines()
        keys = [f"      {group}.{line}" for line in lines if not line.startswith("_target_")]
        found.append("\n".join([f"  {group}={name}: {first.removeprefix('# ')}", *keys]))
    return "\n".join(found)
