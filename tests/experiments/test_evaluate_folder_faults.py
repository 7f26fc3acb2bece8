"""Scoring a folder of foreign videos where something is wrong: told in a line, and nothing is lost."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pytest
from commands import Command

from eval.networks import weights
from experiments.evaluate import weights_sha256
from experiments.results.scores import weights_of as folder_weights

sys.path.append(str(Path(__file__).parents[1] / "eval"))
import vbench_files as files
from foreign_videos import moving, two_videos, write

METRICS = "metrics=[temporal_flickering,imaging_quality,saturation]"


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("VBENCH_CACHE_DIR", "TORCH_HOME", "HOME"):
        monkeypatch.setenv(name, str(tmp_path / "nothing"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return two_videos(tmp_path)


def test_bad_videos_are_named_and_cost_no_other_one(folder: Path, command: Command, tmp_path: Path) -> None:
    data = (folder / "d.mp4").read_bytes()
    (folder / "corrupt.mp4").write_bytes(data[: len(data) // 2])
    (folder / "empty.mp4").write_bytes(b"")
    (folder / "text.mp4").write_text("no video")
    write(folder / "one_frame.mp4", moving(1))
    write(folder / "too_fast.mp4", moving(40), fps=1000)
    with av.open(str(folder / "odd_size.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = 63, 47, "yuv444p"
        for image in moving(20, 47, 63):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode(None))
    with av.open(str(folder / "no_frames.mp4"), "w") as container:
        container.add_stream("aac", rate=48000)
        container.start_encoding()
    turned = bytearray(data)
    matrix = turned.index(b"tkhd") + 44  # in 16.16 and 2.30 bits: x = -y + 48, y = x
    turned[matrix : matrix + 36] = struct.pack(">9i", 0, 1 << 16, 0, -1 << 16, 0, 0, 48 << 16, 0, 1 << 30)
    (folder / "turned.mp4").write_bytes(turned)
    with av.open(str(folder / "d.mp4")) as source, av.open(str(folder / "cut.mp4"), "w") as container:
        copy = container.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(source.streams.video[0]):
            if packet.dts is not None:
                early = round(0.5 / packet.time_base)  # the first half second is before the beginning
                packet.pts, packet.dts, packet.stream = packet.pts - early, packet.dts - early, copy
                container.mux(packet)
    bad = ("corrupt", "empty", "text", "one_frame", "too_fast", "odd_size", "no_frames", "turned", "cut")
    for protocol in ("vbench", "vbench_long"):
        status, _, err = command(
            "evaluate",
            f"videos={folder}",
            f"out={tmp_path / 'out'}",
            "metrics=temporal_flickering",
            f"protocol={protocol}",
        )
        assert status == 1
        lines = err.splitlines()
        assert len(lines) == len(bad)
        assert "stored turned by 270 degrees" in err
        assert "its edit list hides 8 of its 40 frames" in err
        for name in bad:
            assert sum(f"{name}.mp4" in line for line in lines) == 1, err
        table = pd.read_parquet(tmp_path / "out" / "scores.parquet")
        assert set(table["sample"]) == {"a_b c-0", "d"}
        problems = json.loads((tmp_path / "out" / "summary.json").read_text())["about"]["problems"]
        assert len(problems) == len(bad)


def test_half_a_surrogate_pair_costs_its_video_alone(folder: Path, command: Command, tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text('{"a_b c-0": "a cat \\ud83d", "d": "a dog"}')
    call = ["evaluate", f"videos={folder}", f"prompts={tmp_path / 'p.json'}", f"out={tmp_path / 'out'}"]
    for _ in range(2):
        status, _, err = command(*call, "metrics=temporal_flickering", "protocol=vbench")
        assert status == 1
        assert err == ("error: a_b c-0.mp4: the prompt has half a surrogate pair, U+D83D at character 7\n")
        assert pd.read_parquet(tmp_path / "out" / "scores.parquet")["sample"].tolist() == ["d"]


@pytest.mark.parametrize("name", ["videos.csv", "scores.parquet", "summary.json", "scores"])
def test_results_that_cannot_be_written_are_told_before_the_work(
    folder: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "out").mkdir()
    if name == "scores":
        (tmp_path / "out" / name).write_text("a file")
    else:
        (tmp_path / "out" / name).mkdir()
    monkeypatch.setattr("eval.score.OnePass", None)
    status, _, err = command("evaluate", f"videos={folder}", f"out={tmp_path / 'out'}", "metrics=temporal_flickering")
    assert status == 2
    assert err.count("\n") == 1
    assert str(tmp_path / "out" / name) in err
    assert "out=" in err


def test_a_path_that_is_not_utf8_is_no_matter(folder: Path, command: Command, tmp_path: Path) -> None:
    above = tmp_path / os.fsdecode(b"caf\xe9")
    above.mkdir()
    odd = folder.rename(above / "videos")
    (odd / "e.mp4").write_bytes(b"no video")
    status, _, err = command("evaluate", f"videos='{odd}'", f"out={tmp_path / 'out'}", "metrics=temporal_flickering")
    assert status == 1
    assert err.count("\n") == 1
    (told,) = json.loads((tmp_path / "out" / "summary.json").read_text())["about"]["problems"]
    assert "udce9" in told
    assert set(pd.read_parquet(tmp_path / "out" / "scores.parquet")["sample"]) == {"a_b c-0", "d"}


KILLED = """
import os, signal, sys
import eval.store
replace, count = os.replace, 0
def dying(source, target):
    global count
    count += "temporal_flickering" in str(target)
    if count == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = dying
