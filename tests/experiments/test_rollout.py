"""Rolling out to run directories: what survives kill -9, and what a sample does not depend on."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import BLUE, RED, Command
from safetensors.torch import load_file, save_file

from deepforcing import video
from deepforcing.cache.policy import CachePolicy
from deepforcing.cache.retention import SinkWindow
from deepforcing.generator import Generator, GeneratorSpec
from deepforcing.prompts import Prompt
from deepforcing.runs import RunDir
from deepforcing.tiny.model import TinySpec
from experiments.results.runs import find_runs, read_runs

TWO = f"prompts=['{RED}','{BLUE}']"

# Run in a process of its own: forks one child per moment, each of which is killed in its second video.
KILLER = """
import os, signal, sys
import hydra
from experiments import cli, rollout
from deepforcing import latents, video

def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)

def nth(owner, name, n, after=False, matches=lambda *a: True):
    '''Die at the n-th call of owner.name that matches, before or after it has done its work.'''
    real, calls = getattr(owner, name), [0]
    def counted(*args, **kwargs):
        mine = matches(*args)
        calls[0] += mine
        if mine and calls[0] == n and not after:
            die()
        result = real(*args, **kwargs)
        if mine and calls[0] == n:
            die()
        return result
    setattr(owner, name, counted)

def to(*endings):
    return lambda source, target: str(target).endswith(endings)

MOMENTS = {
    "run_json": lambda: nth(os, "replace", 1, matches=to("run.json")),
    "before_first_chunk": lambda: nth(video.VideoWriter, "write", 3),
    "between_chunks": lambda: nth(video.VideoWriter, "write", 3, after=True),
    "after_last_chunk": lambda: nth(video.VideoWriter, "write", 4, after=True),
    "finalising": lambda: nth(video._File, "finish", 2),
    "in_latents": lambda: nth(latents.LatentsWriter, "write", 4),
    "before_latents": lambda: nth(os, "replace", 2, matches=to(".safetensors")),
    "after_latents": lambda: nth(os, "replace", 2, after=True, matches=to(".safetensors")),
    "before_rename": lambda: nth(os, "replace", 2, matches=to(".mp4")),
    "after_rename": lambda: nth(os, "replace", 2, after=True, matches=to(".mp4")),
    "before_json": lambda: nth(os, "replace", 2, matches=lambda s, t: str(t).endswith("-s0.json")),
    "after_json": lambda: nth(os, "replace", 2, after=True, matches=lambda s, t: str(t).endswith("-s0.json")),
}
root, *arguments = sys.argv[1:]
with hydra.initialize_config_dir(str(cli.CONF), version_base="1.3"):
    config = hydra.compose("rollout", arguments)
for moment, prepare in MOMENTS.items():
    child = os.fork()
    if child == 0:
        config.runs_root = f"{root}/{moment}"
        prepare()
        rollout.main_task(config)
        os._exit(0)
    print(moment, os.waitpid(child, 0)[1])
