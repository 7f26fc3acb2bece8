"""The table of speeds: every branch on a CPU, with what goes wrong on a GPU put in its place."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import Command, composed
from hydra.utils import instantiate
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu import measure, size, table
from benchmarks.gpu.card import attention_seconds, pass_flops
from benchmarks.gpu.rows import NOT_REACHED, ROWS, Measured, line, markdown, percentile
from benchmarks.gpu.settings import GROUPS, Settings, read
from benchmarks.gpu.size import POLICIES, SIZES
from deepforcing.generator import Generator
from deepforcing.stopwatch import Stopwatch
from deepforcing.wan.config import WanConfig

CPU = torch.device("cpu")
TOY = replace(SIZES["toy"], minute=1, long=2, fill=8, chunks=2, warm_ups=1, repeats=2, batches=(1, 2))
NEEDED = (
    "torch",
    "torchgen",
    "functorch",
    "numpy",
    "numpy.libs",
    "sympy",
    "mpmath",
    "filelock",
    "networkx",
    "fsspec",
    "jinja2",
    "markupsafe",
    "typing_extensions.py",
)  # torch and what it depends on
COMPILING = type(
    "BackendCompilerFailed", (RuntimeError,), {"__module__": "torch._dynamo.exc"}
)  # which is slow to import


def told_by(group: str, toy: size.Size = TOY, until: float | None = None) -> list[Any]:
    told: list[Any] = []
    measure.GROUPS[group](toy, CPU, told.append, time.time() + 60 if until is None else until)
    return told


def rows_of(told: list[Any]) -> dict[str, Measured]:
    return {m.row: m for m in told if isinstance(m, Measured)}


@pytest.mark.parametrize(
    ("word", "what"),
    [
        ("size=big", "size='big' must be one of full, toy"),
        ("minutes=0", "minutes='0' must be a number above 0"),
        ("minutes=soon", "minutes='soon' must be a number above 0"),
        ("groups=card,speed", "groups=speed: choose among card"),
        ("out=", "out= must name a folder"),
        ("fast", "'fast' is no key here"),
        ("cache=sink", "'cache=sink' is no key here"),
    ],
)
def test_wrong_words_are_one_line(command: Command, word: str, what: str) -> None:
    with pytest.raises(ValueError, match=what):
        read([word])
    outcome = command("bench", "gpu-table", word)
    assert outcome.status == 2
    assert what in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_what_would_do(command: Command, tmp_path: Path) -> None:
    for words, what in (
        (["gpu-table", f"out={tmp_path}"], "torch sees no GPU here; device=cpu size=toy"),
        (["gpu-table", "device=cuda:3"], "device=cuda:3: torch sees 0"),
        (["gpu-table", "device=tpu9x"], "device='tpu9x' is unknown"),
    ):
        outcome = command("bench", *words)
        assert outcome.status == 2
        assert what in outcome.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", POLICIES)
def test_policies_written_out_are_those_of_the_configs(name: str) -> None:
    config = composed("rollout", f"cache={name}").cache
    assert instantiate(config, _convert_="object") == POLICIES[name]


def test_operations_of_a_pass() -> None:
    """Against published counts (1.3B, 4680 queries: 40.41 and 33.68 T for 21 and 16 frames) and torch's own counter."""
    config = WanConfig()
    assert pass_flops(config, 4680, 32760) / 1e12 == pytest.approx(40.41, rel=2e-3)
    assert pass_flops(config, 4680, 24960) / 1e12 == pytest.approx(33.68, rel=2e-3)
    spec = TOY.spec("self_forcing")
    model = spec.model.build(CPU, torch.float32)
    job = Generator(spec, model, CPU).job("a", "a", 0, 3, Stopwatch(CPU))
    cache = job.new_cache(3)
    cache.begin(0)
    x, t = torch.zeros(1, 3, 16, 4, 4), torch.zeros(1, 3)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model.wan(x, t, job.texts[0], cache.denoise())
    counted = counter.get_total_flops()
    assert pass_flops(spec.model.config, 12, 12) == pytest.approx(
        counted, rel=0.1
    )  # the timestep's layers are left out


