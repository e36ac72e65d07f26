"""Exact match and F1 of answers, by the rules of SQuAD's own evaluation."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

import numpy as np

from tasks.squad import Questions

_ARTICLES = re.compile(r"\b(a|an|the)\b", re.UNICODE)
_PUNCTUATION = str.maketrans("", "", string.punctuation)
# Hiragana, katakana, CJK ideographs, Hangul: scripts without spaces count by character.
_CJK = re.compile(r"([\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff])")
_CJK_PUNCTUATION = str.maketrans(dict.fromkeys("，。、；：？！“”‘’（）《》〈〉「」『』【】…—–·～"))
METRICS = ("squad", "cjk")


def normalise(text: str, metric: str = "squad") -> str:
    """Lower case, no ASCII punctuation, no articles, single spaces; `cjk` also sets characters apart."""
    text = text.lower().translate(_PUNCTUATION)
    if metric == "cjk":
        text = _CJK.sub(r" \1 ", text.translate(_CJK_PUNCTUATION))
    return " ".join(_ARTICLES.sub(" ", text).split())


def f1(answer: str, gold: str) -> float:
    """2PR / (P + R) of the words of two normalised texts; 1 if both have none, 0 if one has."""
    ours, theirs = answer.split(), gold.split()
    if not ours or not theirs:
        return float(ours == theirs)
    common = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * common / (len(ours) + len(theirs)) if common else 0.0


def question_scores(
    questions: Questions, answers: Sequence[str], metric: str = "squad"
) -> np.ndarray:
    """Exact match and F1 of each question, float64 [n, 2]: the best over its right answers.

    A right answer of which nothing is left once it is normalised counts only where it is the only kind;
    a question without an answer is answered right by "".
    """
    golds: dict[str, str] = {}
    scores = np.zeros((len(questions), 2))
    for i, (answer, right) in enumerate(zip(answers, questions.answers, strict=True)):
        ours = normalise(answer, metric)
        for gold in right:
            if gold not in golds:
                golds[gold] = normalise(gold, metric)
        wanted = [golds[gold] for gold in right if golds[gold]] or [""]
        if ours in wanted:
            scores[i] = 1, 1
        else:
            scores[i, 1] = max(f1(ours, gold) for gold in wanted)
    return scores


def metrics_of(
    questions: Questions,
    answers: Sequence[str],
    odds: np.ndarray | None = None,
    texts: Sequence[str] = (),
    metric: str = "squad",
) -> dict[str, float]:
    """Exact match, F1, and their number, each × 100; of SQuAD 2.0 also of both kinds of questions.

    Args:
        answers: of each question; "" says that it has none.
        odds: of SQuAD 2.0, how much higher no answer scores than the best one, [n]; the threshold that would
            have been best is then reported as well.
        texts: the best answers, whatever the odds; with `odds`.
    """
    scores = 100 * question_scores(questions, answers, metric)
    exact, f1_mean = scores.mean(0)
    found = {"exact": float(exact), "f1": float(f1_mean), "total": len(questions)}
    has = ~questions.impossible
    for name, rows in (("HasAns", has), ("NoAns", ~has)):
        if rows.any() and (name == "HasAns" or odds is not None):
            means = scores[rows].mean(0)
            found |= {
                f"{name}_exact": float(means[0]), f"{name}_f1": float(means[1]),
                f"{name}_total": int(rows.sum()),
            }  # fmt: skip
    if odds is None:
        return found | {
            "best_exact": found["exact"], "best_exact_thresh": 0.0,
            "best_f1": found["f1"], "best_f1_thresh": 0.0,
        }  # fmt: skip
    answered = question_scores(questions, texts, metric)
    for column, name in enumerate(("exact", "f1")):
        best, threshold = best_threshold(answered[:, column], ~has, odds, texts)
        found |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    return found


def best_threshold(
    scores: np.ndarray, impossible: np.ndarray, odds: np.ndarray, texts: Sequence[str]
) -> tuple[float, float]:
    """The best mean score × 100 that a threshold of the odds reaches, and that threshold.

    Args:
        scores: of the best answers, float64 [n].
        impossible: bool [n].
        odds: answers with odds up to the threshold are given, others are "".
    """
    wrong = np.array([-1.0 if text else 0.0 for text in texts])
    order = np.argsort(odds, kind="stable")
    gains = np.where(impossible, wrong, scores)[order]
    reached = impossible.sum() + np.concatenate([[0.0], np.cumsum(gains)])
    ordered = odds[order]
    # Between equal odds there is no threshold.
    possible = np.append(True, np.append(ordered[1:] != ordered[:-1], True))
    reached = np.where(possible, reached, -np.inf)
    best = int(reached.argmax())
    threshold = 0.0 if best == 0 else float(ordered[best - 1])
    if best == 0 and len(ordered) and ordered[0] <= 0:
        threshold = float(np.nextafter(ordered[0], -np.inf))
    return float(100 * reached[best] / len(scores)), threshold
