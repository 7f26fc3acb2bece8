"""Figures: every one of them is drawn in every format from a small example, and shows the numbers that it is given."""

from __future__ import annotations

import itertools
import json
import math
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hydra
import numpy as np
import pytest
from commands import CONF, Command
from depths import write_depths
from hydra.utils import instantiate
from matplotlib.figure import Figure as Canvas
from matplotlib.text import Text
from report_runs import write_run
from studies import write_study

from experiments.figures.drift import BANDS, Curve, Drift, Panel, panel
from experiments.figures.end_labels import GAP, end_labels, spread
from experiments.figures.figure import FORMATS, drawn, save, styled
from experiments.figures.style import DARK, GREY, KNOWN, LIGHT, Ink, inks, sweeps
from experiments.figures.sweep import Sweep
from experiments.page.curves import drift_svg
from experiments.probes.depth import Depth

FIGURES = sorted(file.stem for file in (CONF / "figure").glob("*.yaml"))
COLOURS = [Ink(light, dark, "none") for light, dark in zip(LIGHT, DARK, strict=True)]


def scored_runs(root: Path) -> list[Path]:
    """A sweep of three, given out of order, and real video."""
    paths = []
    for sink in (18, 0, 3):
        spec = {"train_seconds": 5.06, "cache": {"_target_": "x", "sink_frames": sink}}
        scores: Any = {"colour_drift": lambda i, t, s=sink: i + t + s, "presence": lambda i, t: 1.0}
        paths.append(write_run(root, "deep_sink", scores, spec, name=f"deep-{sink:08x}"))
    return [
        *paths,
        write_run(root, "real video", {"colour_drift": lambda i, t: 0.5 * i, "presence": lambda i, t: 1.0}, {}),
    ]


def grid_runs(root: Path) -> list[Path]:
    """Two sinks by two budgets, less one."""
    scores: Any = {"colour_drift": lambda i, t: i + t, "motion_magnitude": lambda i, t: 2.0 * t}
    return [
        write_run(
            root, "deep_forcing", scores, {"sink_frames": sink, "budget_frames": n}, name=f"deep-{sink:04x}{n:04x}"
        )
        for sink, n in ((3, 9), (6, 9), (6, 12))
    ]


def coherent_runs(root: Path) -> list[Path]:
    scores: Any = {f"coherence_{s:g}s": lambda i, t, s=s: 1 / (1 + s) + i / 100 for s in (0.5, 2.0, 8.0)}
    return [write_run(root, name, scores) for name in ("deep_sink", "self_forcing")]


def watched_runs(root: Path) -> list[Path]:
    """What the probes write: three steps and a clean pass of two layers; two choices of a layer."""
    run = write_run(root, "deep_forcing")
    for file in (run / "samples").glob("*.json"):
        (run / "probes").mkdir(exist_ok=True)
        passes = [(step == 3, step % 3, layer) for step in range(4) for layer in range(2)]
        kind, step, layer = np.array(passes).T
        mass = np.random.default_rng(0).dirichlet(np.ones(6), (8, 2)).astype(np.float32)
        slots = np.tile([0, 1, -1, 9, 10, 11], (8, 1))
        np.savez(
            run / "probes" / f"attention-{file.stem}.npz",
            mass=mass, kind=kind, step=step, layer=layer, start=np.full(8, 9), slots=slots,
        )  # fmt: skip
        np.savez(
            run / "probes" / f"chosen-{file.stem}.npz",
            counts=np.array([[0, 3, 5, 0]]), choices=np.array([2]), size=4, heads=1, start=np.array([9, 12]),
            layer=np.array([0, 0]), frame=np.array([[1, 2, 3, 4]] * 2), place=np.array([[0, 1, 2, 3]] * 2),
        )  # fmt: skip
    record = json.loads((run / "run.json").read_text())
    record["geometry"] = {"temporal_stride": 4, "height": 16, "width": 16, "spatial_stride": 4, "patch": 2}
    (run / "run.json").write_text(json.dumps(record))
    return [run]


def adaptive_runs(root: Path) -> list[Path]:
    run = write_run(root, "adaptive_sink_motion")
    probe = Depth(run / "probes", [file.stem for file in sorted((run / "samples").glob("*.json"))])
    write_depths(probe)
    return [run]


