"""Predictions as files: GLUE's submissions, and the same for other splits with the labels beside them."""

from __future__ import annotations

import os

import numpy as np

from files.atomic import atomic_open
from tasks.task import Task

_SUBMISSIONS = {("mnli", "test_matched"): "MNLI-m.tsv", ("mnli", "test_mismatched"): "MNLI-mm.tsv",
                ("ax", "test"): "AX.tsv"}  # fmt: skip


def submission_name(task: Task, split: str) -> str:
    """The name the GLUE site wants for a test set's predictions: RTE.tsv, MNLI-mm.tsv, AX.tsv."""
    if split not in task.test_files:
        raise ValueError(f"{split} is not a test set of {task.folder}")
    return _SUBMISSIONS.get((task.key, split), f"{task.folder}.tsv")


def write_predictions(
    task: Task,
    path: str | os.PathLike,
    predictions: np.ndarray,
    labels: np.ndarray | None = None,
) -> None:
    """Write a GLUE submission: index and label name a line; STS-B scores are clipped to 0..5.

    Args:
        predictions: class ids, or scores for regression, [n] or [n, 1], in the order of the file.
        labels: the right ones, [n], for a third column, which no submission has.

    Raises:
        ValueError: a class id the task does not have, or a score that is not finite.
    """
    columns = {"prediction": _written(task, predictions)}
    if labels is not None:
        columns["label"] = _written(task, labels)
    with atomic_open(path) as file:
        file.write("\t".join(["index", *columns]) + "\n")
        for index, names in enumerate(zip(*columns.values(), strict=True)):
            file.write("\t".join([str(index), *names]) + "\n")


def _written(task: Task, answers: np.ndarray) -> list[str]:
    values = np.asarray(answers).reshape(-1)
    if task.labels is None:
        if not np.isfinite(values).all():
            raise ValueError("a predicted score is not finite")
        if task.score_range is not None:
            values = np.clip(values.astype(np.float64), *task.score_range)
        return [f"{value:.3f}" for value in values]
    if ((values < 0) | (values >= len(task.labels))).any():
        raise ValueError(f"a predicted class is not one of the {len(task.labels)} labels")
    return [task.labels[value] for value in values]
