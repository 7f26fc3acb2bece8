"""What may be typed: kinds and ranges of every key, quotes, home folders, brackets, and terminals that know only ASCII."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import RED, Command
from omegaconf import OmegaConf

from deepforcing.generator import GeneratorSpec
from deepforcing.limits import check_numbers, within
from deepforcing.tiny.model import TinySpec
from experiments.command.conf import CONF, top_keys
from experiments.command.keys import COMMANDS, check_keys
from experiments.command.terminal import console
from experiments.request import build_spec

ROOT = Path(__file__).parents[2]

# command, words -> what the line must say. Every number has a range; every other key a kind.
WRONG = [
    ("reproduce", "experiment.seconds=1e9", r"experiment\.seconds=1000000000\.0 must be a positive number of at most"),
    ("reproduce", "experiment.published_prompts=many", r"experiment\.published_prompts=many must be a whole number"),
    ("reproduce", "experiment.sweep=true", r"experiment\.sweep=True must be title and panels, or null|sweep=true must be"),
    ("reproduce", "experiment.rows.deep_sink.rollout=deep", r"experiment\.rows\.deep_sink\.rollout=deep must be a list"),
    ("reproduce", "+experiment.rows.deep_sink.own=true", r"experiment\.rows\.deep_sink\.own is not a key here; known: label"),
    ("reproduce", "~experiment.source", r"experiment\.source is missing: it must be text"),
    ("rollout", "cache.retention.window_frames=99999999999", r"window_frames=99999999999 must be at most 100000"),
    ("rollout", "generator=rolling_forcing cache.retention.window_frames=99999999999", r"must be at most 100000"),
    ("rollout", "generator.chunk_frames=99999999999", r"chunk_frames=99999999999 must be at most 100000"),
    ("rollout", "generator=causvid generator.rollout_frames=3000000000", r"rollout_frames=3000000000 must be at most"),
    ("rollout", "cache=deep_forcing cache.retention.reuse_limit=10000000000", r"reuse_limit=\d+ must be at most"),
    ("rollout", "+model.pixel_scale=1000000", r"pixel_scale=1000000 must be at least 1 and at most 64"),
    ("rollout", "+model.train_frames=0", r"train_frames=0 must be at least 1"),
    ("rollout", "seconds=1e9", r"seconds=1000000000\.0 must be a positive number of at most 86400"),
    ("rollout", "seconds=true", r"seconds=true must be a positive number"),
    ("rollout", "seconds=[5]", r"seconds=\[5\] must be a positive number"),
    ("rollout", "threads=100000000", r"threads=100000000 must be a whole number of at least 1 and at most 1024"),
    ("rollout", "shard=0/10000000000000000000000", r"shard=.* must be i/n with 0 <= i < n and n below a million"),
    ("rollout", "seeds=[99999999999999999999]", r"must be a whole number from 0 to 2\*\*63 - 1"),
    ("rollout", "seeds=true", r"seed=True must be a whole number"),
    ("rollout", "runs_root=[a]", r"runs_root=\['a'\] must be one path: give a directory"),
    ("rollout", "runs_root=null", r"runs_root=null must be one path: give a directory"),
    ("rollout", "start_from=[a,b]", r"start_from=\['a', 'b'\] must be one path.*, or null"),
    ("rollout", "name=[a]", r"name=\['a'\] must be text, or null"),
    ("rollout", "label={a:1}", r"label=\{'a': 1\} must be text, or null"),
    ("rollout", "device=[cpu]", r"device=\['cpu'\] must be text"),
    ("rollout", "prompts=true", r"prompts=true must be a suite, a text file or a list of texts"),
    ("rollout", "-m seeds=range(0,100000000)", r"a sweep can have at most 10000 points"),
    ("rollout", "-m hydra/launcher=submitit_slum cache=sink,slot", r"hydra/launcher=submitit_slum is not installed"),
    ("bench", "model.config.dim=99999999", r"dim=99999999 must be at least 1 and at most 16384"),
    ("bench", "model.config.num_layers=1000000", r"num_layers=1000000 must be at least 1 and at most 1024"),
    ("bench", "model.config.text_len=0", r"text_len=0 must be at least 1"),
    ("bench", "model.geometry.height=1600000", r"height=1600000 must be at least 16 and at most 8192"),
    ("bench", "+model.geometry.temporal_stride=0", r"temporal_stride=0 must be at least 1 and at most 64"),
    ("bench", "+model.geometry.fps=0", r"fps=0 must be at least 1 and at most 240"),
    ("bench", "chunks=1000000000", r"chunks=1000000000 must be a whole number of at least 1 and at most 10000"),
    ("bench", "from_start=3000000000", r"from_start=3000000000 must be a whole number of at least 1 and at most 100000"),
    ("bench", "lengths=[60,1e9]", r"lengths=1000000000\.0 must be a positive number of at most 86400"),
    ("bench", "lengths=long", r"lengths=long must be a positive number"),
    ("demo", "jobs=100000", r"jobs=100000 must be a whole number of at least 1 and at most 1024"),
    ("demo", "out=[a.html]", r"out=\['a\.html'\] must be one path"),
    ("demo", "title=[a]", r"title=\['a'\] must be text"),
    ("evaluate", "runs=x window_seconds=1e9", r"window_seconds=1000000000\.0 must be a positive number .*at most 86400"),
    ("evaluate", "runs=x window_seconds=1e-9", r"window_seconds=1e-09 must be a positive number of at least 0\.01"),
    ("evaluate", "runs=true", r"runs=true must be a path or a list of paths"),
    ("evaluate", "videos=[a] out=b", r"videos=\['a'\] must be one path"),
    ("evaluate", "runs=x metrics=3", r"metrics=3: choose among"),
    ("evaluate", "runs=x extractors=dino", r"extractors=dino must be \{metric: extractor"),
    ("report", "runs=x common=maybe", r"common=maybe must be true or false"),
    ("report", "runs=x chief=[nosuch]", r"chief=nosuch is no metric; there are .*presence"),
    ("report", "runs=x chief=[presense]", r"chief=presense is no metric; did you mean presence\?"),
    ("report", "runs=x ends=true", r"ends=true must be a positive number"),
    ("report", "runs=x ends=1e12", r"ends=1000000000000\.0 must be a positive number of at most"),
    ("report", "runs=x max_rows=1e3", r"max_rows=1000\.0 must be a whole number"),
    ("report", "runs=x page_megabytes=0", r"page_megabytes=0 must be a positive number"),
    ("table", "runs=x common=1", r"common=1 must be true or false"),
    ("table", "runs=x ends=yes", r"ends=yes must be a positive number"),
    ("table", "folders={a:b}", r"folders=\{'a': 'b'\} must be a path or a list of paths"),
    ("track", "runs=x videos=true", r"videos=true must be a whole number of at least 0.* or a name or a list of names"),
    ("track", "runs=x timeout=0", r"timeout=0 must be a positive number"),
    ("track", "runs=x dir=[a]", r"dir=\['a'\] must be one path"),
    ("reproduce", "first=10000000000", r"first=10000000000 must be a whole number of at least 1"),
    ("reproduce", "beside=[1,null]", r"beside=\[1, None\] must be a name or a list of names"),
    ("reproduce", "out={a:1}", r"out=\{'a': 1\} must be one path"),
    ("bench", "eval height=100000", r"height=100000 must be a whole number of at least 1 and at most 8192"),
    ("bench", "eval moves=perhaps", r"moves=perhaps must be true or false"),
]  # fmt: skip


@pytest.mark.parametrize(("module", "words", "says"), WRONG, ids=[f"{m} {w}" for m, w, _ in WRONG])
def test_kinds_and_ranges(
    module: str, words: str, says: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    began = time.process_time()
    status, out, err = command(module, *words.split())
    assert time.process_time() - began < 10  # and no memory: see the sizes
    assert (status, out) == (2, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert re.search(says, err), err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", COMMANDS)
def test_every_key_of_a_config_has_a_kind_and_its_default_is_one(name: str) -> None:
    assert top_keys(name) == set(COMMANDS[name].model_fields)
    config = OmegaConf.load(CONF / f"{name}.yaml")
    given = {str(k): v for k, v in config.items() if k != "defaults"}
    groups = {key: {} for key in top_keys(name) - set(given)}
    check_keys(name, OmegaConf.create({**given, **groups}))
    assert {f"{p.stem}" for p in CONF.glob("*.yaml")} == set(COMMANDS)


def test_every_number_of_a_command_has_a_range() -> None:
    for model in COMMANDS.values():
        schema = model.model_json_schema()
        for key, field in schema["properties"].items():
            for kind in field.get("anyOf", [field]):
                kind = kind.get("items", kind)
                if kind.get("type") in ("integer", "number"):
                    assert {"maximum", "exclusiveMaximum"} & kind.keys(), (model.__name__, key)
                    assert {"minimum", "exclusiveMinimum"} & kind.keys(), (model.__name__, key)


def test_numbers_of_policies_and_rules() -> None:
    within(1, 2, a=1, b=2)
    for bad in (0.5, float("nan"), float("inf"), 10**30):
        with pytest.raises(ValueError, match=r"a=.* must be at least 1 and at most 2"):
            within(1, 2, a=bad)
    config = OmegaConf.create({"model": {"_target_": "deepforcing.tiny.model.TinySpec"}, "dtype": "float32"})
    config.cache = OmegaConf.load(CONF / "cache" / "deep_forcing.yaml")
    config.generator = OmegaConf.load(CONF / "generator" / "self_forcing.yaml")
    spec: GeneratorSpec = build_spec(config)
    check_numbers(spec.cache)
    config.cache.retention.scorer = {"_target_": "deepforcing.cache.scorers.Random", "seed": 10**12}
    with pytest.raises(ValueError, match="seed=1000000000000 must be at most 100000"):
        build_spec(config)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("model.checkpoint=ckpt/epoch=3.pt", "with = in it needs quotes.*: 'model.checkpoint=\"ckpt/epoch=3.pt\"'"),
        ("runs_root=runs (1)", r"with \( in it needs quotes.*: 'runs_root=\"runs \(1\)\"'"),
        ("runs_root=/tmp/é", "with é in it needs quotes"),
        ("runs_root=a'b=c", "needs quotes"),
        ("prompts=[a", "cannot be read; are brackets and quotes closed"),
        ("watch=[cache=sink]", r"a word with = in a list needs quotes, as in \['cache=sink'\]"),
    ],
)
def test_a_value_that_needs_quotes_says_how(words: str, says: str, command: Command) -> None:
    status, out, err = command("rollout", words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert re.search(says, err), err


def test_what_is_said_of_quotes_works(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The advice, as a shell would pass it on, leads to the file."""
    monkeypatch.chdir(tmp_path)
    for value in ("ckpt/epoch=3.pt", "a (b)/é;#.pt", 'x="y".pt', "it's=.pt"):
        _, _, err = command("rollout", f"model.checkpoint={value}", "runs_root=runs")
        advice = err.rstrip("\n").rpartition(": ")[2]
        shell = subprocess.run(["sh", "-c", f"printf %s {advice}"], capture_output=True, text=True, check=True).stdout
        _, _, err = command("rollout", shell, "runs_root=runs")
        assert value in err
        assert "quotes" not in err


