"""The numbers GLUE reports, from arrays of predictions and labels.

Written out in numpy: importing scikit-learn and SciPy takes longer than most evaluations. The tests
compare every one with theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

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
    """The main metric of the best answer that is the same for every row: what knowing nothing scores."""
    answers = np.unique(labels) if task.labels is not None else [0.0]
    constant = (np.full(len(labels), answer) for answer in answers)
    return max(compute_metrics(task, answer, labels)[task.main_metric] for answer in constant)


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