EXAMPLES: dict[str, tuple[Callable[[Path], list[Path]], tuple[str, ...]]] = {
    "drift": (scored_runs, ()),
    "filmstrip": (scored_runs, ("figure.metrics=[presence]", "figure.frames=3")),
    "sweep": (scored_runs, ()),
    "budget": (scored_runs, ("figure.cost=kv_tokens",)),
    "heatmap": (grid_runs, ("figure.x=sink_frames", "figure.y=budget_frames")),
    "coherence": (coherent_runs, ()),
    "attention": (watched_runs, ()),
    "passes": (watched_runs, ()),
    "slots": (watched_runs, ()),
    "depth": (adaptive_runs, ()),
    "chosen": (watched_runs, ()),
    "pareto": (grid_runs, ("figure.cost=kv_tokens",)),
    "importances": (write_study, ()),
}
"""Per figure: what writes the run directories of a small example, and words of the command line."""


@pytest.mark.parametrize("name", FIGURES)
def test_every_figure_is_drawn_in_every_format_from_a_small_example(name: str, tmp_path: Path) -> None:
    write, words = EXAMPLES[name]
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra.compose("figure", [f"figure={name}", *words])
    figure = instantiate(config.figure, _convert_="object")
    data = figure.read(write(tmp_path / "runs"))
    starts = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF"}
    for suffix in FORMATS:
        save(drawn(figure, data), tmp_path / f"first{suffix}")
        assert (tmp_path / f"first{suffix}").read_bytes().startswith(starts[suffix])
    save(drawn(figure, data), tmp_path / "again.svg")
    assert (tmp_path / "first.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()  # no dates, no random ids
    assert b"CreationDate" not in (tmp_path / "first.pdf").read_bytes()
    assert b"FontFile2" in (tmp_path / "first.pdf").read_bytes()  # letters, and no pictures of them
    assert "DejaVu Sans" in (tmp_path / "first.svg").read_text()
    picture = ET.parse(tmp_path / "first.svg").getroot()
    assert not [e for e in picture.iter() if e.tag.endswith("}date")]
    assert len([e for e in picture.iter() if e.tag.endswith("}text")]) > 5


def test_the_drawn_points_are_the_datas(tmp_path: Path) -> None:
    """Through the axes' own transform, and out of the svg that a page holds."""
    t, mean = [0.5, 2.5, 4.5, 9.5], [3.0, 1.0, math.nan, 8.0]
    low, high = [2.0, 0.5, math.nan, 7.0], [4.0, 1.5, math.nan, 9.0]
    data = Panel("m", [Curve(0, "a", COLOURS[0], t, mean, dict.fromkeys(BANDS, (low, high)))], 10.0, 5.0)
    with styled():
        canvas = Canvas()
        axes = canvas.add_axes((0.1, 0.1, 0.8, 0.8))
        panel(axes, data)
        (line,) = (line for line in axes.lines if line.get_label() == "a")
        y0, y1 = axes.get_ylim()
        for x, y in zip(t, mean, strict=True):
            if math.isfinite(y):
                inside = axes.transAxes.inverted().transform(axes.transData.transform((x, y)))
                assert inside == pytest.approx([x / 10, (y - y0) / (y1 - y0)])
        np.testing.assert_array_equal(line.get_xydata(), np.array([t, mean]).T)
        band = np.concatenate([path.vertices for path in axes.collections[0].get_paths()])
        for x, a, b in zip(t, low, high, strict=True):
            assert not math.isfinite(a) or {(x, a), (x, b)} <= {(float(u), float(v)) for u, v in band}
    root = ET.fromstring(drift_svg(data, 7))
    x0, x1 = float(root.attrib["data-x0"]), float(root.attrib["data-x1"])
    (path,) = root.findall(".//*[@class='line']/path")
    points = [tuple(map(float, point)) for point in re.findall(r"[ML] ([\d.]+) ([\d.]+)", path.attrib["d"])]
    assert [(x - x0) / (x1 - x0) * 10 for x, _ in points] == pytest.approx([0.5, 2.5, 9.5], abs=0.01)
    (ya, yb, yc) = (y for _, y in points)
    assert (ya - yb) / (yc - yb) == pytest.approx((3 - 1) / (8 - 1), abs=0.01)
    assert yc < ya < yb  # downwards in svg: the largest value is highest
    assert path.attrib["d"].count("M") == 2  # the gap is not bridged
    assert float(root.attrib["data-seconds"]) == 10


def test_curves_and_sweep_points_are_the_means_over_prompts(tmp_path: Path) -> None:
    runs = scored_runs(tmp_path)
    presence, drift = sorted(Drift().read(runs), key=lambda each: each.title, reverse=True)
    assert (presence.title, drift.title) == ("presence", "colour drift")
    assert [curve.label for curve in drift.curves] == ["sink_frames=0", "sink_frames=3", "sink_frames=18", "real video"]
    for curve, sink in zip(drift.curves, (0, 3, 18), strict=False):
        assert curve.t == [k + 0.5 for k in range(12)]
        assert curve.mean == pytest.approx([1 + k + sink for k in range(12)])
    swept = Sweep(metrics="colour_drift", number="last", ends=2).read(runs)
    assert swept.title == "sink frames"
    (only,) = swept.panels
    assert [(point.at, point.value) for point in only.points] == [
        (18, pytest.approx(29.5 - 0.0)), (0, pytest.approx(11.5)), (3, pytest.approx(14.5)), (None, pytest.approx(0.5))
    ]  # fmt: skip
    axes = drawn(Sweep(), swept).axes[0]
    marks = sorted(tuple(line.get_xydata()[0]) for line in axes.lines if line.get_marker() == "o")
    assert marks == [(0, pytest.approx(11.5)), (3, pytest.approx(14.5)), (18, pytest.approx(29.5))]


def test_svg_of_the_page_has_its_colours_and_ids_of_its_own() -> None:
    bands = {band: ([0.0, 0.0], [3.0, 3.0]) for band in BANDS}
    curves = [Curve(i, f"run {i} <x>", COLOURS[i], [0.5, 1.5], [i, i + 1.0], bands) for i in range(3)]
    one, two = (drift_svg(Panel('m "<', curves, 5.0, 2.0), index) for index in (0, 1))
    ids = [{e.attrib["id"] for e in ET.fromstring(svg).iter() if "id" in e.attrib} for svg in (one, two)]
    assert ids[0]
    assert not ids[0] & ids[1]
    linked = set(re.findall(r'(?:href="|url\()#([\w-]+)', one))
    assert linked <= ids[0]
    assert "<x>" not in one
    assert "<style" not in one
    assert "&lt;x&gt;" in one
    assert not re.findall(r"#[0-9a-f]{6}", one)
    assert {f"var(--run{i})" for i in range(3)} <= set(re.findall(r"var\([^)]*\)", one))
    assert "trained length" in one
    assert one.count('class="cursor"') == one.count('class="trained"') == 1
    assert len(one) < 16_000
    assert "nan" not in drift_svg(Panel("nothing", [], 5.0, None), 0)


def test_names_at_the_ends_of_lines_keep_apart() -> None:
    nothing = {band: ([math.nan] * 2,) * 2 for band in BANDS}
    curves = [Curve(i, f"run {i}", COLOURS[i], [0.5, 1.5], [1.0, 1.0 + i / 1000], nothing) for i in range(6)]
    with styled():
        canvas = Canvas(figsize=(3.77, 2.1))
        axes = canvas.add_axes((0.1, 0.1, 0.6, 0.8))
        panel(axes, Panel("m", curves, 2.0))
        end_labels(axes, curves)
        boxes = sorted((Text.get_window_extent(t).y0, t.get_text()) for t in axes.texts)  # without the leader
    assert [text for _, text in boxes] == [f"run {i}" for i in range(6)]
    assert all(b - a > 0.99 * GAP * canvas.dpi / 72 for (a, _), (b, _) in itertools.pairwise(boxes))
    assert spread([5.0, 50.0], 12, 0, 100) == [5.0, 50.0]


def test_a_policy_has_one_colour_in_every_figure() -> None:
    known = [*KNOWN]
    assert len(set(KNOWN.values())) == len(known)
    every = dict(zip(known, inks(known, [False] * len(known)), strict=True))
    for few in (["deep_sink", "self_forcing"], ["a_new_one", "deep_forcing", "deep_sink"], ["deep_sink S=3", "sink"]):
        for label, ink in zip(few, inks(few, [False] * len(few)), strict=True):
            assert ink == every.get(label.split(" ")[0], ink)
    assert inks(["deep_sink"], [False]) != inks(["deep_sink_release"], [False])
    many = inks([f"r{chr(97 + i)}" for i in range(20)], [False] * 20)
    assert len({(ink.light, ink.dash) for ink in many}) == 20
    assert len({ink.light for ink in many[:8]}) == 8


def test_a_wide_band_among_several_leaves_the_curve_room() -> None:
    t, mean, wide = [0.5, 1.5], [0.0, 1.0], ([-100.0, -99.0], [100.0, 101.0])
    data = Panel("m", [Curve(0, "a", COLOURS[0], t, mean, dict.fromkeys(BANDS, wide))], 2.0)
    with styled():
        alone, many = Canvas().subplots(1, 2)
        panel(alone, data)
        panel(many, data, BANDS)
    assert alone.get_ylim()[0] < -100
    assert alone.get_ylim()[1] > 101
    assert many.get_ylim() == pytest.approx((-1, 2))


def test_runs_of_a_sweep_are_coloured_in_the_order_of_the_number_beside_others() -> None:
    labels = ["real video", "deep_sink S=18", "self_forcing", "deep_sink S=0", "deep_sink S=3.5"]
    assert sweeps(labels) == [{1: 18.0, 3: 0.0, 4: 3.5}]
    real, large, plain, none, some = inks(labels, [True, *[False] * 4])
    brightness = [sum(bytes.fromhex(ink.light[1:])) for ink in (none, some, large)]
    assert brightness == sorted(brightness)
    assert len(set(brightness)) == 3
    assert plain == inks(["self_forcing"], [False])[0]
    assert (real.light, real.dark) == GREY
    assert real.dash != "none"


# Machado, Oliveira & Fernandes (2009): how the three kinds of colour-blindness see linear RGB, severity 1.
BLIND = {
    "protan": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deutan": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
}


@pytest.mark.parametrize("kind", BLIND)
@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=["light", "dark"])
def test_colours_are_told_apart_by_the_colour_blind(kind: str, palette: tuple[str, ...]) -> None:
    """The hues that come first, which the main policies have: at least 10 in CIELAB 1976; 2.3 is just seen."""
    import cv2

    linear = [[(c / 255) ** 2.2 for c in bytes.fromhex(colour[1:])] for colour in palette[:5]]
    seen = np.clip(np.array(BLIND[kind]) @ np.array(linear).T, 0, 1).T ** (1 / 2.2)
    lab = cv2.cvtColor(seen[None].astype(np.float32), cv2.COLOR_RGB2Lab)[0]
    assert min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(lab, 2)) > 10