def test_passes_give_five_rows() -> None:
    found = rows_of(told_by("passes"))
    assert set(found) == {"passes", "self_forcing", "deep_forcing", "ratio", "aligned"}
    for row in found.values():
        assert row.problem is None
        assert len(row.values) == TOY.repeats
    assert len(found["self_forcing"].singles) == TOY.repeats * TOY.chunks
    assert found["deep_forcing"].flops < found["self_forcing"].flops  # type: ignore[operator]
    ratios = [b / a for a, b in zip(found["self_forcing"].values, found["deep_forcing"].values, strict=True)]
    assert found["ratio"].values == pytest.approx(ratios)
    whole = line(found["passes"], 1e12, 12)
    assert whole["reached"] == pytest.approx(whole["floor"] / whole["median"])


def test_one_policy_out_of_memory_leaves_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = measure.Rollout.chunks

    def chunks(self: Any, count: int) -> Any:
        if self.tokens != 21 * 4 and not hasattr(self, "late"):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 3 GiB")
        return plain(self, count)

    monkeypatch.setattr(measure.Rollout, "chunks", chunks)  # Deep Forcing reads other lengths
    found = rows_of(told_by("passes"))
    assert found["deep_forcing"].problem == found["ratio"].problem == "out of memory"
    assert len(found["self_forcing"].values) == len(found["aligned"].values) == TOY.repeats


def test_no_time_left_keeps_one_repeat() -> None:
    found = rows_of(told_by("passes", replace(TOY, warm_ups=0), until=0.0))
    assert len(found["self_forcing"].values) == 1


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (torch.OutOfMemoryError("CUDA out of memory."), "out of memory"),
        (ModuleNotFoundError("No module named 'av'"), "a package is missing: No module named 'av'"),
        (COMPILING("no g++"), "compiling failed: BackendCompilerFailed: no g++"),
        (RuntimeError("cuDNN error\nmore"), "RuntimeError: cuDNN error"),
        (ValueError(), "ValueError: "),
    ],
)  # fmt: skip
def test_what_goes_wrong_is_one_line(error: Exception, said: str) -> None:
    told: list[Any] = []
    with measure.surviving(told.append, ("vae", "tiny"), "plain"):
        raise error
    assert [m.row for m in told] == ["vae", "tiny"]
    for m in told:
        assert m.problem.startswith(said)
        assert "\n" not in m.problem


def test_backends_that_are_not_here_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_here(mode: str, *_: Any) -> None:
        raise ValueError(f"backend={mode} does not work here: no compiler")

    monkeypatch.setattr(measure.backend, "check", not_here)
    told = told_by("faster")
    assert {(m.row, m.mode) for m in told} == {(row, mode) for row in measure.PASSES for mode in ("compiled", "graphs")}
    assert all("no compiler" in m.problem for m in told)
    assert measure.modes(torch.device("cuda"))[0] == "graphs"


def test_rows_of_passes_use_the_kernel_that_was_fastest(monkeypatch: pytest.MonkeyPatch) -> None:
    used = []

    def measured(spec: Any, word: str, device: torch.device) -> Any:
        return replace(spec, attention="math") if word == "measured" else spec

    class Noted(measure.Rollout):
        def __init__(self, *args: Any, **kept: Any) -> None:
            used.append(kept["kernel"])
            super().__init__(*args, **kept)

    monkeypatch.setattr(measure, "with_attention", measured)
    monkeypatch.setattr(measure, "Rollout", Noted)
    found = rows_of(told_by("passes", replace(TOY, repeats=1, warm_ups=0, fill=1, chunks=1)))
    assert used == ["math"] * 3
    assert {row.note for row in found.values()} == {"attention=math, the fastest measured"}
    assert all(row.values for row in found.values())


