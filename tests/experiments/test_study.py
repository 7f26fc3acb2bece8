"""The study: design and agreement against known truth, files of answers that cannot be counted, and a rater's whole way."""

from __future__ import annotations

import csv
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from browser import chromium
from commands import Command, Outcome
from hypothesis import given
from hypothesis import strategies as st
from report_runs import write_run

from deepforcing.video import VideoWriter, iter_frames, probe, sha256_file
from experiments.raters.agreement import alpha
from experiments.raters.answers import HEADER, gather, read_answers
from experiments.raters.design import QUESTIONS, choose, orders
from experiments.raters.key import Key, read_key

LABELS = ("ours-and-secret", "other-policy", "third-policy")


# ---- agreement and design ------------------------------------------------------------------------------------------


def test_alpha_of_published_examples() -> None:
    """Krippendorff, "Computing Krippendorff's Alpha-Reliability" (2011): examples A, B and C, nominal."""
    binary = zip("0100000010", "1110010000", strict=True)
    assert alpha(map(list, binary)) == pytest.approx(0.095, abs=5e-4)
    two = zip("aabbdcccedda", "babbbcccEddd".lower(), strict=True)
    assert alpha(map(list, two)) == pytest.approx(0.692, abs=5e-4)
    four = ("123321412...", "1233224125.3", ".3332342251.", "12332441251.")
    units = [[value for value in unit if value != "."] for unit in zip(*four, strict=True)]
    assert alpha(units) == pytest.approx(0.743, abs=5e-4)


def test_alpha_at_its_ends() -> None:
    assert alpha([[1, 1], [2, 2]]) == 1
    assert alpha([[1, 2], [2, 1]]) < 0
    assert math.isnan(alpha([[1, 1], [1, 1]]))
    assert math.isnan(alpha([[1], [2]]))
    draw = random.Random(0)
    assert abs(alpha([[draw.random() < 0.5 for _ in range(10)] for _ in range(400)])) < 0.03


@given(st.integers(1, 5), st.integers(1, 9), st.data())
def test_pairs_are_balanced_and_never_twice(opponents: int, samples: int, data: st.DataObject) -> None:
    pairs = data.draw(st.integers(opponents, opponents * samples))
    found = choose(
        [f"o{n}" for n in range(opponents)], [f"s{n}" for n in range(samples)], pairs, data.draw(st.integers(0, 99))
    )
    assert len(set(found)) == pairs
    for part in (0, 1):
        counts = Counter(pair[part] for pair in found)
        assert max(counts.values()) - min(counts.values()) <= 1 + part


@given(st.integers(1, 4), st.integers(1, 6), st.integers(0, 3), st.integers(1, 7), st.integers(0, 99))
def test_sides_and_orders(opponents: int, each: int, checks: int, raters: int, seed: int) -> None:
    opponent_of = {f"p{n}": f"o{n % opponents}" for n in range(opponents * each)}
    named = [f"c{n}" for n in range(checks)]
    found = orders(opponent_of, named, raters, seed)
    assert found == orders(opponent_of, named, raters, seed)
    for order in found:
        assert sorted(shown.pair for shown in order) == sorted([*opponent_of, *named])
        assert order[0].pair in opponent_of
        for opponent in set(opponent_of.values()):
            sides = [shown.first_is_a for shown in order if opponent_of.get(shown.pair) == opponent]
            assert abs(2 * sum(sides) - len(sides)) <= 1
        sides = [shown.first_is_a for shown in order if shown.pair in opponent_of]
        assert abs(2 * sum(sides) - len(sides)) <= 1
    for pair in opponent_of:
        left = sum(shown.first_is_a for order in found for shown in order if shown.pair == pair)
        assert abs(2 * left - raters) <= 1


def test_orders_differ_between_raters() -> None:
    opponent_of = {f"p{n}": f"o{n % 4}" for n in range(16)}
    found = orders(opponent_of, ["c0", "c1"], 24, 0)
    assert len({tuple(shown.pair for shown in order) for order in found}) == 24


# ---- a study of small runs -----------------------------------------------------------------------------------------


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    """Three runs of three videos of 16 x 16 px; every video differs from every other."""
    found = []
    for number, label in enumerate(LABELS):
        run = write_run(
            tmp_path / "runs", label, spec={"generator": {"name": label}, "cache": {"name": "deep_forcing"}}
        )
        for i, record in enumerate(sorted((run / "samples").glob("*.json"))):
            video = record.with_suffix(".mp4")
            frames = np.random.default_rng(10 * number + i).integers(0, 255, (24, 16, 16, 3), np.uint8)
            with VideoWriter(video, 16, 16, fps=12) as writer:
                writer.write(frames)
            told = json.loads(record.read_text()) | {
                "sha256": sha256_file(video),
                "fps": 12,
                "frames": 24,
                "seconds": 2.0,
            }
            record.write_text(json.dumps(told))
        found.append(run)
    return found


