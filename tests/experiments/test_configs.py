"""Every yaml under conf/ composes and gives values of the library, without a weight being read."""

from __future__ import annotations

import re
from pathlib import Path

import hydra
import pytest
from commands import composed
from omegaconf import DictConfig, OmegaConf

from deepforcing.geometry import Geometry
from deepforcing.tiny.worlds import WORLDS
from eval.protocol import Protocol
from experiments import report
from experiments.cli import CONF, groups
from experiments.demo import columns_of, rollout_config
from experiments.evaluate import choose
from experiments.reproduce import plan
from experiments.rollout import build_spec, check_request, default_name, find_prompts
from experiments.suites import published_suites

MAINS = sorted(path.stem for path in CONF.glob("*.yaml"))
WITH_SPEC = ("rollout", "bench")
LABELS = Path(__file__).with_name("tiny_labels.csv")
CHOICES = [(group, option) for group in ("generator", "model", "cache", "lossy") for option in groups()[group]]


@pytest.mark.parametrize("main", MAINS)
def test_main_composes_with_nothing_missing(main: str) -> None:
    config = composed(main)
    assert config
    assert not OmegaConf.missing_keys(config)


def test_every_group_is_used_by_a_main() -> None:
    used = {name for main in MAINS for name in re.findall(r"^  - ([\w/]+):", (CONF / f"{main}.yaml").read_text(), re.M)}
    assert {"generator", "model", "cache", "lossy"} <= used
    assert {name for name, options in groups().items() if options} - used <= {"suites", "experiment"}


@pytest.mark.parametrize("main", WITH_SPEC)
@pytest.mark.parametrize(("group", "option"), CHOICES)
def test_choice_gives_a_spec(main: str, group: str, option: str) -> None:
    config = composed(main, f"{group}={option}")
    spec = build_spec(config)
    assert hash(spec) == hash(build_spec(config))
    assert isinstance(spec.model.geometry, Geometry)
    spec.cache.check(spec.chunk_frames, 2 * spec.chunk_frames)
    if group != "generator":
        assert getattr(spec, group).name == option
    identity = spec.identity(6) if spec.model.name == "tiny" else {}
    assert "DictConfig" not in str(identity)


ONE_MODEL = "cache=forcing_kv"  # needs the classes of the model's heads, of which the embedded world's are shipped


WAN = ["model=wan2.1-1.3b", "model.random_weights=true"]


