"""Wrong words: one line that says what would be right, status 2, and nothing left behind."""

from __future__ import annotations

import pickle
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import RED, Command
from safetensors.torch import load_file, save_file

from experiments.cli import groups

LONG = "cache=self_forcing seconds=256"
PC = "cache=deep_forcing cache.retention"
# arguments of experiments.rollout -> what the line must say
WRONG = {
    "cache.retention.sink_frames=21": r"sink_frames=21 must be below window_frames=21; the paper uses 10 of 21",
    "cache.retention.sink_frames=19": r"sink_frames can be at most 18",
    f"{PC}.recent_frames=7": r"recent_frames=7 and sink_frames=10 do not fit into budget_frames=16",
    f"{PC}.budget_frames=22": r"budget_frames=22 must not exceed window_frames=21",
    f"{PC}.recent_frames=2": r"recent_frames=2 must hold the current chunk of 3",
    f"{PC}.queries=all": r"'denoising', 'past' or 'both'",
    f"{PC}.per_head=maybe": r"per_head=maybe must be true or false",
    f"{PC}.budget=16": r"did you mean cache\.retention\.budget_frames\?",
    f"{PC}.scorer._target_=no.such.Scorer": r"no\.such\.Scorer is not a class or function",
    "cache.retention.sink_frames=ten": r"sink_frames=ten must be a whole number",
    "cache.retention.sink_frames=1.5": r"sink_frames=1\.5 must be a whole number",
    "cache.retention.window_frames=null": r"window_frames=null must be a whole number",
    "cache.retention.sink=3": r"did you mean cache\.retention\.sink_frames\?",
    "+cache.retention.keep=3": r"cache\.retention\.keep is not a key.*window_frames, sink_frames",
    "cache.alignment=sliding": r"choose one of absolute, sink, unified, one_shift, slot",
    "cache.alignment=3": r"a name, such as absolute, sink",
    "generator.chunk_frames=0": r"chunk_frames=0 must be at least 1",
    "generator.steps=[250,1000]": r"descending integers",
    "generator.steps=4": r"a list of whole numbers",
    "secnds=3": r"did you mean seconds\?",
    "+window=3": r"window is not a key here; known: .*seconds",
    "~seconds": r"seconds cannot be left out",
    "cache=deepsink": r"did you mean deep_sink\? choices: .*self_forcing",
    "cache=": r"choices: .*self_forcing",
    "generator=selfforcing": r"did you mean self_forcing\?",
    "model=tny": r"did you mean tiny\?",
    "+cache=sink": r"choose by name, without \+: cache=.*sink",
    "cache=sink,deep_sink": r"for one run each add -m",
    "-m cache=sink,deepsink": r"did you mean deep_sink\?",
    "-m seconds=interval(1,2)": r"write seconds=a,b,c",
    "model=wan2.1-1.3b": r"lacks checkpoint weights/.*experiments\.weights self_forcing",
    "seconds=0": r"seconds=0 must be a positive number",
    "seconds=-3": r"seconds=-3 must be a positive number",
    "seconds=nan": r"seconds=nan must be a positive number",
    "seconds=long": r"seconds=long must be a positive number",
    "seconds=null": r"seconds=null must be a positive number",
    "seconds=[1": r"seconds=\[1 cannot be read.*brackets",
    "seconds=${lenght}": r"lenght",
    "seeds=[]": r"x 0 seeds; give at least one of each",
    "seeds=-1": r"seed=-1 must be a whole number from 0",
    "seeds=[0,one]": r"seed='one' must be a whole number from 0",
    "seeds=null": r"whole number from 0",
    "prompts=dmo": r"neither a suite \(demo, dev, heldout, .*wan\) nor a text file",
    "prompts=[]": r"has no prompts",
    "prompts=['a red dog']": r"names no shape; the tiny world knows disc, ring, cross",
    "shard=3/2": r"must be i/n with 0 <= i < n",
    "shard=1": r"must be i/n",
    "dtype=float16": r"must be one of float32, bfloat16",
    "device=gpu": r"use auto, cpu, cuda or cuda:N",
    "device=meta": r"use auto, cpu, cuda or cuda:N",
    "device=cpu:7": r"a machine has one cpu",
    "cache=null": r"choose by name, without \+: cache=[\w|]*\|deep_forcing\|[\w|]*$",
    "cache={a:1}": r"choose by name, without \+: cache=[\w|]*\|deep_forcing\|[\w|]*$",
    "device=cuda:99": r"torch sees \d+ CUDA devices",
    "threads=0": r"threads=0 must be a whole number of at least 1",
    "name=a/b": r"letters, digits",
    "runs_root=": r"give a directory",
    "--verbose": r"--verbose is not an option; .*--help",
    "cache": r"'cache' is not key=value",
    LONG: r"longest video is 1023 latent frames; .*cache=deep_sink",
    "model.checkpoint=nowhere.safetensors": r"nowhere\.safetensors",
    "generator=rolling_forcing seconds=2": r"less than one rolling window: with 5 steps .* shortest video is 15 latent",
    "generator=rolling_forcing seconds=256": r"longest video of a rolling window is 1023 latent frames",
    "generator=rolling_forcing cache=deep_forcing": r"chooses single tokens, .*use cache=rolling_forcing",
    "generator=rolling_forcing cache=deep_sink": r"denoises 15 latent frames at once: .*sink_frames can be at most 6",
    "generator=causvid cache=deep_sink": r"'deep_sink' has nothing to decide: use cache=keep_all",
    "generator=causvid generator.overlap=4": r"overlap=4 must be a positive multiple of the chunk, 3",
    "generator=causvid generator.overlap=21": r"overlap=21 must be below rollout_frames=21",
    "generator=causvid generator.noise=upstream": r"noise=upstream is not implemented for generator causvid",
    "generator=causvid generator.noise=release": r"noise=release is drawn chunk after chunk, .* use noise=keyed",
    "generator=rolling_forcing generator.noise=release": r"generator rolling_forcing follows another order",
    "generator.noise=released": r"noise='released' must be one of keyed, upstream, release",
    "generator=longlive generator.on_switch=maybe": r"must be one of nothing, recache, recache_sink",
    "generator=longlive generator.on_switch=true": r"must be nothing, recache or recache_sink",
    f"prompts=['{RED} [5s] | {RED} [4s-9s] | {RED}']": r"part 2 .*overlaps the part before, which holds until 5 s",
    f"prompts=['{RED} [5s] | {RED} [90s]']": r"ends at 95 s and so runs past the end of a video of 59\.8 s",
    f"prompts=['{RED} [soon] | {RED}']": r"part 1 .*must end with how long it holds",
    f"prompts=['{RED} [5s] | a red dog']": r"'a red dog' names no shape",
}