def test_home_in_every_path(
    command: Command, checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "home [x] é"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.chdir(tmp_path)
    (home / "weights.safetensors").write_bytes(checkpoint.read_bytes())
    (home / "list.txt").write_text(RED)
    for quote in ("", '"'):
        words = [f"{key}={quote}~/{value}{quote}" for key, value in
                 (("runs_root", "runs"), ("model.checkpoint", "weights.safetensors"), ("prompts", "list.txt"))]  # fmt: skip
        status, _, err = command("rollout", *words, "seconds=1")
        assert (status, err) == (0, "")
    (run,) = (home / "runs").iterdir()
    assert len(list(run.glob("samples/*.mp4"))) == 1
    status, out, err = command("evaluate", "runs=[~/runs/*]", "metrics=[sharpness]", "window_seconds=0.5")
    assert (status, err) == (0, "")
    assert "1 videos scored" in out
    status, out, err = command("table", "runs=~/runs/*", "metrics=[sharpness]", "window_seconds=0.5", "out=~/t.md")
    assert (status, err) == (0, "")
    assert (home / "t.md").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [home.name]


def test_brackets_are_printed_as_they_are(make: Command, command: Command, tmp_path: Path) -> None:
    """Names of folders and labels are data, not markup and no emoji codes."""
    root = tmp_path / "[red]a[/b] :bomb:"
    status, out, err = make(f'runs_root="{root}"', "name=sink", "label='[bold]x'")
    assert (status, err) == (0, "")
    assert f"{root}/sink-" in out
    status, out, err = command("evaluate", f'runs="{root}/*"', "metrics=[sharpness]", "window_seconds=0.5")
    assert (status, err) == (0, "")
    status, out, err = command("report", f'runs="{root}/*"', f'out="{root}/page.html"', "window_seconds=0.5")
    assert (status, err) == (0, "")
    assert str(root / "page.html") in out
    assert "[bold]x" in out


def test_nothing_else_makes_consoles_or_bars() -> None:
    """One place decides how data is printed."""
    for file in (ROOT / "experiments").rglob("*.py"):
        if file != ROOT / "experiments" / "command" / "terminal.py":
            assert not re.search(r"\bConsole\(|\bProgress\(", file.read_text()), file


def test_console_prints_data(capsys: pytest.CaptureFixture[str]) -> None:
    console().print("[red]x[/] :bomb: [/nosuch]" + "y" * 300)
    assert capsys.readouterr().out == "[red]x[/] :bomb: [/nosuch]" + "y" * 300 + "\n"


RUN = [
    "rollout", "evaluate", "report", "table", "track", "demo", "reproduce", "bench", "head_classes", "weights", "replay"
]  # fmt: skip
ASCII = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}