def test_end_to_end_and_memory() -> None:
    quick = replace(TOY, repeats=1, fill=2)
    vae = rows_of(told_by("vae", quick))["vae"]
    assert (vae.problem, len(vae.values)) == (None, 1)
    assert vae.flops is not None
    tiny = rows_of(told_by("tiny", quick))["tiny"]
    assert (tiny.problem, len(tiny.values)) == (None, 1)
    memory = rows_of(told_by("memory", replace(quick, minute=0.6, long=1)))
    assert memory["memory"].values[0] > 0.05
    assert abs(memory["growth"].values[0]) < 20
    late = rows_of(told_by("memory", until=0.0))
    assert late["memory"].problem is not None
    assert "the time was up at" in late["memory"].problem
    assert [b["batches"].keys() for b in told_by("batches", quick)] == [{"1"}, {"2"}]


def test_without_av_the_rows_that_write_say_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "deepforcing.video", None)
    for group in ("vae", "tiny"):
        (found,) = told_by(group)
        assert found.problem.startswith("a package is missing")


def test_vbench_row(monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"ours": {"seconds": 21.5}}
    commands: list[list[str]] = []

    def run(command: list[str], **_: Any) -> Any:
        commands.append(command)
        return subprocess.CompletedProcess(command, 0, json.dumps(said) + "\n| a table |\n", "")

    monkeypatch.setattr(measure.subprocess, "run", run)
    assert rows_of(told_by("vbench"))["vbench"].values == [21.5]
    assert commands[0][1:4] == ["-m", "experiments.bench", "eval"]
    told: list[Any] = []
    measure.vbench(TOY, torch.device("cuda"), told.append, time.time() + 60)
    assert [(each.mode, each.values) for each in told] == [("plain", [21.5]), ("compiled", [21.5])]
    assert [c[-1] for c in commands] == ["backend=plain", "backend=plain", "backend=compiled"]
    monkeypatch.setattr(
        measure.subprocess, "run", lambda c, **_: subprocess.CompletedProcess(c, 1, "", "x\nNo module named 'hydra'\n")
    )
    assert rows_of(told_by("vbench"))["vbench"].problem == "RuntimeError: No module named 'hydra'"


def test_attention_backends_are_timed_or_said_to_be_missing() -> None:
    found = attention_seconds(CPU, torch.float32, (1, 2, 8, 16), 32)
    assert isinstance(found["flash"], float)
    assert found["cudnn"] == "not here"
    assert attention_seconds(CPU, torch.float64, (1, 2, 8, 300), 32)  # whatever is there for odd shapes


def fake(name: str, settings: Settings, out: Path, seconds: float) -> str | None:
    """Groups as on a bare machine where some end badly."""
    told: dict[str, list[dict[str, Any]]] = {
        "card": [{"card": {"device": "H100", "torch": "2.11", "driver": "5", "clock_mhz": "1980"}}, {"rate": 7e14},
                 {"attention": {"32760": {"cudnn": 0.011, "flash": "not here"}}}],
        "passes": [{"measured": asdict(Measured("self_forcing", "plain", [30.0, 31.0, 34.0], [20.0, 40.0], 2.02e14))}],
        "batches": [{"batches": {"1": {"fps": 30.0}}}, {"batches": {"2": "out of memory"}}],
    }  # fmt: skip
    lines = "".join(json.dumps(item) + "\n" for item in told.get(name, []))
    out.write_text(lines + ('{"measured": {"row": "rat' if name == "passes" else ""), encoding="utf-8")
    return "it ended with status -11: no reason given" if name in ("passes", "tiny") else None