@pytest.fixture
def make(command: Command, runs: list[Path], tmp_path: Path) -> Callable[..., Outcome]:
    def call(*words: str) -> Outcome:
        given = [f"runs=[{','.join(map(str, runs))}]", f"out={tmp_path / 'study'}", "pairs=4", "raters=5"]
        keys = {word.partition("=")[0] for word in words}
        return command("study", "make", *(word for word in given if word.partition("=")[0] not in keys), *words)

    return call


def answered(
    folder: Path, rater: int, prefer: Callable[[str, str | None], bool] = lambda question, opponent: True
) -> str:
    """What the page makes of a rater's choices. prefer: (question, opponent's run) -> whether the first video is chosen."""
    key = read_key(folder)
    lines = [",".join(HEADER)]
    for place, seen in enumerate(key.raters[rater - 1], start=1):
        pair = key.by_name[seen.pair]
        for question in key.questions:
            video = pair.first if prefer(question, pair.opponent) else pair.second
            choice = "A" if video == seen.a else "B"
            lines.append(f"{key.study},{rater},{place},{seen.pair},{question},{choice},{video},4.5")
    return "\n".join(lines) + "\n"


def test_the_page_does_not_tell_whose_video_is_whose(
    make: Callable[..., Outcome], runs: list[Path], tmp_path: Path
) -> None:
    status, out, _ = make()
    assert status == 0, out
    study = tmp_path / "study"
    key = read_key(study)
    files = [path for path in (study / "page").rglob("*") if path.is_file()]
    assert len(files) == key.videos + 1
    digests = {path.read_bytes() for path in files}
    assert len({path.stat().st_mtime for path in files if path.suffix == ".mp4"}) == 1
    secrets = [*LABELS, *(run.name for run in runs), "deep_forcing", *(p.sha256[0] for p in key.pairs)]
    for content in digests:
        assert not [secret for secret in secrets if secret.encode() in content]
    assert all(re.fullmatch("[0-9a-f]{16}.mp4", path.name) for path in files if path.suffix == ".mp4")
    names = [pair.pair for pair in key.pairs]
    assert names != sorted(names), "names of pairs do not follow the order of the runs"


def test_spoiled_copies_have_the_size_and_length_of_their_original(
    make: Callable[..., Outcome], tmp_path: Path
) -> None:
    make("checks=3")
    key = read_key(tmp_path / "study")
    checks = [pair for pair in key.pairs if pair.opponent is None]
    assert len(checks) == 3
    for pair in checks:
        files = [tmp_path / "study" / "page" / "videos" / f"{name}.mp4" for name in (pair.first, pair.second)]
        intact, spoiled = map(probe, files)
        assert (intact.width, intact.height, intact.fps, intact.frames) == (
            spoiled.width,
            spoiled.height,
            spoiled.fps,
            spoiled.frames,
        )
        a, b = (next(iter_frames(file)).astype(int) for file in files)
        assert abs(a - b).mean() > 20


def test_the_same_command_makes_the_same_study_and_another_is_not_overwritten(
    make: Callable[..., Outcome], tmp_path: Path
) -> None:
    make()
    before = {path: path.read_bytes() for path in (tmp_path / "study").rglob("*") if path.is_file()}
    (tmp_path / "study" / "key.json").unlink()  # killed before the end
    next((tmp_path / "study" / "page" / "videos").iterdir()).unlink()
    assert make().status == 0
    assert {path: path.read_bytes() for path in (tmp_path / "study").rglob("*") if path.is_file()} == before
    status, _, err = make("seed=1")
    assert (status, err.count("\n")) == (2, 1)
    assert "holds another study" in err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["pairs=7"], "pairs=7 is more than there are"),
        (["pairs=1"], "less than one for each of the 2 runs"),
        (["subject=nobody"], "subject=nobody is not one of the runs: ours-and-secret"),
        (["runs=nowhere"], "no such run directory: nowhere"),
        (["pairs=many"], "pairs=many must be a whole number"),
        (["raters=0"], "raters=0 must be a whole number of at least 1"),
    ],
)
def test_studies_that_cannot_be(words: list[str], says: str, make: Callable[..., Outcome], tmp_path: Path) -> None:
    status, out, err = make(*words)
    assert (status, out, err.count("\n")) == (2, "", 1)
    assert says in err
    assert not (tmp_path / "study").exists()


