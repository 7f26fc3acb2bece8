"""The report's page in a real browser, used as a reader would."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from browser import chromium
from report_runs import draw, four_runs

pytestmark = pytest.mark.slow


def state(page: Any) -> dict[str, Any]:
    found: dict[str, Any] = page.evaluate("deepforcingReport.state()")
    return found


def column(page: Any, at: int) -> list[str]:
    rows = page.locator(".scroll table").first.locator("tbody tr:visible")
    return [row.locator("td").nth(at).inner_text().split("\n")[0] for row in rows.all()]


@pytest.mark.parametrize("megabytes", [60, 0.0001], ids=["inside", "beside"])
def test_a_reader_plays_seeks_sorts_and_filters(tmp_path: Path, megabytes: float) -> None:
    out = tmp_path / "out" / "page.html"
    draw(out, *four_runs(tmp_path), page_megabytes=megabytes)
    with chromium() as browser:
        page = browser.new_page()
        troubles: list[str] = []
        page.on("console", lambda m: troubles.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith(("file:", "data:", "blob:")) else troubles.append(r.url))
        page.goto(out.as_uri())
        page.wait_for_function("deepforcingReport.state().ready === deepforcingReport.state().shown")
        assert state(page) | {"now": 0, "playing": False, "shown": 12, "errors": 0} == state(page)

        page.click("#play")
        page.wait_for_function("deepforcingReport.state().now > 1")
        assert state(page)["spread"] < 0.3, "the videos are in step"
        page.click("#play")
        assert not state(page)["playing"]
        curve = page.locator("figure[data-metric=colour_drift] svg.panel")
        box = curve.bounding_box()
        x0, x1 = (float(curve.get_attribute(f"data-{end}")) for end in ("x0", "x1"))
        wide = float(curve.get_attribute("viewBox").split()[2])
        curve.click(position={"x": (x0 + 0.5 * (x1 - x0)) / wide * box["width"], "y": box["height"] / 2})
        assert state(page)["now"] == pytest.approx(6, abs=0.15), "half of 12 s"
        at = curve.locator(".cursor").get_attribute("transform")
        assert float(at.split("(")[1].split()[0]) == pytest.approx((x1 - x0) * state(page)["now"] / 12, abs=0.1)

        page.locator("th.sorts[data-metric=colour_drift]").first.click()
        falling = [float(text.split("→")[-1]) for text in column(page, 0)]
        page.locator("th.sorts[data-metric=colour_drift]").first.click()
        assert [float(text.split("→")[-1]) for text in column(page, 0)] == falling[::-1]
        assert falling == sorted(falling, reverse=True)

        page.click("button[data-toggle='1']")
        assert state(page)["shown"] == 9
        assert len(column(page, 0)) == 3
        assert page.locator("svg.panel [style*='var(--run1)']:visible").count() == 0
        page.click("button[data-toggle='1']")
        assert state(page)["shown"] == 12
        page.fill("#metrics", "strange")
        assert page.locator("figure[data-metric]:visible").count() == 1
        assert page.locator("th[data-metric=colour_drift]:visible").count() == 0
        page.fill("#metrics", "no such words")
        assert page.locator("#nothing").is_visible()
        page.fill("#metrics", "")
        page.fill("#prompts", "ring blue")
        assert page.locator(".prompt:visible").count() == 1
        assert state(page)["shown"] == 4
        page.locator(".prompt:visible .strip-button").click()
        page.wait_for_selector(".strip[data-done]")
        assert page.locator(".strip canvas").count() == 4 * 9
        page.locator(".strip canvas").nth(8).click()
        assert state(page)["now"] == pytest.approx(12, abs=0.2)
        page.fill("#prompts", "")

        assert page.locator(".spread:visible").count() > 0, "three prompts: their spread, not the wide interval"
        page.select_option("#bands", "interval")
        assert page.locator(".spread:visible").count() == 0
        assert page.locator(".interval:visible").count() > 0
        page.select_option("#bands", "none")
        assert page.locator(".interval:visible").count() == 0

        page.locator("td.num").first.click()
        card = page.locator(".card")
        assert "python -m experiments.rollout label=" in card.inner_text()
        record = card.locator("a").first
        assert (out.parent / record.get_attribute("href")).resolve().is_file()
        card.locator("a").last.click()
        assert page.locator("details[open][id^=run]").count() == 1

        page.set_viewport_size({"width": 390, "height": 844})
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, "a phone need not scroll sideways"
        assert not troubles
