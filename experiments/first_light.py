"""The first real rollout on a machine, looked at for what must hold of it. `python -m experiments.first_light --help`"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from experiments.command import command

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from deepforcing.generator import GeneratorSpec
    from experiments.health.light import Light

BESIDE = ("deep_forcing", "self_forcing", "sink")  # one that chooses tokens, else one that drops what is old
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
    first = build_spec(config)
    beside = second_policy(config, first)
    specs: dict[str, GeneratorSpec] = {first.cache.name or "policy": first}
    if beside is not None:
        second = with_cache(config, beside)
        specs[second.cache.name or "policy"] = second
    if (world := first.model.world or "wan") not in config.ranges:
        raise ValueError(f"what to expect of model={first.model.name} is not known here: use model=tiny or a Wan")
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
    limits = config.ranges[world]
    ranges = {str(name): (float(value[0]), float(value[1])) for name, value in limits.items() if name != "source"}
    published = build_spec(compose("rollout", [f"generator={choices['generator']}", "model=tiny"])).schedule
    return Light(
        specs, published, prompt, total, device, ranges, str(limits.source),
        tuple(rollout_words(config, beside or choices["cache"], choices, words, prompt.text)) if config.resume else None, out,
    )  # fmt: skip


def with_cache(config: DictConfig, cache: str) -> GeneratorSpec:
    from experiments.command.compose import compose
    from experiments.request import build_spec

    changed = config.copy()
    changed.cache = compose("rollout", [f"cache={cache}"]).cache
    return build_spec(changed)


def second_policy(config: DictConfig, first: GeneratorSpec) -> str | None:
    """What was typed, else the first of BESIDE that is another policy and can run; None: none can."""
    if config.beside is not None:
        return str(config.beside)
    for name in BESIDE:
        try:
            spec = with_cache(config, name)
            spec.check_sizes(spec.latent_frames(float(config.seconds)))
        except ValueError:
            continue
        if spec.cache != first.cache:
            return name
    return None


def rollout_words(config: DictConfig, cache: str, choices: dict[str, str], typed: list[str], prompt: str) -> list[str]:
    """The same video as words of experiments.rollout: of that policy."""
    own = [word for word in typed if word.startswith(("model.", "generator."))]
    quoted = prompt.replace("\\", "\\\\").replace("'", "\\'")
    return [
        f"model={choices['model']}", f"generator={choices['generator']}", f"cache={cache}", *own,
        f"seconds={config.seconds}", f"device={config.device}", f"dtype={config.dtype}", f"prompts=['{quoted}']",
    ]  # fmt: skip


main = command("first_light")(first_light_task)

if __name__ == "__main__":
    main()