def plain_terminal(code: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable], input=code.encode(), capture_output=True, cwd=ROOT, check=False,
        env={"PATH": "", "PYTHONPATH": str(ROOT), **ASCII},
    )  # fmt: skip


def test_terminals_that_know_only_ascii() -> None:
    code = (
        "# -*- coding: utf-8 -*-\nfrom experiments.command.terminal import *\n"
        "take_every_character()\n"
        "print('first → last “x” 0.5–1 é 漢', chr(0xdce9)); say('→'); console().print('↑ [b]', style='bold')\n"
        "from rich.table import Table; t = Table('a → b'); t.add_row('−1'); console().print(t, soft_wrap=False)\n"
        "with bar(console(), 'chunks → x') as b: b.advance(b.add_task('é', total=1))"
    )
    done = plain_terminal(code)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b'first -> last "x" 0.5-1 \\xe9 \\u6f22 \\udce9\n^ [b]\n')
    assert b"a -> b" in done.stdout
    assert done.stderr == b"error: ->\n"


@pytest.mark.parametrize("module", RUN)
def test_help_is_quick_and_needs_no_torch_and_no_utf8(module: str) -> None:
    code = (
        f"import sys, time, experiments.{module} as m; sys.argv[1:] = ['--help']; getattr(m, 'run', m.main)()\n"
        "print({'torch', 'hydra', 'pandas', 'pydantic'} & set(sys.modules), time.process_time() < 0.5)"
    )
    done = plain_terminal(code)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.splitlines()[-1] == b"set() True"


def test_help_whose_reader_leaves() -> None:
    for tail in ("true", "head -c 1"):
        done = subprocess.run(
            ["bash", "-c", f"set -o pipefail; {sys.executable} -m experiments.rollout --help | {tail}"],
            capture_output=True, cwd=ROOT, check=False, env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **ASCII},
        )  # fmt: skip
        assert (done.returncode, done.stderr) == (0, b"")


def test_output_that_a_full_disk_does_not_take() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "experiments.rollout", "--help"], stdout=full, stderr=subprocess.PIPE, cwd=ROOT,
            check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (2, b"error: the output cannot be written: the disk is full\n")


def test_values_of_specs_are_checked_before_any_file(tmp_path: Path) -> None:
    assert TinySpec(checkpoint="~/x").path.is_absolute()
