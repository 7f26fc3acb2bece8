"""The first real rollout on a machine, looked at for what must hold of it. `python -m experiments.first_light --help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from deepforcing.generator import GeneratorSpec
    from experiments.health.light import Light

SUITES = {"tiny": "demo", None: "wan"}  # by the model's world


def first_light_task(config: DictConfig) -> int:
    """Exit status 1 where something did not hold."""
    from experiments.command.terminal import console
    from experiments.health.light import first_light  # torch: --help does without

    return int(not first_light(asked(config), console()))


def asked(config: DictConfig) -> Light:
    """Everything that can fail early fails here, in one line."""
    from deepforcing.prompts import prompts_from_texts
    from experiments.command.compose import chosen, compose
    from experiments.command.outputs import check_output
    from experiments.health.light import Light
    from experiments.request import build_spec, check_room, pick_device
    from experiments.suites import load_suite

    out = Path(str(config.out))
    if out.suffix != ".json":
        raise ValueError(f"out={out} must end in .json; the same in Markdown goes beside it")
    device = pick_device(str(config.device))
    second = config.copy()
    second.cache = compose("rollout", [f"cache={config.beside}"]).cache
    specs: dict[str, GeneratorSpec] = {}
    for each in (config, second):
        spec = build_spec(each)
        specs[spec.cache.name or "policy"] = spec
    first = next(iter(specs.values()))
    total = first.latent_frames(float(config.seconds))
    prompt = load_suite(SUITES.get(first.model.world, "wan"))[0]
    if config.prompt is not None:
        (prompt,) = prompts_from_texts([str(config.prompt)])
    for spec in specs.values():
        spec.check_sizes(total)
        spec.cues(prompt.text, total)
        spec.check(total)
        check_room(spec, total, device)
    check_output(out)
    choices, words = chosen()
    limits = config.ranges[first.model.world or "wan"]
    ranges = {str(name): (float(value[0]), float(value[1])) for name, value in limits.items() if name != "source"}
    published = build_spec(compose("rollout", [f"generator={choices['generator']}", "model=tiny"])).schedule
    return Light(
        specs, published, prompt, total, device, ranges, str(limits.source),
        tuple(rollout_words(config, choices, words, prompt.text)) if config.resume else None, out,
    )  # fmt: skip


def rollout_words(config: DictConfig, choices: dict[str, str], typed: list[str], prompt: str) -> list[str]:
    """The same video as words of experiments.rollout: of the second policy."""
    own = [word for word in typed if word.startswith(("model.", "generator."))]
    quoted = prompt.replace("\\", "\\\\").replace("'", "\\'")
    return [
        f"model={choices['model']}", f"generator={choices['generator']}", f"cache={config.beside}", *own,
        f"seconds={config.seconds}", f"device={config.device}", f"dtype={config.dtype}", f"prompts=['{quoted}']",
    ]  # fmt: skip


main = command("first_light")(first_light_task)

if __name__ == "__main__":
    main()