def only_line(err: str) -> str:
    assert err.startswith("error: "), err
    assert err.count("\n") == 1, err
    return err


@pytest.mark.parametrize("words", WRONG, ids=lambda words: words.replace("cache.retention.", ""))
def test_wrong_words_of_rollout(words: str, command: Command, tmp_path: Path) -> None:
    root = tmp_path / "runs"
    given = [] if "runs_root" in words else [f"runs_root={root}"]
    # One argument each, but for values with spaces.
    arguments = [words] if "prompts=[" in words else words.split()
    status, out, err = command("rollout", *arguments, *given)
    assert status == 2
    assert re.search(WRONG[words], only_line(err)), err
    assert out == ""
    assert not root.exists() or not list(root.iterdir())


OTHERS = [
    ("evaluate", "", r"give runs=DIR, or videos=DIR with out=DIR"),
    ("evaluate", "videos=. runs=.", r"and not both"),
    ("evaluate", "videos=.", r"needs out=DIR"),
    ("evaluate", "runs=x out=y", r"out goes with videos=DIR"),
    ("evaluate", "runs=x protocol=vbench_lng", r"protocol='vbench_lng' is unknown; there are vbench, vbench_long"),
    ("evaluate", "videos=nowhere out=x", r"videos=nowhere is not a folder"),
    ("evaluate", "runs=x shard=3", r"shard='3' must be i/n"),
    ("evaluate", "runs=x clip_to_clip=nowhere", r"clip_to_clip .* protocol=vbench_long"),
    ("evaluate", "runs=nowhere", r"no such run directory: nowhere"),
    ("evaluate", "runs=.", r"\. is no run directory"),
    ("evaluate", "runs=x metrics=[beauty]", r"metrics=beauty: choose among .*replay"),
    ("evaluate", "runs=x window_seconds=0", r"window_seconds=0 must be a positive number"),
    ("evaluate", "run=x", r"did you mean runs\?"),
    ("bench", "chunks=0", r"chunks=0 must be a whole number of at least 1"),
    ("bench", "repeats=two", r"repeats=two must be a whole number"),
    ("bench", "from_start=20", r"from_start=20 must be a multiple of the chunk, 3"),
    ("bench", "lengths=[]", r"lengths=\[\] is empty"),
    ("bench", "lengths=[0]", r"lengths=0 must be a positive number"),
    ("bench", "lengths=[600] cache=self_forcing", r"longest video is 1023"),
    ("bench", "model=wan2.1-1.3b", r"lacks checkpoint .*model\.random_weights=true"),
    ("bench", "model.config.dim=250", r"dim=250 must be a multiple of 2 \* num_heads=8"),
    ("bench", "model.config.dim=wide", r"model\.config\.dim=wide must be a whole number"),
    ("bench", "model.geometry.height=100", r"try 96 or 112"),
    ("bench", "cache.retention.sink_frames=19", r"sink_frames can be at most 18"),
    ("demo", "caches=[] generators=[]", r"generators=\[\] are empty"),
    ("demo", "caches=[snk]", r"did you mean sink\?"),
    ("demo", "seconds=0", r"seconds=0 must be a positive number"),
    ("demo", "seeds=[]", r"give at least one of each"),
    ("demo", "jobs=0", r"jobs=0 must be a whole number of at least 1"),
    ("demo", "out=page.txt", r"must end in \.html"),
    ("demo", "prompts=dmo", r"neither a suite"),
    ("demo", "generators=[longlve]", r"did you mean longlive\?"),
    ("bench", "generator=rolling_forcing from_start=9", r"less than one rolling window"),
]


