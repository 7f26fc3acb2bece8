"""Whatever writes a report may be killed at any moment: what was there before stays whole, and readable."""

from __future__ import annotations

import ast
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import Command
from scored_runs import scored_run

ROOT = Path(__file__).parents[2]
VALUES = {"saturation": lambda i, s, t: 0.5 + 0.01 * i + 0.01 * t}
WRITERS = [
    pytest.param("report", "page.html", ("page.html", "page.csv", "page.md"), marks=pytest.mark.slow),
    ("table", "table.md", ("table.md",)),
    pytest.param("figure", "drift.png", ("drift.png",), marks=pytest.mark.slow),
    pytest.param("leaderboard", "board.html", ("board.html", "board.csv", "board.md"), marks=pytest.mark.slow),
]
WORDS = {"table": ["metrics=[saturation]"], "figure": ["figure=drift"], "leaderboard": ["columns=[saturation]"]}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    root = tmp_path_factory.mktemp("killed")
    return [scored_run(root, name, VALUES) for name in ("self_forcing", "deep_sink")]


@pytest.mark.parametrize(("module", "name", "files"), WRITERS)
def test_a_killed_writer_leaves_every_file_as_it_was_or_whole(
    module: str, name: str, files: tuple[str, ...], runs: list[Path], command: Command, tmp_path: Path
) -> None:
    """SIGKILL when the content of one file has been written and has not its name yet: of the first file, of the second ..."""
    before, after, out = tmp_path / "before", tmp_path / "after", tmp_path / "out"
    words = WORDS.get(module, [])
    for folder, of in ((before, runs[:1]), (after, runs), (out, runs[:1])):
        folder.mkdir()
        given = f"runs=[{','.join(map(str, of))}]"
        assert command(module, given, f"out={folder / name}", *words).status == 0
    for moment in range(len(files)):
        child = os.fork()
        if not child:
            kill_at(moment)
            command(module, f"runs=[{','.join(map(str, runs))}]", f"out={out / name}", *words)
            os._exit(0)  # was not killed
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status)
        assert os.WTERMSIG(status) == signal.SIGKILL
        for file in files:
            old, new = ((folder / file).read_bytes().replace(bytes(folder), bytes(out)) for folder in (before, after))
            assert (out / file).read_bytes() in (old, new)
            assert old != new
        assert len(list(out.glob("*.partial-*"))) == moment + 1  # beside the files, and called as no finished file is
        assert len(list(out.iterdir())) == len(files) + moment + 1


def kill_at(moment: int) -> None:
    """This process dies at its so-many-th fsync of a file."""
    left, sync = [moment], os.fsync

    def fsync(file: int) -> None:
        if not Path(f"/proc/self/fd/{file}").is_dir() and left[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left[0] -= not Path(f"/proc/self/fd/{file}").is_dir()
        sync(file)

    os.fsync = fsync


# Writers of files that are no report: partial downloads that are gone on with, a status in a private folder, exported folders
# that are made beside and renamed.
OTHERS = {
    "experiments/downloads/fetch.py", "experiments/downloads/metrics.py", "experiments/results/export.py",
    "experiments/command/sweep.py",
}  # fmt: skip


def plain_writes(source: str) -> Iterator[int]:
    """Lines that write a file by name outside of a `with atomic_path(...)`."""

    def visit(node: ast.AST, safe: bool) -> Iterator[int]:
        if isinstance(node, ast.With):
            calls = [item.context_expr for item in node.items if isinstance(item.context_expr, ast.Call)]
            safe = safe or any(getattr(call.func, "id", "") == "atomic_path" for call in calls)
        if isinstance(node, ast.Call) and not safe:
            called = ast.unparse(node.func).removeprefix("av.open").rpartition(".")[2]  # which opens a buffer
            texts = [a.value for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
            if called in ("write_text", "write_bytes", "to_parquet", "copyfile") or (
                called == "open" and {"w", "wb", "a", "ab"} & set(texts)
            ):
                yield node.lineno
        for child in ast.iter_child_nodes(node):
            yield from visit(child, safe)

    yield from visit(ast.parse(source), False)


def test_no_report_is_written_in_place() -> None:
    files = sorted((ROOT / "experiments").rglob("*.py"))
    found = {str(file.relative_to(ROOT)): list(plain_writes(file.read_text())) for file in files}
    assert not {file: lines for file, lines in found.items() if lines and file not in OTHERS}
    assert list(plain_writes("Path('x').write_text('y')\nwith atomic_path(p) as q:\n    q.write_bytes(b'')")) == [1]
