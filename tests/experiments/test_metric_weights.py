"""experiments.weights metrics: lists, fetches (whole, resumed, out of a zip, a source tree) and verifies, only when asked."""

from __future__ import annotations

import hashlib
import http.server
import io
import sys
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import experiments.downloads.metrics
from eval.networks.weights import FILES, File, directory_sha256
from experiments.weights import main

Call = Callable[..., tuple[object, str, str]]
CONTENT = bytes(range(256)) * 500


@pytest.fixture
def call(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Call:
    monkeypatch.setenv("VBENCH_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    monkeypatch.setenv("HOME", str(tmp_path))

    def run(*arguments: str) -> tuple[object, str, str]:
        monkeypatch.setattr(sys, "argv", ["weights", "metrics", *arguments])
        status: object = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, bytes], list[str | None]]]:
    """A web server: its address, what it serves by path, and the Range of every request."""
    served: dict[str, bytes] = {}
    asked: list[str | None] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.headers.get("Range"))
            body = served.get(self.path)
            if body is None:
                self.send_error(404)
                return
            start = int(asked[-1].removeprefix("bytes=").removesuffix("-")) if asked[-1] else 0
            if start >= len(body) > 0:
                self.send_error(416)
                return
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(body) - start))
            self.end_headers()
            self.wfile.write(body[start:])

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}", served, asked
        running.shutdown()


@pytest.fixture
def files(monkeypatch: pytest.MonkeyPatch, server: tuple[str, dict[str, bytes], list[str | None]]) -> dict[str, File]:
    address, served, _ = server
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as held:
        held.writestr("models/flow.pth", CONTENT)
    served |= {"/plain.pt": CONTENT, "/models.zip": archive.getvalue(), "/tree/a.py": b"a", "/tree/b.py": b"b"}
    files = {
        "plain": File(
            ("{cache}/x/plain.pt",), "plain", 1, f"{address}/plain.pt", hashlib.sha256(CONTENT).hexdigest()[:8]
        ),
        "zipped": File(("{cache}/y/flow.pth",), "zipped", 1, f"{address}/models.zip", member="models/flow.pth"),
        "tree": File(("{cache}/tree",), "tree", None, f"{address}/tree", members=("a.py", "b.py")),
    }
    monkeypatch.setattr(experiments.downloads.metrics, "FILES", files)
    monkeypatch.setattr("eval.networks.weights.FILES", files)
    return files


def test_the_list_says_what_to_copy_where_and_fetches_nothing(call: Call, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: pytest.fail("nobody asked for a download"))
    status, out, err = call()
    assert (status, err) == (1, "")
    absent = [file for file in FILES.values() if file.find() is None]
    assert len(absent) >= len(FILES) - 1  # ViCLIP's vocabulary comes with the clip package
    for file in absent:
        assert file.source in out
        assert str(file.paths()[0]) in out
        assert file.by_hand or f"    to {file.paths()[0]}" in out
    assert out.count("missing  ") == len(absent)


def test_download_puts_everything_in_its_place(call: Call, files: dict[str, File]) -> None:
    status, out, err = call("download=true")
    assert (status, err) == (0, "")
    assert out.count("here     ") == 3
    assert files["plain"].paths()[0].read_bytes() == files["zipped"].paths()[0].read_bytes() == CONTENT
    assert sorted(path.name for path in files["tree"].paths()[0].iterdir()) == ["a.py", "b.py"]
    left = [path.name for path in files["plain"].paths()[0].parent.parent.rglob("*") if "partial" in path.name]
    assert left == []
    assert hashlib.sha256(CONTENT).hexdigest() in call("verify=true")[1]
    files["zipped"].paths()[0].write_bytes(b"other")
    status, _, err = call("verify=true")
    assert status == 2
    assert "has changed" in err


def test_an_archive_that_unpacks_to_far_more_is_refused(
    call: Call, files: dict[str, File], server: tuple[str, dict[str, bytes], list[str | None]]
) -> None:
    bomb = io.BytesIO()
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as held:
        held.writestr("models/flow.pth", bytes(11_000_000))
    server[1]["/models.zip"] = bomb.getvalue()
    status, _, err = call("download=true")
    assert (status, err.count("\n")) == (2, 1)
    assert "it unpacks to 11 MB" in err
    assert [path.name for path in files["zipped"].paths()[0].parent.iterdir()] == []


def test_what_vbench_wants_in_several_places_is_linked(call: Call, files: dict[str, File]) -> None:
    plain = files["plain"]
    files["plain"] = replace(plain, places=(*plain.places, "{torch}/again/plain.pt"), everywhere=True)
    assert call("download=true")[0] == 0
    first, second = files["plain"].paths()
    assert second.is_symlink()
    assert second.read_bytes() == first.read_bytes() == CONTENT
    second.unlink()
    second.symlink_to(first.with_name("moved.pt"))  # a link to nothing
    assert call("download=true")[0] == 0
    assert second.read_bytes() == CONTENT


def test_a_broken_off_download_goes_on(
    call: Call, files: dict[str, File], server: tuple[str, dict[str, bytes], list[str | None]]
) -> None:
    target = files["plain"].paths()[0]
    target.parent.mkdir(parents=True)
    target.with_name("plain.pt.partial").write_bytes(CONTENT[:1000])
    assert call("download=true")[0] == 0
    assert server[2][0] == "bytes=1000-"
    assert target.read_bytes() == CONTENT


def test_what_is_not_the_published_file_is_not_kept(
    call: Call, files: dict[str, File], server: tuple[str, dict[str, bytes], list[str | None]]
) -> None:
    server[1]["/plain.pt"] = b"a page that says not found"
    status, _, err = call("download=true")
    assert status == 2
    assert "is not the published plain" in err
    assert err.count("\n") == 1
    assert not files["plain"].paths()[0].exists()


@pytest.mark.parametrize("path", ["/plain.pt", "/models.zip", "/tree/b.py"])
def test_what_cannot_be_fetched_is_said_with_where_to_copy_it(
    call: Call, files: dict[str, File], server: tuple[str, dict[str, bytes], list[str | None]], path: str
) -> None:
    del server[1][path]
    status, _, err = call("download=true")
    assert status == 2
    assert "cannot be fetched" in err
    assert "copy" in err
    assert err.count("\n") == 1
    assert call()[0] == 1


def test_a_download_that_ended_before_it_got_its_name_is_fetched_again(
    call: Call, files: dict[str, File], server: tuple[str, dict[str, bytes], list[str | None]]
) -> None:
    target = files["plain"].paths()[0]
    target.parent.mkdir(parents=True)
    target.with_name("plain.pt.partial").write_bytes(CONTENT)
    assert call("download=true")[0] == 0
    assert server[2][:2] == [f"bytes={len(CONTENT)}-", None]
    assert target.read_bytes() == CONTENT


def test_a_directory_is_known_by_everything_in_it(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("1")
    (tmp_path / "weights.pt").write_bytes(b"1")
    first = directory_sha256(tmp_path)
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_bytes(b"compiled")
    assert directory_sha256(tmp_path) == first
    (tmp_path / "weights.pt").write_bytes(b"22")
    assert directory_sha256(tmp_path) != first