"""


def contents(root: Path, suffix: str = ".mp4") -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in root.glob(f"*/samples/*{suffix}")}


def times(root: Path) -> dict[Path, int]:
    return {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def only_run(root: Path) -> RunDir:
    (path,) = root.iterdir()
    return RunDir.open(path)


def test_killed_at_any_moment_then_the_same_command(make: Command, checkpoint: Path, tmp_path: Path) -> None:
    arguments = [TWO, "seconds=1", f"model.checkpoint={checkpoint}", "latents=keep"]
    killed = subprocess.run(
        [sys.executable, "-c", KILLER, str(tmp_path / "killed"), *arguments],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": ".", "OMP_NUM_THREADS": "1"},
    )
    moments = dict(line.split() for line in killed.stdout.splitlines() if line.count(" ") == 1 and line[-1].isdigit())
    assert len(moments) == 12
    assert set(moments.values()) == {"9"}, killed.stdout + killed.stderr
    assert make(*arguments).status == 0
    whole = {**contents(tmp_path / "runs"), **contents(tmp_path / "runs", ".safetensors")}
    assert len(whole) == 4

    for moment in moments:
        root = tmp_path / "killed" / moment
        (path,) = root.iterdir()
        finished = set() if moment == "run_json" else RunDir.open(path).completed()
        assert len(finished) == {"run_json": 0, "after_json": 2}.get(moment, 1), moment
        before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in path.glob("samples/*") if p.stem in finished}
        assert len(before) == 3 * len(finished)
        status, _, err = make(*arguments, f"runs_root={root}")
        assert (status, err) == (0, ""), moment
        assert {**contents(root), **contents(root, ".safetensors")} == whole, moment
        assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in before} == before, moment
        left = ("run.json.partial-", ".")  # an unfinished run.json and a lock: harmless, and seen by nobody
        names = {p.name for p in path.rglob("*") if p.is_file() and not p.name.startswith(left)}
        assert names == {"run.json"} | {*whole, *(f"{Path(n).stem}.json" for n in whole)}, moment


def test_the_same_command_again_does_nothing(make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert make(TWO).status == 0
    before = times(tmp_path / "runs")
    with monkeypatch.context() as patch:
        patch.setattr(GeneratorSpec, "build", None)  # no weights either
        status, out, err = make(TWO)
    assert (status, err) == (0, "")
    assert "2 already there" in out
    assert times(tmp_path / "runs") == before


def test_a_damaged_sample_is_made_anew(make: Command, tmp_path: Path) -> None:
    make(TWO)
    whole = contents(tmp_path / "runs")
    first, second = sorted((tmp_path / "runs").glob("*/samples/*.mp4"))
    first.write_bytes(b"half")
    kept = second.stat().st_mtime_ns
    assert make(TWO).status == 0
    assert contents(tmp_path / "runs") == whole
    assert second.stat().st_mtime_ns == kept


def test_record_of_a_run(make: Command, checkpoint: Path, tmp_path: Path) -> None:
    make("label=mine", "seeds=[0,5]", "cache=sink")
    run = only_run(tmp_path / "runs")
    record = run.record()
    assert run.name.startswith("sink-")
    assert (record["label"], record["world"], record["pixel_scale"]) == ("mine", "tiny", 8)
    assert record["checkpoint"]["sha256"] == video.sha256_file(checkpoint) == record["identity"]["model"]["checkpoint"]
    assert record["command"].startswith("python -m experiments.rollout ")
    assert record["spec"]["cache"]["retention"]["sink_frames"] == 10
    assert record["spec"]["train_seconds"] == pytest.approx(5.0625)
    samples = run.samples()
    assert [s["seed"] for s in samples] == [0, 5]
    prompt = Prompt(RED)
    for sample in samples:
        info = video.probe(run.video_path(sample["sample"]))
        assert (info.frames, info.fps, info.width, info.height) == (sample["frames"], 16, 128, 128)
        assert sample["sample"] == f"{prompt.id}-s{sample['seed']}"
        assert sample["seconds"] == pytest.approx(1.3125)  # 6 latent frames: 21 pixel frames at 16 a second
        assert len(sample["chunks"]) == 2
        assert {"denoise_s", "commit_s", "decode_s", "write_s", "tokens"} <= set(sample["chunks"][0])
        assert sample["peak_memory_bytes"] > 0


def test_what_changes_pixels_changes_the_directory_and_nothing_else_does(make: Command, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    for overrides in (["label=other"], ["threads=1", "device=cpu"], ["seeds=[0,1]", "seconds=1.1"], [TWO]):
        assert make("shard=1/2", *overrides).status == 0
        assert len(list(root.iterdir())) == 1, overrides
    changed = ["cache.retention.window_frames=18", "cache.alignment=slot", "dtype=bfloat16", "seconds=2"]
    changed += ["generator.steps=[1000,500]", "generator.chunk_frames=1"]
    for number, override in enumerate(changed, start=2):
        assert make("shard=1/2", override).status == 0
        assert len(list(root.iterdir())) == number, override


def test_shards_make_the_same_videos_as_one_process(make: Command, tmp_path: Path) -> None:
    both = f"prompts=['{BLUE}','{RED}']"
    assert make(both, "seeds=[0,1]").status == 0
    whole = contents(tmp_path / "runs")
    assert len(whole) == len(set(whole.values())) == 4
    shards = tmp_path / "shards"
    assert make(both, "seeds=[0,1]", "shard=0/2", f"runs_root={shards}").status == 0
    first = contents(shards)
    assert len(first) == 2
    assert make(both, "seeds=[0,1]", "shard=1/2", f"runs_root={shards}").status == 0
    assert contents(shards) == whole
    assert first.items() <= whole.items()
    assert make("seeds=[1]", f"runs_root={tmp_path / 'alone'}").status == 0  # one of the four, alone
    assert contents(tmp_path / "alone").items() <= whole.items()


def chunks(generator: Generator, prompt: str, frames: int, seed: int = 0) -> list[torch.Tensor]:
    return [torch.from_numpy(c.frames) for c in generator.generate(prompt, Prompt(prompt).id, seed, frames)]


def test_the_beginning_does_not_depend_on_the_length(checkpoint: Path) -> None:
    spec = GeneratorSpec("g", TinySpec(str(checkpoint)), CachePolicy(SinkWindow(9, 3), "sink"))
    generator = spec.build(torch.device("cpu"))
    short, long = chunks(generator, RED, 6), chunks(generator, RED, 15)
    assert len(long) == 5
    assert all(torch.equal(a, b) for a, b in zip(short, long, strict=False))
    other = chunks(generator, BLUE, 6)
    assert not torch.equal(other[1], short[1])
    assert not torch.equal(chunks(generator, RED, 6, seed=1)[0], short[0])


def test_nan_in_the_weights_stops_in_one_line(make: Command, checkpoint: Path, tmp_path: Path) -> None:
    tensors = load_file(checkpoint)
    tensors["wan.head.head.bias"][0] = float("nan")
    save_file(tensors, tmp_path / "nan.safetensors")
    status, _, err = make(f"model.checkpoint={tmp_path / 'nan.safetensors'}")
    assert status == 2
    assert err.startswith("error: chunk at latent frame 0 holds NaN or Inf")
    assert err.count("\n") == 1
    assert Prompt(RED).id in err
    assert not list((tmp_path / "runs").glob("*/samples/*"))


def faulty_write(monkeypatch: pytest.MonkeyPatch, error: BaseException, call: int) -> None:
    """VideoWriter.write fails at its n-th call."""
    real, calls = video.VideoWriter.write, [0]

    def write(self: video.VideoWriter, frames: torch.Tensor) -> None:
        calls[0] += 1
        if calls[0] == call:
            raise error
        real(self, frames)

    monkeypatch.setattr(video.VideoWriter, "write", write)


def faulty_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk is full when the second video's index is written."""
    real, calls = video._File.finish, [0]

    def finish(self: video._File) -> None:
        calls[0] += 1
        if calls[0] == 2:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        real(self)

    monkeypatch.setattr(video._File, "finish", finish)