sys.argv = ["evaluate", *sys.argv[1:]]
from experiments.evaluate import main
main()
"""


def test_kill_loses_the_video_in_hand_only(folder: Path, command: Command, tmp_path: Path) -> None:
    call = [f"videos={folder}", f"out={tmp_path / 'out'}", "metrics=temporal_flickering", "protocol=vbench_long"]
    root = Path(__file__).parents[2]
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, *call],
        env=os.environ | {"PYTHONPATH": str(root)},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert "1 of them now" in command("evaluate", *call).out
    assert set(pd.read_parquet(tmp_path / "out" / "scores.parquet")["sample"]) == {"a_b c-0", "d"}


def test_earlier_scores_stay_when_weights_go(folder: Path, command: Command, tmp_path: Path) -> None:
    cache = tmp_path / "nothing"
    files.write_clip(cache, "clip_b32")
    call = [
        "evaluate",
        f"videos={folder}",
        f"out={tmp_path / 'out'}",
        "metrics=background_consistency",
        "protocol=vbench",
    ]
    assert command(*call).status == 0
    first = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert first["value"].notna().all()
    sha256 = weights.fingerprint(["clip_b32"])
    tables = folder_weights(tmp_path / "out" / "summary.json")  # as tables read them
    assert tables == {("background_consistency", "vbench"): sha256}
    shutil.rmtree(cache / "clip_model")
    write(folder / "e.mp4", moving(20, seed=2))
    assert "background_consistency: absent" in command(*call).out
    table = pd.read_parquet(tmp_path / "out" / "scores.parquet").set_index("sample")["value"]
    assert table.index.tolist() == ["a_b c-0", "d", "e"]  # one row each
    assert table.iloc[:2].tolist() == first["value"].tolist()
    assert np.isnan(table["e"])


def test_broken_videos_are_named_also_where_nothing_can_be_scored(
    folder: Path, command: Command, tmp_path: Path
) -> None:
    (folder / "e.mp4").write_bytes(b"no video")
    call = [f"videos={folder}", f"out={tmp_path / 'out'}", "metrics=dynamic_degree", "protocol=vbench"]
    status, out, err = command("evaluate", *call)
    assert status == 1
    assert "dynamic_degree: absent" in out
    assert err.count("\n") == 1
    assert "sample e: " in err
    table = pd.read_parquet(tmp_path / "out" / "scores.parquet")
    assert sorted(table["sample"]) == ["a_b c-0", "d"]  # absent is a row without a value, a broken file has none
    assert table["value"].isna().all()
    assert table["t_end"].notna().all()


def test_weights_of_several_kinds_are_all_told() -> None:
    rows = [
        ("m", "windows", "aa"),
        ("m", "windows", "bb"),
        ("m", "vbench", "aa"),
        ("n", "windows", ""),
        ("o", "windows", None),
    ]
    table = pd.DataFrame(rows, columns=["metric", "protocol", "weights_sha256"]).assign(value=0.5)
    missing = pd.DataFrame([("m", "windows", "cc")], columns=["metric", "protocol", "weights_sha256"]).assign(
        value=np.nan
    )
    told = weights_sha256(pd.concat([table, missing]))
    assert told == {"windows": {"m": "aa+bb"}, "vbench": {"m": "aa"}}


def test_a_full_disk_is_one_line_and_loses_nothing(
    folder: Path, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    call = ["evaluate", f"videos={folder}", f"out={tmp_path / 'out'}", "metrics=temporal_flickering", "protocol=vbench"]
    assert command(*call, "shard=0/2").status == 0

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        status, _, err = command(*call)
    assert status == 2
    assert err.count("\n") == 1
    assert ".parquet: No space left on device" in err
    assert not list((tmp_path / "out" / "scores").glob(".*.part"))
    assert "2 videos scored, 1 of them now" in command(*call).out
