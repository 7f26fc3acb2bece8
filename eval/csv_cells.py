"""Text in the cells of a csv file that people open in a spreadsheet, which runs what looks like a formula."""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "＝", "＋", "－", "＠")  # also as wide as in Chinese and Japanese


def guarded(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would calculate it; `bare` takes it off."""
    return f"'{text}" if text.lstrip("'").startswith(FORMULA) else text


def bare(text: str) -> str:
    return text[1:] if text.startswith("'") and text.lstrip("'").startswith(FORMULA) else text
