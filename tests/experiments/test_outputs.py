"""Results that cannot be written are told before the work, with the key that names another place; full disks name the file."""

from __future__ import annotations

import errno
import os
import resource
from pathlib import Path
from types import SimpleNamespace

import pytest
from commands import RED, Command

from deepforcing.runs import RunDir
from experiments.command.outputs import check_output
from experiments.figures.figure import FORMATS, save


@pytest.fixture
def run(make: Command, command: Command, tmp_path: Path) -> Path:
    """A scored run."""
    assert make().status == 0
    (path,) = (tmp_path / "runs").iterdir()
    assert command("evaluate", f"runs={path}", "metrics=[sharpness]", "window_seconds=0.5").status == 0
    return path


WRITERS = [
    ("report", "runs={run} window_seconds=0.5 out={out}", "page.html"),
    ("table", "runs={run} metrics=[sharpness] window_seconds=0.5 out={out}", "table.md"),
    ("table", "runs={run} metrics=[sharpness] window_seconds=0.5 out={out}", "table.parquet"),
    ("figure", "figure=filmstrip runs={run} figure.metrics=[sharpness] figure.frames=2 out={out}", "strip.png"),
    ("figure", "figure=drift runs={run} out={out}", "drift.pdf"),
]


@pytest.mark.parametrize(("module", "words", "name"), WRITERS, ids=[f"{m} {n}" for m, _, n in WRITERS])
def test_a_place_that_cannot_be_written(
    module: str, words: str, name: str, run: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / name).mkdir()
    for out, says in ((f"file/{name}", "cannot write there"), (name, f"out={tmp_path / name} is a folder")):
        status, _, err = command(module, *words.format(run=run, out=tmp_path / out).split())
        assert (status, err.count("\n")) == (2, 1)
        assert says in err
        assert "out=" in err
    with monkeypatch.context() as patch:
        patch.setattr("deepforcing.runs.shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        status, _, err = command(module, *words.format(run=run, out=tmp_path / "new" / name).split())
        assert (status, err.count("\n")) == (2, 1)
        assert (
            f"{tmp_path / 'new'}: only 0 MB free, at least 1 MB are needed; choose another directory with out=" in err
        )
    whole, replace = tmp_path / "full" / name, os.replace

    def full(source: str, target: str) -> None:  # the disk runs full while the file is written
        if str(target) == str(whole):
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", full)
    status, _, err = command(module, *words.format(run=run, out=whole).split())
    assert (status, err.count("\n")) == (2, 1)
    assert f"{whole}: cannot write the file: No space left on device" in err
    assert not list(whole.parent.iterdir())


@pytest.mark.parametrize("ending", FORMATS)
def test_a_figure_that_does_not_fit_is_named(tmp_path: Path, ending: str) -> None:
    """A limit on the file's size takes the path that a full disk takes; matplotlib's pdf writer fails once more over it."""
    from matplotlib.figure import Figure

    canvas, out = Figure(), tmp_path / f"figure{ending}"
    canvas.subplots()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(OSError, match=f"cannot write the file: File too large: .*figure{ending}"):
            save(canvas, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not list(tmp_path.iterdir())


LONG_WORK = [
    ("demo", "out={out}", "demo.html"),
    ("reproduce", "experiment=table4 out={out}", "table4.md"),
    ("bench", "eval out={out}", "bench"),
]


@pytest.mark.parametrize(("module", "words", "name"), LONG_WORK, ids=[m for m, _, _ in LONG_WORK])
def test_outputs_are_looked_at_before_long_work(
    module: str, words: str, name: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(RunDir, "create", None)
    (tmp_path / "file").touch()
    status, _, err = command(module, *words.format(out=tmp_path / "file" / name).split())
    assert (status, err.count("\n")) == (2, 1)
    assert str(tmp_path / "file") in err
    assert "cannot write there" in err
    assert "out=..." in err
    assert "runs_root" not in err


def test_check_output_leaves_nothing_behind(tmp_path: Path) -> None:
    assert check_output(tmp_path / "a" / "b.md") == tmp_path / "a" / "b.md"
    assert [path.name for path in tmp_path.rglob("*")] == ["a"]


@pytest.mark.slow
def test_report_and_table_on_a_terminal_that_knows_only_ascii(run: Path, tmp_path: Path) -> None:
    import subprocess
    import sys

    ascii = {"LANG": "C", "LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}
    code = (
        "import sys\nfrom importlib import import_module\n"
        "for words in sys.stdin.read().splitlines():\n"
        "    sys.argv = words.split()\n"
        "    import_module('experiments.' + sys.argv[0]).main()"
    )
    words = (
        f"report runs={run} window_seconds=0.5 out={tmp_path}/page.html",
        f"table runs={run} metrics=[sharpness] window_seconds=0.5 protocol=windows",
    )
    done = subprocess.run(
        [sys.executable, "-c", code], input="\n".join(words).encode(), capture_output=True, check=False,
        env={**os.environ, **ascii, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    assert b"->" in done.stdout
    assert done.stdout.isascii()
    assert RED in (tmp_path / "page.html").read_text(encoding="utf-8")