@pytest.mark.parametrize(("module", "words", "says"), OTHERS, ids=[f"{m} {w}" for m, w, _ in OTHERS])
def test_wrong_words_of_the_others(
    module: str, words: str, says: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    status, out, err = command(module, *words.split())
    assert status == 2
    assert re.search(says, only_line(err)), err
    assert out == ""
    assert {path.name for path in tmp_path.iterdir()} <= {"reports"}


@pytest.mark.parametrize("module", ["rollout", "evaluate", "report", "bench", "demo"])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_needs_no_arguments_and_names_every_choice(module: str, flag: str, command: Command) -> None:
    status, out, err = command(module, "cache=nonsense", flag)
    assert (status, err) == (0, "")
    assert out.startswith("# ")
    assert "hydra" not in out
    if module in ("rollout", "bench"):
        for group in ("cache", "model", "generator"):
            assert ", ".join(groups()[group]) in out


def test_prompt_files(make: Command, tmp_path: Path) -> None:
    path = tmp_path / "prompts.txt"
    for content, says in ((b"", "has no prompts"), (b"caf\xe9\n", "not UTF-8"), (b"\n \n", "has no prompts")):
        path.write_bytes(content)
        status, _, err = make(f"prompts={path}")
        assert status == 2
        assert says in only_line(err)
    path.write_text(f"{RED}\n\n{RED}\n")
    assert make(f"prompts={path}").status == 0
    assert len(list((tmp_path / "runs").glob("*/samples/*.mp4"))) == 1


def test_a_file_in_the_way_of_runs_root(make: Command, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for root in (tmp_path / "file", tmp_path / "file" / "runs"):
        status, out, err = make(f"runs_root={root}")
        assert (status, out) == (2, "")
        assert str(root) in only_line(err)
        assert "choose another directory" in err


class Bomb:
    """Unpickling it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors", ".pth"])
def test_code_in_a_checkpoint_never_runs(suffix: str, make: Command, tmp_path: Path) -> None:
    mark, path = tmp_path / "ran", tmp_path / f"weights{suffix}"
    for write in (
        lambda: torch.save({"generator": Bomb(mark)}, path),
        lambda: path.write_bytes(pickle.dumps(Bomb(mark))),
    ):
        write()
        status, out, err = make(f"model.checkpoint={path}")
        assert (status, out) == (2, "")
        assert str(path) in only_line(err)
        assert not mark.exists()
    pickle.loads(pickle.dumps(Bomb(mark)))
    assert mark.exists()  # it would have


def test_unusable_checkpoints(make: Command, checkpoint: Path, tmp_path: Path) -> None:
    good = load_file(checkpoint)
    name = "wan.head.head.weight"
    assert name in good
    path = tmp_path / "w.safetensors"

    def refused(*says: str) -> None:
        status, out, err = make(f"model.checkpoint={path}")
        assert (status, out) == (2, "")
        for text in (str(path), *says):
            assert text in only_line(err)
        assert not list((tmp_path / "runs").glob("*"))

    path.write_bytes(checkpoint.read_bytes()[:-1000])
    refused("truncated or not a checkpoint")
    path.write_text("these are not weights\n")
    refused("it is text, not a checkpoint")
    path.write_bytes(b"")
    refused("an empty file")
    save_file({n: t for n, t in good.items() if n != name}, path)
    refused("does not fit this model: 1 missing", name)
    save_file({**good, "extra.weight": torch.zeros(1)}, path)
    refused("1 unexpected (extra.weight)")
    save_file({**good, name: torch.zeros(2, 3)}, path)
    refused(f"1 misshapen ({name} (2, 3) instead of")
    torch.save(good, path.with_suffix(".pt"))
    assert make(f"model.checkpoint={path.with_suffix('.pt')}").status == 0


def test_unexpected_faults_keep_their_name_and_stay_one_line(make: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("what\nnow")

    monkeypatch.setattr("experiments.request.plan_samples", broken)
    status, _, err = make()
    assert status == 2
    assert "KeyError" in only_line(err)
    assert "DEEPFORCING_TRACEBACK=1" in err
    monkeypatch.setenv("DEEPFORCING_TRACEBACK", "1")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    with pytest.raises(KeyError):
        make()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    lines = "import sys", "from experiments.cli import run_task", "def talk(_):", "    while True: print('x' * 99)"
    talk = "\n".join([*lines, "sys.exit(run_task(talk, {}))"])
    with subprocess.Popen([sys.executable, "-c", talk], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"x" * 99 + b"\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(60) == 2