@pytest.mark.parametrize("words", [["model=tiny"], pytest.param(WAN, marks=pytest.mark.slow)], ids=["tiny", "wan"])
@pytest.mark.parametrize("name", groups()["experiment"])
def test_every_row_of_an_experiment_is_a_rollout_that_can_be_made(
    name: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("experiments.request.check_room", lambda *_, **__: None)  # whatever machine the tests run on
    given = [f"experiment={name}", *words, f"runs_root={tmp_path}", "device=cpu"]
    if words[0] != "model=tiny":
        given.append("prompts=wan")  # the paper's are not part of the repository
    config = composed("reproduce", *given)
    rows = [
        key for key, row in config.experiment.rows.items() if words[0] == "model=tiny" or ONE_MODEL not in row.rollout
    ]
    config.rows = rows
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        planned = plan(config, name, words)
    assert list(planned.configs) == rows
    assert config.experiment.baseline in planned.configs
    specs = [check_request(made) for made in planned.configs.values()]
    assert len({request.spec for request in specs}) == len(specs)
    for request in specs:
        made = request.spec.model.geometry.seconds(request.total_frames)
        assert made == pytest.approx(config.experiment.seconds, abs=0.5)
    paper = {metric for row in planned.rows for metric in row.paper}
    assert paper <= {column.metric for column in planned.published}
    for protocol in planned.protocols:
        assert planned.measurements(protocol)
    shows_the_release_beside_the_paper(name, {request.spec.cache.name for request in specs})


def shows_the_release_beside_the_paper(name: str, caches: set[str]) -> None:
    """Which of the two Deep Forcing is is open, so a table that has the one has the other."""
    assert caches & {"deep_forcing", "deep_sink"}
    if "deep_forcing" in caches:
        assert "deep_forcing_release" in caches
    if name in ("table4", "sink_depth"):  # what Deep Sink does alone
        assert {"deep_sink", "deep_sink_release"} <= caches


@pytest.mark.parametrize("suite", [s for s in groups()["suites"] if s != "wan" and s not in published_suites()])
def test_suite_can_be_drawn(suite: str) -> None:
    world = suite.rpartition("_")[0] or "tiny"
    spec = build_spec(composed("rollout", f"model={world}"))
    prompts = find_prompts(suite)
    assert len({prompt.id for prompt in prompts}) == len(OmegaConf.load(CONF / "suites" / f"{suite}.yaml").prompts)
    for prompt in prompts:
        spec.model.check_prompt(prompt.text)


def test_suites_do_not_overlap() -> None:
    """No choice may be tuned on the prompts that the results are about."""
    for world in WORLDS:
        dev, heldout = ({prompt.text for prompt in find_prompts(suite, world)} for suite in ("dev", "heldout"))
        assert not dev & heldout
        assert len(heldout) >= 48


def test_a_suite_is_the_models_own_worlds_where_it_has_one() -> None:
    assert find_prompts("heldout", "tiny") == find_prompts("heldout") == find_prompts("heldout", None)
    assert find_prompts("heldout", "tiny_pan") == find_prompts("tiny_pan_heldout") != find_prompts("heldout")
    assert find_prompts("wan", "tiny_pan") == find_prompts("wan")


def test_the_other_mains_are_usable() -> None:
    assert choose(composed("evaluate").metrics, Protocol())
    config = composed("report")
    config.runs = ["somewhere"]
    assert report.from_config(config).out.suffix == ".html"
    config = composed("demo")
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        columns = [build_spec(rollout_config(config, column, "0/1")) for column in columns_of(config)]
    assert [column.cache.name for column in columns] == [
        "self_forcing",
        "sink",
        "deep_sink",
        "deep_forcing",
        "deep_forcing_release",
        "longlive",
        "rolling_forcing",
    ]


@pytest.mark.parametrize(
    ("choices", "name"),
    [
        (["generator=deep_forcing"], "deep_forcing"),
        (["cache=deep_sink"], "deep_sink"),
        (["generator=longlive"], "longlive"),
        (["generator=longlive", "cache=deep_sink"], "longlive_deep_sink"),
        (["generator=longlive_infinity"], "longlive_infinity_slot"),
        (["generator=causal_forcing_1step", "cache=deep_forcing"], "causal_forcing_1step_deep_forcing"),
    ],
)
def test_runs_are_named_after_generator_and_cache(choices: list[str], name: str) -> None:
    assert default_name(build_spec(composed("rollout", *choices))) == name


@pytest.fixture(scope="module")
def caches() -> dict[str, DictConfig]:
    """By name, as they stand in a config: one composing each, and not one for every generator."""
    labels = [f"cache.retention.labels={LABELS}"]  # it has none of its own
    return {
        name: composed("rollout", f"cache={name}", *(labels if name == "pyramid_forcing" else [])).cache
        for name in groups()["cache"]
    }


@pytest.mark.parametrize("generator", [g for g in groups()["generator"] if g not in ("rolling_forcing", "causvid")])
def test_every_chunkwise_generator_takes_every_cache(generator: str, caches: dict[str, DictConfig]) -> None:
    config = composed("rollout", f"generator={generator}", "cache=slot")
    assert build_spec(config).cache.name == "slot"  # a choice of cache is stronger than the generator's own
    for name, cache in caches.items():
        config.cache = cache
        spec = build_spec(config)
        if (generator, name) == ("causal_forcing_1step", "deep_forcing_decoprune"):  # there is no step before its last
            with pytest.raises(ValueError, match="makes chunks in 1: use one of more steps"):
                spec.check_sizes(240)
        else:
            spec.check_sizes(240)