@pytest.mark.parametrize("fault", ["disk", "memory", "host memory", "interrupt"])
def test_a_fault_loses_nothing(fault: str, make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        if fault == "disk":
            faulty_disk(patch)
        else:
            errors = {
                "memory": torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate"),
                "host memory": RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried"),
                "interrupt": KeyboardInterrupt(),
            }
            faulty_write(patch, errors[fault], 4)
        status, _, err = make(TWO)
    says = {"disk": "No space left on device", "interrupt": "run the same command again"}.get(fault, "out of memory")
    assert status == (130 if fault == "interrupt" else 2)
    assert says in err
    assert err.count("\n") == 1
    run = only_run(tmp_path / "runs")
    assert len(run.completed()) == 1
    assert len(list((run.path / "samples").iterdir())) == 2
    status, out, _ = make(TWO)
    assert status == 0
    assert "1 already there" in out
    assert len(run.completed()) == 2


def test_sweep_makes_one_run_a_point_and_does_nothing_the_second_time(make: Command, tmp_path: Path) -> None:
    sweep = ["-m", "cache=deep_sink", "cache.retention.sink_frames=0,3"]
    status, _, err = make(*sweep)
    assert (status, err) == (0, "")
    runs = sorted((tmp_path / "runs").iterdir())
    assert sorted(RunDir.open(r).record()["spec"]["cache"]["retention"]["sink_frames"] for r in runs) == [0, 3]
    assert not list(Path.cwd().glob("multirun.yaml"))
    before = times(tmp_path / "runs")
    status, out, _ = make(*sweep)
    assert status == 0
    assert out.count("1 already there") == 2
    assert times(tmp_path / "runs") == before
    labels = {run.label for run in read_runs(find_runs([str(r) for r in runs]))}
    assert labels == {"deep_sink sink_frames=0", "deep_sink sink_frames=3"}


def test_a_bad_point_of_a_sweep_is_told_before_the_first_begins(make: Command, tmp_path: Path) -> None:
    status, _, err = make("-m", "cache=deep_sink", "cache.retention.sink_frames=3,6,21")
    assert status == 2
    assert err.count("\n") == 1
    assert re.search(r"cache.retention.sink_frames=21\b.*: sink_frames=21 must be below window_frames=21", err)
    assert not list(tmp_path.glob("runs/*"))


def test_a_point_that_fails_does_not_lose_the_others(
    make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    faulty_write(monkeypatch, OSError(5, "Input/output error", "disk"), 2)
    status, _, err = make("-m", "cache=deep_sink", "cache.retention.sink_frames=3,6")
    point = "cache=deep_sink cache.retention.sink_frames=3: disk: Input/output error"
    assert (status, [line for line in err.splitlines() if not line.startswith("  ")]) == (
        1, ["error: disk: Input/output error", "error: 1 of 2 points failed:"]
    )  # fmt: skip
    assert next(line for line in err.splitlines() if line.startswith("  ")).endswith(point)
    runs = [RunDir.open(p) for p in (tmp_path / "runs").iterdir()]
    done = {r.record()["spec"]["cache"]["retention"]["sink_frames"]: len(r.completed()) for r in runs}
    assert done == {3: 0, 6: 1}


def test_ctrl_c_ends_a_whole_sweep(make: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    faulty_write(monkeypatch, KeyboardInterrupt(), 2)
    assert make("-m", "cache.retention.sink_frames=0,3").status == 130
    assert len(list((tmp_path / "runs").iterdir())) == 1


def test_a_sample_that_another_process_works_on_is_left_to_it(make: Command, tmp_path: Path) -> None:
    assert make("shard=1/2").status == 0  # an empty share: only the directory
    run = only_run(tmp_path / "runs")
    assert run.completed() == set()
    with run.claim(f"{Prompt(RED).id}-s0") as mine:
        assert mine
        assert make(TWO).status == 0
        assert run.completed() == {f"{Prompt(BLUE).id}-s0"}
    assert make(TWO).status == 0
    assert len(run.completed()) == 2


def test_longer_than_the_rotary_table_with_realigned_positions(make: Command, tmp_path: Path) -> None:
    """Refused with absolute positions (see test_cli)."""
    assert make("cache=deep_sink", "shard=1/2", "seconds=600").status == 0  # nothing in this share, so no work
    (record,) = [json.loads(p.read_text()) for p in (tmp_path / "runs").glob("*/run.json")]
    assert record["identity"]["latent_frames"] == 2400
