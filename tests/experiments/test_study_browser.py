"""A rater's whole way through the page, in a browser."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from commands import Command, Outcome
from rated_runs import make_study, table, three_runs

from experiments.raters.answers import read_answers
from experiments.raters.design import QUESTIONS
from experiments.raters.key import Key, read_key


@pytest.fixture
def runs(tmp_path: Path) -> list[Path]:
    return three_runs(tmp_path)


@pytest.fixture
def make(command: Command, runs: list[Path], tmp_path: Path) -> Callable[..., Outcome]:
    return make_study(command, runs, tmp_path)


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
    assert "1 rater," in out
