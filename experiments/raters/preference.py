"""From answers to the table: how often the subject was preferred, and how far raters agree about it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from eval.stats.intervals import mean_interval
from experiments.raters.agreement import alpha
from experiments.raters.answers import Answers
from experiments.raters.key import Arm, Key
from experiments.tables.estimate import Estimate, number
from experiments.tables.layout import Cell, Grid, Head, value_and_interval, words
from experiments.tables.words import plural

Paper = Mapping[tuple[str, str], Mapping[str, float]]  # {(generator, cache): {question: %}}
PAPERS_SUBJECT = "deep_forcing"  # whose preference the paper's table prints


@dataclass(frozen=True)
class Preference:
    """shares: {(opponent's run, question): % who preferred the subject, of raters}. votes: {opponent's run: answers to one
    question}. agreement: {question: alpha}, and of all questions together under ""."""

    key: Key
    raters: int
    shares: Mapping[tuple[str, str], Estimate]
    votes: Mapping[str, int]
    agreement: Mapping[str, float]


def preference(answers: Sequence[Answers], key: Key) -> Preference:
    """The unit is the rater: each has a share of preferences over the pairs with an opponent, and the interval is Wilson's
    for shares (eval.stats.intervals), which speaks of other raters and these videos. Raises ValueError without answers."""
    if not answers:
        raise ValueError("no answers are left to count")
    shares, votes = {}, {}
    for opponent in key.opponents:
        own = [pair.pair for pair in key.pairs if pair.opponent == opponent.run]
        votes[opponent.run] = len(own) * len(answers)
        for question in key.questions:
            of_raters = np.array(
                [[np.mean([a.first[pair, question] for pair in own])] for a in answers], dtype=np.float64
            )
            mean, low, high, n = mean_interval(of_raters, (0.0, 1.0))
            shares[opponent.run, question] = Estimate(float(mean[0]), float(low[0]), float(high[0]), int(n[0])).times(
                100
            )
    compared = [pair.pair for pair in key.pairs if pair.opponent is not None]
    units = {q: [[a.first[pair, q] for a in answers] for pair in compared] for q in key.questions}
    agreement = {question: alpha(of) for question, of in units.items()}
    agreement[""] = alpha([unit for of in units.values() for unit in of])
    return Preference(key, len(answers), shares, votes, agreement)


def of_paper(arm: Arm, paper: Paper, subject: Arm) -> Mapping[str, float]:
    """The paper's row for a run, empty where it has none: its table is of Deep Forcing alone."""
    if not subject.cache.startswith(PAPERS_SUBJECT):
        return {}
    return paper.get((arm.generator, arm.cache), {})


def grid(found: Preference, paper: Paper) -> Grid:
    key = found.key
    beside = {arm.run: of_paper(arm, paper, key.subject) for arm in key.opponents}
    lines: list[tuple[Head, tuple[Cell, ...]]] = []
    for arm in key.opponents:
        cells = [value_and_interval(found.shares[arm.run, question], 1) for question in key.questions]
        lines.append((Head(arm.label), (*words("ours", str(found.votes[arm.run])), *cells)))
        if beside[arm.run]:
            paper_of = [beside[arm.run].get(question, math.nan) for question in key.questions]
            lines.append((Head(""), words("paper", "", *(number(each, 1) for each in paper_of))))
            ours = [found.shares[arm.run, question] for question in key.questions]
            away = [value_and_interval(e.minus(p), 1, test=True) for e, p in zip(ours, paper_of, strict=True)]
            lines.append((Head(""), (*words("difference", ""), *away)))
    alphas = words("alpha", "", *(number(found.agreement[question], 2) for question in key.questions))
    lines.append((Head("agreement"), alphas))
    heads = (Head(""), Head("answers"), *(Head(question) for question in key.questions))
    return Grid("against", heads, tuple(lines))


def notes(found: Preference, paper: Paper) -> list[str]:
    """What a reader must know, a sentence or more each."""
    key = found.key
    pairs = sum(pair.opponent is not None for pair in key.pairs)
    said = [
        f"% of answers that preferred {key.subject.label}: {plural(found.raters, 'rater')}, "
        f"{plural(pairs, 'pair')} of {key.seconds:.0f} s, study "
        f"{key.study}. Chance is 50.",
        "Intervals are Wilson's 95 % intervals with the rater as the unit: they speak of other raters and the same videos.",
        f"Agreement is Krippendorff's alpha over pairs; of all questions together {number(found.agreement[''], 2)}. Where "
        "nearly everybody prefers the same video alpha is low although few disagree.",
    ]  # fmt: skip
    if found.raters < 2:
        said.append("One rater gives no interval and no agreement.")
    if any(of_paper(arm, paper, key.subject) for arm in key.opponents):
        models = ", ".join(dict.fromkeys(arm.model for arm in (key.subject, *key.opponents)))
        said.append(f"The paper's numbers are of 24 people and the published weights; the videos here are of {models}.")
        said.append("Difference: ours less the paper's, with the interval of ours; the paper prints none of its own.")
    return said


def flat(found: Preference, paper: Paper) -> pd.DataFrame:
    """One line per opponent and question, for CSV."""
    key = found.key
    rows = []
    for arm in key.opponents:
        for question in key.questions:
            share = found.shares[arm.run, question]
            papers = of_paper(arm, paper, key.subject).get(question, math.nan)
            away = share.minus(papers)
            rows.append(
                {
                    "study": key.study, "subject": key.subject.label, "against": arm.label, "run": arm.run,
                    "question": question, "preferred": share.value, "low": share.low, "high": share.high,
                    "raters": found.raters, "answers": found.votes[arm.run], "alpha": found.agreement[question],
                    "paper": papers, "difference": away.value, "difference_low": away.low, "difference_high": away.high,
                }
            )  # fmt: skip
    return pd.DataFrame(rows)
