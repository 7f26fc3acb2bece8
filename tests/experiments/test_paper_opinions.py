"""Tables 2 and 3 on the page of the paper: what people and judges said, beside the published numbers; the plan's speed."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from commands import Command
from report_runs import write_run

from benchmarks.gpu.rows import Measured, line
from eval.store import COLUMNS, KEYS, add_rows, scores_path
from experiments.raters.answers import HEADER
from experiments.raters.design import QUESTIONS
from experiments.raters.judging import METRIC, PROTOCOL, VERSION, digest, remember
from experiments.raters.key import Arm, Key, Pair, Seen, write_key
from experiments.raters.vlm import Judge, Verdict
from experiments.reproduction.opinions import of_judges, of_people
from experiments.reproduction.speed import read_speed
from experiments.results.runs import read_runs

RATERS = 4


def write_study(folder: Path) -> Key:
    """Two pairs of Deep Forcing beside Self Forcing, seen by every rater with the subject at A."""
    subject = Arm(run="ours", label="ours", generator="deep_forcing", cache="deep_forcing", model="tiny")
    other = Arm(run="self", label="self", generator="self_forcing", cache="self_forcing", model="tiny")
    pairs = [
        Pair(pair=f"p0{n}", opponent="self", sample=f"s{n}", prompt="a disc", first=f"{n}a" * 8, second=f"{n}b" * 8,
             sha256=("0" * 64, "1" * 64))
        for n in (1, 2)
    ]  # fmt: skip
    seen = [[Seen(pair=pair.pair, a=pair.first, b=pair.second) for pair in pairs] for _ in range(RATERS)]
    key = Key(study="0123456789ab", seed=0, seconds=5, subject=subject, opponents=[other], questions=QUESTIONS,
              pairs=pairs, raters=seen, videos=4)  # fmt: skip
    folder.mkdir()
    write_key(folder, key)
    return key


def answer(path: Path, key: Key, rater: int, choice: str) -> None:
    lines = [",".join(HEADER)]
    for place, seen in enumerate(key.raters[rater - 1], start=1):
        video = seen.a if choice == "A" else seen.b
        lines += [
            f"{key.study},{rater},{place},{seen.pair},{question},{choice},{video},1.5" for question in key.questions
        ]
    path.write_text("\n".join(lines) + "\n")


def cells(text: str, row: str) -> list[list[str]]:
    """Of the row of that name and of those below it that have none."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]
    at = next(n for n, line in enumerate(lines) if line[0] == row)
    return [lines[at], *(line for line in lines[at + 1 : at + 3] if not line[0])]


def test_what_people_preferred_stands_beside_the_papers_table(tmp_path: Path) -> None:
    pattern = str(tmp_path / "answers-*.csv")
    runs = read_runs([write_run(tmp_path / "runs", "a"), write_run(tmp_path / "runs", "b")])
    nothing = of_people(runs, tmp_path / "study", pattern)
    assert not nothing.text
    assert f"runs=[{runs[0].path},{runs[1].path}]" in nothing.commands[0]
    assert "pairs=3 " in nothing.commands[0], "as many as there are: two runs of three prompts"
    key = write_study(tmp_path / "study")
    assert "nobody has answered" in of_people(runs, tmp_path / "study", pattern).missing[0]
    for rater in range(1, RATERS + 1):  # three of four prefer the subject
        answer(tmp_path / f"answers-{rater}.csv", key, rater, "B" if rater == 4 else "A")
    found = of_people(runs, tmp_path / "study", pattern)
    ours, paper, away = cells(found.text, "self")
    low, high = (float(each) for each in ours[3].split("[")[1].rstrip("]").split(","))
    assert ours[3].startswith("75.0 [")
    assert paper[3] == "85.9"
    assert away[3] == f"−10.9 [{low - 85.9:+.1f}, {high - 85.9:+.1f}]".replace("-", "−")
    assert (found.missing, found.problems) == ((), ())
    (tmp_path / "answers-0.csv").write_text("not answers\n")
    assert "is no file of answers" in of_people(runs, tmp_path / "study", pattern).problems[0]
    assert "left out: " in of_people(runs, tmp_path / "study", pattern).text