def test_runs_that_a_rater_would_tell_apart_are_refused(
    make: Callable[..., Outcome], runs: list[Path], tmp_path: Path
) -> None:
    record = next((runs[1] / "samples").glob("*.json"))
    told = json.loads(record.read_text())
    record.write_text(json.dumps(told | {"width": 32}))
    assert "differ in more than their policy" in make().err
    record.write_text(json.dumps(told))
    record.with_suffix(".mp4").write_bytes(b"other")
    assert "is not the video that its record describes" in make("pairs=6").err
    for name in {path.name for path in (runs[0] / "samples").iterdir()}:
        (runs[1] / "samples" / name).write_bytes((runs[0] / "samples" / name).read_bytes())
    assert "made the same video" in make().err
    assert "only ours-and-secret" in make(f"runs={runs[0]}").err
    assert not (tmp_path / "study").exists()


def table(command: Command, tmp_path: Path, *words: str) -> Outcome:
    return command("study", "table", f"study={tmp_path / 'study'}", f"answers={tmp_path}/*.csv", *words)


def test_the_table_counts_what_was_chosen(
    make: Callable[..., Outcome], command: Command, runs: list[Path], tmp_path: Path
) -> None:
    make()
    other = runs[1].name
    for rater in range(1, 5):  # all prefer ours to `other` in colour; half of them to the third; nobody in motion

        def prefer(question: str, opponent: str | None, rater: int = rater) -> bool:
            return opponent is None or (question != "motion" and (opponent == other or rater % 2 == 0))

        (tmp_path / f"answers-{rater}.csv").write_text(answered(tmp_path / "study", rater, prefer))
    status, out, err = table(command, tmp_path)
    assert (status, err) == (0, "")
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in out.splitlines()
        if line.startswith("|")
    }
    assert rows["other-policy"][1] == "8"  # 2 pairs x 4 raters
    assert rows["other-policy"][2].startswith("100.0 [")
    assert rows["other-policy"][3].startswith("0.0 [")
    assert rows["third-policy"][2].startswith("50.0 [")
    low, high = map(float, re.findall(r"[\d.]+", rows["other-policy"][2])[1:])
    assert (low, high) == (pytest.approx(51.0, abs=0.1), 100.0)  # Wilson's of 4 of 4
    assert rows["agreement"][3] == "–"  # all gave one answer: nothing could have disagreed
    assert "paper" not in out.split("\n\n")[0]
    assert table(command, tmp_path, f"out={tmp_path / 'table.csv'}").status == 0
    with open(tmp_path / "table.csv") as file:
        told = list(csv.DictReader(file))
    assert len(told) == 2 * len(QUESTIONS)
    assert {row["raters"] for row in told} == {"4"}


def test_the_papers_table_stands_beside_runs_of_its_kind(
    make: Callable[..., Outcome], command: Command, runs: list[Path], tmp_path: Path
) -> None:
    for run, generator, cache in zip(
        runs, ("deep_forcing", "self_forcing", "self_forcing"), ("deep_forcing", "self_forcing", "sink"), strict=True
    ):
        record = json.loads((run / "run.json").read_text())
        record["spec"] = {"generator": {"_target_": f"baselines.x.{generator}"}, "cache": {"name": cache}}
        (run / "run.json").write_text(json.dumps(record))
    make()
    (tmp_path / "answers-1.csv").write_text(answered(tmp_path / "study", 1))
    out = table(command, tmp_path).out
    assert out.count("paper") >= 1
    assert "| 85.9 | 86.9 | 84.8 | 87.9 |" in out
    assert "One rater gives no interval" in out
    other = table(command, tmp_path, "format=latex").out
    assert "85.9 & 86.9" in other


def changed(text: str, line: int, cell: int, value: str) -> str:
    rows = [row.split(",") for row in text.splitlines()]
    rows[line][cell] = value
    return "\n".join(map(",".join, rows)) + "\n"


