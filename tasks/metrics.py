"""The numbers GLUE reports, from arrays of predictions and labels.

Written out in numpy: importing scikit-learn and SciPy takes longer than most evaluations. The tests
compare every one with theirs.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

DEVIATIONS = 3.0902  # of a normal distribution, exceeded with probability 0.001

if TYPE_CHECKING:
    from tasks.task import Task


def compute_metrics(task: Task, predictions: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Score predictions the way GLUE does for this task.

    Args:
        predictions: class ids, integer [n], or scores, float [n] or [n, 1].
        labels: class ids or scores, [n].

    Returns:
        {acc}, {acc, f1, acc_and_f1}, {acc, f1}, {acc, macro_f1}, {mcc} or {pearson, spearmanr, corr}, as
        `task.metric` says.
        Matthews and the correlations are 0 where one side is constant, and NaN where a score is.

    Raises:
        ValueError: nothing to score, or arrays of different lengths.
    """
    predictions, labels = np.asarray(predictions).reshape(-1), np.asarray(labels).reshape(-1)
    if len(predictions) != len(labels) or len(labels) == 0:
        raise ValueError(f"{len(predictions)} predictions for {len(labels)} labels")
    if task.metric == "mcc":
        if task.num_labels == 2:  # of two classes Matthews' coefficient is the correlation
            return {"mcc": correlation(predictions, labels)}
        return {"mcc": matthews(predictions, labels, task.num_labels)}
    if task.metric == "corr":
        pearson = correlation(predictions, labels)
        spearman = correlation(average_ranks(predictions), average_ranks(labels))
        return {"pearson": pearson, "spearmanr": spearman, "corr": (pearson + spearman) / 2}
    acc = float(np.mean(predictions == labels))
    if task.metric == "acc":
        return {"acc": acc}
    if task.metric == "macro_f1":
        each = [f1_score(predictions, labels, c) for c in range(task.num_labels)]
        return {"acc": acc, "macro_f1": float(np.mean(each))}
    f1 = f1_score(predictions, labels)
    both = {"acc_and_f1": (acc + f1) / 2} if task.metric == "acc_and_f1" else {}
    return {"acc": acc, "f1": f1, **both}


def chance_score(task: Task, labels: np.ndarray) -> float:
    """The main metric that answers which know nothing of the rows exceed once in a thousand times.

    They may be the same for every row, or drawn at random, one class more often than the others; the
    highest of what such answers reach is returned, at most 1. It is a normal approximation.
    """
    rows = len(labels)
    if task.main_metric in ("mcc", "corr"):  # mean 0, variance 1 / (n - 1), whatever is answered
        return min(1.0, DEVIATIONS / math.sqrt(max(rows - 1, 1)))
    if task.main_metric in ("f1", "macro_f1"):
        return _chance_f1(np.bincount(labels, minlength=task.num_labels), task.main_metric)
    counts = np.sort(np.bincount(labels, minlength=task.num_labels))[::-1]
    often = np.linspace(1 / len(counts), 1, 200)  # the largest class; the others share the rest
    shares = np.stack([often, *[(1 - often) / (len(counts) - 1)] * (len(counts) - 1)])
    mean = counts @ shares / rows
    deviation = np.sqrt(counts @ (shares * (1 - shares))) / rows
    return min(1.0, float(np.max(mean + DEVIATIONS * deviation)))


def _chance_f1(counts: np.ndarray, metric: str) -> float:
    """`chance_score` of an F1, by drawing: there is no short formula.

    Args:
        counts: rows of each class.
    """
    generator, classes = np.random.default_rng(0), len(counts)
    highest = 0.0
    for often in np.linspace(1 / classes, 1, 11):
        for largest in range(classes):
            shares = np.full(classes, (1 - often) / max(classes - 1, 1))
            shares[largest] = often
            # [draws, class, answer]
            answers = np.stack([generator.multinomial(n, shares, 2000) for n in counts], 1)
            hits = np.diagonal(answers, axis1=1, axis2=2)
            f1 = 2 * hits / np.maximum(answers.sum(1) + counts, 1)  # [draws, class]
            scores = f1[:, 1] if metric == "f1" else f1.mean(1)
            highest = max(highest, float(np.quantile(scores, 0.999)))
    return min(1.0, highest)


def f1_score(predictions: np.ndarray, labels: np.ndarray, of: int = 1) -> float:
    """F1 of a class: 2·TP / (2·TP + FP + FN), 0 where neither side has it."""
    positives = int(np.sum(predictions == of)) + int(np.sum(labels == of))
    hits = int(np.sum((predictions == of) & (labels == of)))
    return 2 * hits / positives if positives else 0.0


def matthews(predictions: np.ndarray, labels: np.ndarray, classes: int) -> float:
    """Matthews' correlation of several classes (Gorodkin, 2004); 0 where one side is constant."""
    given, answered = (np.eye(classes)[values] for values in (labels, predictions))
    given, answered = given - given.mean(0), answered - answered.mean(0)
    scale = math.sqrt((given**2).sum() * (answered**2).sum())
    return float((given * answered).sum() / scale) if scale else 0.0


def correlation(left: np.ndarray, right: np.ndarray) -> float:
    """Pearson's correlation of two vectors [n]; 0 where one is constant."""
    left, right = left.astype(np.float64), right.astype(np.float64)
    if np.ptp(left) == 0 or np.ptp(right) == 0:
        return 0.0
    with np.errstate(invalid="ignore"):  # scores that are not finite give NaN, which is the answer
        left, right = left - left.mean(), right - right.mean()
        # Each is scaled by itself first: the product of two tiny norms would underflow.
        cosine = (left / np.linalg.norm(left)) @ (right / np.linalg.norm(right))
    return float(np.clip(cosine, -1.0, 1.0))


def average_ranks(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, float [n]; equal values share the mean of theirs, NaN has none."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    return np.where(np.isnan(values), np.nan, (last - (counts - 1) / 2)[places])