def test_what_was_told_before_a_bad_end_counts() -> None:
    result = table.measured(Settings(groups=GROUPS), torch.device("cuda"), fake)
    assert list(dict.fromkeys(row["row"] for row in result["rows"])) == list(ROWS)
    rows = {row["row"]: row for row in result["rows"] if row["mode"]}
    good = rows["self_forcing"]
    assert (good["median"], good["p95"], good["repeats"], good["met"]) == (31.0, 20.0, 3, False)
    assert good["floor"] == pytest.approx(12 / (2.02e14 / 7e14))
    assert good["reached"] == pytest.approx(31.0 / good["floor"])
    assert rows["ratio"]["problem"] == rows["tiny"]["problem"] == "it ended with status -11: no reason given"
    assert rows["vae"]["problem"] == NOT_REACHED
    assert result["batches"] == {"1": {"fps": 30.0}, "2": "out of memory"}
    text = markdown(result)
    assert text.count("\n| ") == len(result["rows"]) + 2
    for part in ("**H100**", "31 FPS", "it ended with status -11", "cudnn 11.00 ms", "driver 5", NOT_REACHED):
        assert part in text


def test_nothing_begins_when_the_time_is_up() -> None:
    result = table.measured(Settings(groups=GROUPS, minutes=1e-9), CPU, fake)
    assert {row["problem"] for row in result["rows"]} == {NOT_REACHED}
    assert result["rate"] is None
    assert "an unknown rate" in markdown(result)


def test_percentile_is_of_the_slow_side() -> None:
    assert percentile([*range(1, 101)], 0.95) == 95
    assert line(Measured("vae", "plain", [1.0, 2.0, 3.0, 4.0, 5.0]), None, 12)["p95"] == 1
    assert line(Measured("memory", "plain", [1.0, 2.0, 3.0, 4.0, 5.0]), None, 12)["p95"] == 5
    assert line(Measured("memory", "plain", [13.0]), None, 12)["met"]
    assert line(Measured("memory", "plain", [13.0]), None, 12, judged=False)["met"] is None


def test_a_group_that_takes_too_long_or_fails_is_ended(tmp_path: Path) -> None:
    settings = Settings("toy", device="cpu")
    late = table.in_a_process("card", settings, tmp_path / "a", 0.01)
    assert late is not None
    assert late.startswith("ended after 0 s")
    wrong = table.in_a_process("nothing", settings, tmp_path / "b", 60)
    assert wrong == "it ended with status 1: KeyError: 'nothing'"


@pytest.mark.slow
def test_a_bare_machine_has_nothing_but_torch(tmp_path: Path) -> None:
    """The words, the passes, and a row that says what is missing, where no other package is."""
    here = Path(torch.__file__).parents[1]
    for name in NEEDED:
        if (here / name).exists():
            (tmp_path / name).symlink_to(here / name)
    code = (
        "import sys; sys.path += sys.argv[1:]\n"
        "import experiments.bench, torch\n"
        "from benchmarks.gpu import measure, size\n"
        "from dataclasses import replace\n"
        "toy = replace(size.SIZES['toy'], fill=1, chunks=1, warm_ups=0, repeats=1, minute=1)\n"
        "for group in ('passes', 'tiny'):\n"
        "    measure.GROUPS[group](toy, torch.device('cpu'), lambda m: print(m.row, m.problem), 1e12)\n"
    )
    command = [sys.executable, "-S", "-I", "-c", code, str(tmp_path), str(Path(__file__).parents[2])]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr
    said = dict(text.split(" ", 1) for text in done.stdout.splitlines())
    assert said["self_forcing"] == said["deep_forcing"] == said["aligned"] == "None"
    assert said["tiny"] == "a package is missing: No module named 'av'"


@pytest.mark.slow
def test_the_whole_table_on_a_cpu(command: Command, tmp_path: Path) -> None:
    outcome = command("bench", "gpu-table", "size=toy", "device=cpu", "minutes=6", f"out={tmp_path}")
    assert outcome.status == 0, outcome.err
    result = json.loads((tmp_path / "gpu_table.json").read_text())
    assert list(dict.fromkeys(row["row"] for row in result["rows"])) == list(ROWS)
    no_gpu = {row["row"] for row in result["rows"] if row["mode"] == "graphs"}
    assert no_gpu == set(measure.PASSES)
    for row in result["rows"]:
        assert (row["problem"] is None) == (row["mode"] != "graphs")
    assert result["problems"] == {}
    assert (tmp_path / "gpu_table.md").read_text() in outcome.out