FAULTS: dict[str, tuple[Callable[[str], str], str]] = {
    "another study": (lambda t: t.replace(t.split("\n")[1][:12], "0123456789ab"), "answers of another study"),
    "cut in a line": (lambda t: t[: len(t) // 2], "was cut off in line"),
    "cut after a line": (lambda t: "\n".join(t.split("\n")[:9]) + "\n", r"was cut off: it has 8 answers of 24"),
    "cut in its last number": (lambda t: t[: t.rstrip().rindex(",") + 1], "was cut off in line 25"),
    "empty": (lambda t: "", "is no file of answers"),
    "a web page": (lambda t: "<html>", "is no file of answers"),
    "a number that nobody has": (lambda t: changed(t, 3, 1, "77"), "line 4: rater '77' is not a number from 1 to 5"),
    "two raters": (lambda t: t + "\n".join(t.split("\n")[1:]).replace(",1,", ",2,", 1), r"line 26: rater 2 saw|second time"),
    "a choice that is none": (lambda t: changed(t, 2, 5, "C"), "line 3: choice 'C' is neither A nor B"),
    "an edited choice": (
        lambda t: changed(t, 2, 5, "B" if t.split("\n")[2].split(",")[5] == "A" else "A"), "line 3: video .* was not at",
    ),
    "a line twice": (lambda t: t + t.split("\n")[5] + "\n", "line 26: answers .* a second time"),
    "a formula": (lambda t: changed(t, 2, 7, "=1+1"), "line 3: seconds '=1"),
}  # fmt: skip


def test_files_that_cannot_be_counted(make: Callable[..., Outcome], command: Command, tmp_path: Path) -> None:
    """Each is a line; the others are counted, and the status says that not all were."""
    make()
    key = read_key(tmp_path / "study")
    bad, good = tmp_path / "a1.csv", tmp_path / "a2.csv"
    good.write_text(answered(tmp_path / "study", 2))
    for name, (spoil, says) in FAULTS.items():
        bad.write_text(spoil(answered(tmp_path / "study", 1)))
        gathered = gather([bad, good], key)
        assert [answers.rater for answers in gathered.answers] == [2], name
        (problem,) = gathered.problems
        assert re.search(rf"a1\.csv.*({says})", problem), (name, problem)
        assert "\n" not in problem
    status, out, err = table(command, tmp_path)
    assert (status, err.count("\n")) == (1, 1)
    assert "1 raters" in out
    good.unlink()
    status, out, err = table(command, tmp_path)
    assert (status, out, err.count("\n")) == (2, "", 2)


def test_raters_who_answered_twice_and_who_did_not_look(
    make: Callable[..., Outcome], command: Command, tmp_path: Path
) -> None:
    make()
    folder = tmp_path / "study"
    (tmp_path / "a1.csv").write_text(answered(folder, 1))
    (tmp_path / "a2.csv").write_text(answered(folder, 2))
    (tmp_path / "a2 (1).csv").write_text(answered(folder, 2))
    status, out, err = table(command, tmp_path)
    assert status == 1
    assert "rater 2 is there 2 times with the same answers" in err
    assert "2 raters" in out
    (tmp_path / "a2 (1).csv").write_text(answered(folder, 2, lambda question, opponent: question != "motion"))
    status, out, err = table(command, tmp_path)
    assert (status, err.count("\n")) == (1, 1)
    assert "rater 2 answered twice, and differently" in err
    assert "1 raters" in out
    (tmp_path / "a2 (1).csv").unlink()
    (tmp_path / "a2.csv").write_text(answered(folder, 2, lambda question, opponent: opponent is not None))
    status, out, err = table(command, tmp_path)
    assert status == 0
    assert "rater 2 preferred a spoiled video" in err
    assert "Left out for preferring a spoiled video: 1 raters" in out


def test_wrong_words(
    make: Callable[..., Outcome], command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    monkeypatch.chdir(tmp_path)
    for words, says in {
        "": "say study make or study table",
        "mak": "not 'mak'",
        "table": "studies/study is no study",
        "table study=study": "no answers given",
        "table study=study answers=nothing*.csv": "there is no such file",
        "table study=study answers=x out=t.parquet": "use markdown, latex or csv",
    }.items():
        status, out, err = command("study", *words.split())
        assert (status, out, err.count("\n")) == (2, "", 1)
        assert says in err


def test_a_damaged_key_is_one_line(make: Callable[..., Outcome], command: Command, tmp_path: Path) -> None:
    make()
    path = tmp_path / "study" / "key.json"
    whole = path.read_text()
    for text in (
        whole[:100],
        "[]",
        whole.replace('"questions"', '"qestions"'),
        whole.replace('"schema": 1', '"schema": 9'),
    ):
        path.write_text(text)
        status, out, err = table(command, tmp_path, f"answers={path}")
        assert (status, out, err.count("\n")) == (2, "", 1), err
        assert "key.json" in err


# ---- as a rater ----------------------------------------------------------------------------------------------------


def clicks(page: Any, key: Key) -> None:
    """Answer one pair by clicking, as somebody who sees which copy is spoiled and prefers A otherwise."""
    page.click("#play")
    page.wait_for_function("document.getElementById('place').textContent")
    number = int(page.inner_text("#place").split()[1])
    seen = key.raters[0][number - 1]
    pair = key.by_name[seen.pair]
    side = ("A" if seen.a == pair.first else "B") if pair.opponent is None else "A"
    for question in QUESTIONS:
        page.locator(f"input[name={question}][value={side}]").check(force=True)
    page.wait_for_function("document.getElementById('next').getAttribute('aria-disabled') === 'false'", timeout=20_000)
    page.click("#next")


@pytest.mark.slow
def test_a_rater_from_beginning_to_end(make: Callable[..., Outcome], command: Command, tmp_path: Path) -> None:
    """Wrong number, too early, a reload half-way, keys, the file; and the table made of it."""
    with chromium() as browser:
        assert make("checks=1").status == 0
        key = read_key(tmp_path / "study")
        context = browser.new_context(accept_downloads=True)
        page = context.new_page()
        troubles: list[str] = []
        page.on(
            "console", lambda message: troubles.append(message.text) if message.type in ("error", "warning") else None
        )
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith(("file:", "data:", "blob:")) else troubles.append(request.url)
            ),
        )
        address = (tmp_path / "study" / "page" / "index.html").as_uri()
        page.goto(address)
        page.fill("#rater", "99")
        page.click("#begin button")
        assert "from 1 to 5" in page.inner_text("#begin-note")
        page.fill("#rater", "1")
        page.keyboard.press("Enter")
        page.click("#next", force=True)  # it is said to be disabled, and says why
        assert "watch both videos" in page.inner_text("#note")
        page.evaluate(
            "document.getElementById('scrub').value = 1; document.getElementById('scrub').dispatchEvent(new Event('input'))"
        )
        page.wait_for_timeout(200)
        page.click("#next", force=True)
        assert "watch both videos" in page.inner_text("#note"), "leaping to the end is not watching"
        clicks(page, key)
        assert page.inner_text("#place") == "Pair 2 of 5"
        page.goto(f"{address}?rater=1")
        page.click("#begin button")
        assert page.inner_text("#place") == "Pair 2 of 5", "what was answered is still there"
        offset = page.evaluate(
            "Math.abs(document.getElementById('video-a').currentTime - document.getElementById('video-b').currentTime)"
        )
        assert offset < 0.2
        for _ in range(3):
            clicks(page, key)
        page.keyboard.press(" ")
        check = key.by_name[key.raters[0][4].pair]
        right = "b" if check.opponent is None and key.raters[0][4].b == check.first else "a"
        page.wait_for_function("document.getElementById('video-a').currentTime > 0.3")
        for letter in ("b" if right == "a" else "a", "Backspace", right, right, right, right):
            page.keyboard.press(letter)
        page.wait_for_function(
            "document.getElementById('next').getAttribute('aria-disabled') === 'false'", timeout=20_000
        )
        page.keyboard.press("Enter")
        with page.expect_download() as download:
            page.keyboard.press("Enter")
        name = download.value.suggested_filename
        download.value.save_as(tmp_path / name)
        assert name == f"answers-{key.study}-01.csv"
        assert page.input_value("#text").strip() == (tmp_path / name).read_text().strip()
        phone = browser.new_context(viewport={"width": 360, "height": 740}, is_mobile=True, has_touch=True).new_page()
        phone.goto(f"{address}?rater=2")
        phone.tap("#begin button")
        assert phone.evaluate("document.documentElement.scrollWidth") <= 360
        assert min(phone.locator(".choice").nth(n).bounding_box()["height"] for n in range(8)) >= 44
        assert troubles == []
    answers = read_answers(tmp_path / name, key)
    assert len(answers.first) == 5 * len(QUESTIONS)
    assert answers.first[check.pair, "colour"] is (
        check.opponent is None or right == ("a" if key.raters[0][4].a == check.first else "b")
    )
    status, out, err = table(command, tmp_path)
    assert (status, err) == (0, "")
    assert "1 raters" in out
