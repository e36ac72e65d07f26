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
    from tasks.glue import GlueTask


def compute_metrics(
    task: GlueTask, predictions: np.ndarray, labels: np.ndarray
) -> dict[str, float]:
    """Score predictions the way GLUE does for this task.

    Args:
        predictions: class ids, integer [n], or scores, float [n] or [n, 1].
        labels: class ids or scores, [n].

    Returns:
        {acc}, {acc, f1, acc_and_f1}, {mcc} or {pearson, spearmanr, corr}, as `task.metric` says.
        Matthews and the correlations are 0 where one side is constant, and NaN where a score is.

    Raises:
        ValueError: nothing to score, or arrays of different lengths.
    """
    predictions, labels = np.asarray(predictions).reshape(-1), np.asarray(labels).reshape(-1)
    if len(predictions) != len(labels) or len(labels) == 0:
        raise ValueError(f"{len(predictions)} predictions for {len(labels)} labels")
    if task.metric == "mcc":
        return {"mcc": correlation(predictions, labels)}  # of two classes: Matthews' coefficient
    if task.metric == "corr":
        pearson = correlation(predictions, labels)
        spearman = correlation(average_ranks(predictions), average_ranks(labels))
        return {"pearson": pearson, "spearmanr": spearman, "corr": (pearson + spearman) / 2}
    acc = float(np.mean(predictions == labels))
    if task.metric == "acc":
        return {"acc": acc}
    f1 = f1_score(predictions, labels)
    return {"acc": acc, "f1": f1, "acc_and_f1": (acc + f1) / 2}


def chance_score(task: GlueTask, labels: np.ndarray) -> float:
    """The main metric that answers which know nothing of the rows exceed once in a thousand times.

    They may be the same for every row, or drawn at random, one class more often than the others; the
    highest of what such answers reach is returned, at most 1. It is a normal approximation.
    """
    rows = len(labels)
    if task.main_metric in ("mcc", "corr"):  # mean 0, variance 1 / (n - 1), whatever is answered
        return min(1.0, DEVIATIONS / math.sqrt(max(rows - 1, 1)))
    counts = np.sort(np.bincount(labels, minlength=task.num_labels))[::-1]
    often = np.linspace(1 / len(counts), 1, 200)  # the largest class; the others share the rest
    shares = np.stack([often, *[(1 - often) / (len(counts) - 1)] * (len(counts) - 1)])
    mean = counts @ shares / rows
    deviation = np.sqrt(counts @ (shares * (1 - shares))) / rows
    return min(1.0, float(np.max(mean + DEVIATIONS * deviation)))


def f1_score(predictions: np.ndarray, labels: np.ndarray) -> float:
    """F1 of class 1: 2·TP / (2·TP + FP + FN), 0 where neither side has it."""
    positives = int(np.sum(predictions == 1)) + int(np.sum(labels == 1))
    hits = int(np.sum((predictions == 1) & (labels == 1)))
    return 2 * hits / positives if positives else 0.0


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