def test_each_judge_has_a_table_and_what_it_did_not_see_is_missing(tmp_path: Path) -> None:
    spec = {"generator": {"name": "self_forcing"}, "cache": {"name": "self_forcing"}}
    runs = read_runs([write_run(tmp_path / "runs", "plain", spec=spec), write_run(tmp_path / "runs", "other")])
    assert "experiments.judge" in of_judges(runs, True).commands[0]
    judges = (Judge("http://127.0.0.1:1/v1", "one"), Judge("http://127.0.0.1:1/v1", "two"))
    for run, judge, scored in ((runs[0], judges[0], 3), (runs[1], judges[1], 2)):
        remember(run.path, judge, Verdict(50.0, "calm", "served"))
        rows = [
            {"run": run.name, "sample": s["sample"], "metric": METRIC, "version": VERSION, "protocol": PROTOCOL.name,
             "t_start": 0.0, "t_end": 12.0, "value": 40.0 + 10 * n, "video_sha256": s["sha256"],
             "weights_sha256": digest(judge), "prompt_sha256": "", "window_seconds": 0.0, "frames": 24.0}
            for n, s in enumerate(run.samples[:scored])
        ]  # fmt: skip
        add_rows(scores_path(run.path, METRIC, VERSION), pd.DataFrame(rows)[COLUMNS + KEYS])
    found = of_judges(runs, False)
    one, two = found.text.split("## Judge")[1:]
    plain = cells(one, "plain")[0]
    assert plain[2].startswith("50.0 [")
    assert plain[3] == "43.94"
    assert plain[4].startswith("+6.1 [")  # 40, 50 and 60: the interval holds zero
    assert cells(one, "other")[0][1:] == ["0", "–", "", ""]
    assert cells(two, "other")[0][1] == "2"
    told = sorted(each.partition(": ")[2] for each in found.missing)
    assert told == ["1 video of other not judged", "3 videos of other not judged", "3 videos of plain not judged"]
    assert "Another model than the paper's" in found.text


def test_the_plan_takes_its_speed_from_what_bench_wrote(command: Command, checkpoint: Path, tmp_path: Path) -> None:
    printed = command("bench", "model=tiny", f"model.checkpoint={checkpoint}", "from_start=3", "chunks=1").out
    (tmp_path / "bench.json").write_text(printed)
    found = read_speed(tmp_path / "bench.json", "tiny")
    assert found.seconds == json.loads(printed)["seconds_per_chunk"]["end_to_end"]
    assert str(tmp_path / "bench.json") in found.source
    rows = [line(Measured("vae", mode, [rate]), None, 12) for mode, rate in (("graphs", 24.0), ("plain", 16.0))]
    table = {"size": "full", "card": {"device": "H100"}, "rows": [*rows, line(Measured("tiny", "plain"), None, 12)]}
    (tmp_path / "gpu_table.json").write_text(json.dumps(table, indent=1))
    found = read_speed(tmp_path / "gpu_table.json", "wan2.1-1.3b")
    assert found.seconds == 0.75
    assert "H100" in found.source
    words = [f"speed={tmp_path / 'bench.json'}", "only=figure4", f"runs_root={tmp_path / 'r'}", f"out={tmp_path / 'p'}"]
    assert f"{tmp_path / 'bench.json'})" in command("paper", *words).out.replace("\n", "")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (None, "cannot be read: No such file"),
        ("seconds: 3", "holds no speed"),
        ('{\n"rows": [3]}', "holds no speed"),
        ('{"seconds_per_chunk": {"end_to_end": 0.5}, "model": "bench"}', "is of model bench, and this is tiny"),
    ],
)
def test_a_file_without_a_speed_is_one_line(text: str | None, told: str, command: Command, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "a.json").write_text(text)
    status, out, err = command("paper", f"speed={tmp_path / 'a.json'}", "only=figure4", f"out={tmp_path / 'paper'}")
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert told in err
    assert not (tmp_path / "paper").exists()