MISTAKES = [
    ("out=x.jpg", "out=x.jpg must end in .png, .svg or .pdf"),
    ("figure=drif", "did you mean drift"),
    ("figure.metrics=[presenc]", "metrics=presenc has no scores over windows; there are colour_drift, presence"),
    ("figure=filmstrip figure.frames=1", "frames=1 must be a whole number of at least 2"),
    ("figure=filmstrip figure.prompt=3 figure.metrics=[]", "prompt=3 must be one of 0..2"),
    ("figure=filmstrip figure.frames=many", "figure.frames=many must be a whole number"),
    ("figure=sweep figure.key=cache.window", "cache.window is a number in none of the runs"),
    ("figure=sweep figure.protocol=vbench", "no scores under protocol=vbench"),
    ("figure=sweep figure.number=most", "number=most"),
    ("figure.colour=red", "figure.colour is not a key"),
]


@pytest.mark.parametrize(("words", "told"), MISTAKES, ids=[words for words, _ in MISTAKES])
def test_mistakes_are_told_in_one_line(
    words: str, told: str, tmp_path: Path, command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    scored_runs(tmp_path / "runs")
    status, _, err = command("figure", "runs=runs/*", *words.split())
    assert (status, err.count("\n")) == (2, 1)
    assert told in err
    assert not list(tmp_path.rglob("*.png"))


def test_runs_that_differ_in_no_number_are_no_sweep(tmp_path: Path, command: Command) -> None:
    runs = [write_run(tmp_path, name, {"presence": lambda i, t: 1.0}) for name in ("a", "b")]
    status, _, err = command("figure", "figure=sweep", f"runs=[{runs[0]},{runs[1]}]", f"out={tmp_path / 'x.svg'}")
    assert status == 2
    assert "must differ in one key that is a number, and none does" in err


def test_a_picture_too_large_to_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the figure would be 200 x 2 inches"):
        save(Canvas(figsize=(200, 2)), tmp_path / "x.png")
    assert not list(tmp_path.iterdir())


def test_help_says_which_figures_there_are_and_what_they_take(command: Command) -> None:
    done = command("figure", "--help")
    for name in FIGURES:
        assert f"figure={name}: " in done.out
    assert "figure.frames: 13" in done.out
    assert "_target_" not in done.out


def test_the_old_command_draws_the_same(tmp_path: Path, command: Command) -> None:
    runs = f"runs={scored_runs(tmp_path / 'runs')[0]}"
    old = command("figures.filmstrip", runs, "metrics=[presence]", "frames=2", f"out={tmp_path / 'old.svg'}")
    assert old.status == 0
    assert "experiments.figure figure=filmstrip" in old.err
    words = ("figure=filmstrip", "figure.metrics=[presence]", "figure.frames=2", f"out={tmp_path / 'new.svg'}")
    assert command("figure", runs, *words).status == 0
    assert (tmp_path / "old.svg").read_bytes() == (tmp_path / "new.svg").read_bytes()
