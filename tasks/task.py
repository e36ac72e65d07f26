"""What every task is to the programs: its files, rows and labels, its classifier, its score.

GLUE's tasks are in `tasks.glue`, one's own in `tasks.own`; each says where its rows are (`open_rows`) and
how a label is read (`read_label`).
"""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from files.errors import UserError
from tasks.layout import Layout, plain

Rows = Iterator[tuple[int, list[str]]]  # line number in the file, fields


@dataclass(frozen=True)
class Task:
    """A task of texts, or of pairs of them, with a label each.

    Attributes:
        key: tells the task from others; `folder` is its name for people.
        labels: the strings in the files in the order of the class ids, None for regression.
        label_names: the words that other people's models use for them.
        metric: what is computed (see `tasks.metrics`); `main_metric` the one number by which a model is
            selected.
        intermediate_epochs, max_length, augment_n: defaults of the programs.
        pair: whether a row has two texts.
        definition: of a task of one's own, what its file says, for records.
        score_range: what a regression's scores are limited to in files of predictions.
    """

    key: str
    folder: str
    labels: tuple[str, ...] | None
    label_names: tuple[str, ...] | None = None
    metric: str = "acc"
    main_metric: str = "acc"
    intermediate_epochs: int = 3
    max_length: int = 128
    augment_n: int = 30
    pair: bool = False
    score_range: tuple[float, float] | None = (0.0, 5.0)
    has_train: bool = True
    definition: Mapping[str, Any] | None = None
    dev_files: Mapping[str, str] = field(default_factory=lambda: {"dev": "dev.tsv"})
    test_files: Mapping[str, str] = field(default_factory=lambda: {"test": "test.tsv"})

    @property
    def num_labels(self) -> int:
        """Width of the classifier: 1 for regression."""
        return 1 if self.labels is None else len(self.labels)

    def files(self) -> dict[str, str]:
        """Split -> the name of its file."""
        train = {"train": "train.tsv", "train_aug": "train_aug.tsv"} if self.has_train else {}
        return {**train, **self.dev_files, **self.test_files}

    def advice(self, split: str) -> str:
        """What to do where a split's file is missing."""
        return "give the folder that holds it"

    def open_rows(self, path: Path, split: str) -> tuple[Layout, Rows]:
        """Where the columns of a split's file are, and its rows.

        Raises:
            UserError: `FILE:LINE` and what is wrong; with a row, when that row is reached.
        """
        raise NotImplementedError  # each kind of task says how

    def is_label(self, text: str) -> bool:
        """Whether a text is a label of the task in any of the ways in which labels are written."""
        raise NotImplementedError  # each kind of task says how

    def label_reader(self, path: Path, first: str) -> Any:
        """What `read_label` is handed for a file whose first label is `first`."""
        return None

    def read_label(self, reader: Any, text: str, path: Path, line: int) -> int | float:
        """The class id of a label, or the score.

        Raises:
            UserError: `FILE:LINE`: it is neither.
        """
        raise NotImplementedError  # each kind of task says how


@dataclass
class Examples:
    """One split. `ids` are line numbers in the file, int64 [n]; labels int64 or float32 [n]."""

    ids: np.ndarray
    text_a: list[str]
    text_b: list[str] | None
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.text_a)


def split_path(task: Task, data_dir: str | os.PathLike, split: str) -> Path:
    """Where a split's file is; `split` is train, train_aug, or one of the task's dev or test sets.

    Raises:
        UserError: the task has no such split, or its file is missing.
    """
    files = task.files()
    if split not in files:
        raise UserError(f"{task.folder} has no split {split}; expected one of {', '.join(files)}")
    path = Path(data_dir) / files[split]
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; expected the {split} set of {task.folder}; {task.advice(split)}"
        )
    return path


def dev_splits(task: Task, data_dir: str | os.PathLike) -> list[str]:
    """The dev sets that are there, the one models are selected on first.

    Raises:
        UserError: that one is missing. A missing further one (MNLI mismatched) is only a note.
    """
    first, *others = task.dev_files or {"dev": ""}
    split_path(task, data_dir, first)
    there = [split for split in others if (Path(data_dir) / task.dev_files[split]).is_file()]
    for split in others:
        if split not in there:
            print(f"note: {data_dir}: no {task.dev_files[split]}, not evaluated", file=sys.stderr)
    return [first, *there]


def read_split(task: Task, data_dir: str | os.PathLike, split: str) -> Examples:
    """Read one split; a test set has labels only where its file names a column of them and they are
    known, as in MRPC's own.

    Raises:
        UserError: `FILE:LINE` and what is wrong: encoding, columns, label, no rows, no such split.
    """
    parts = list(read_parts(task, data_dir, split))
    first = parts[0]
    return Examples(
        np.concatenate([part.ids for part in parts]),
        [text for part in parts for text in part.text_a],
        None if first.text_b is None else [text for part in parts for text in part.text_b],
        None if first.labels is None else np.concatenate([part.labels for part in parts]),
    )


def read_parts(
    task: Task, data_dir: str | os.PathLike, split: str, part_rows: int = 1 << 14
) -> Iterator[Examples]:
    """Yield a split `part_rows` rows at a time; no more of it is held in memory. See `read_split`."""
    path, layout, rows = open_rows(task, data_dir, split)
    a, b, label = layout.columns
    dtype = np.float32 if task.labels is None else np.int64
    number, reader = 0, None
    while part := list(itertools.islice(rows, part_rows)):
        labels = None
        if not number and label is not None:
            first = part[0][1][label]
            if split in task.test_files and not task.is_label(first):
                label = None  # a column is there, but the labels of this test set are hidden
            else:
                reader = task.label_reader(path, first)
        if label is not None:
            found = [task.read_label(reader, fields[label], path, line) for line, fields in part]
            labels = np.array(found, dtype=dtype)
        yield Examples(
            np.array([line for line, _ in part], dtype=np.int64),
            [fields[a] for _, fields in part],
            None if b is None else [fields[b] for _, fields in part],
            labels,
        )
        number += len(part)
    if not number:
        raise UserError(f"{path}: no rows below the header; expected the {split} set")


def open_rows(task: Task, data_dir: str | os.PathLike, split: str) -> tuple[Path, Layout, Rows]:
    """A split's file, where its columns are, and its rows with their line numbers.

    Raises:
        UserError: as `read_split`; for what is wrong with a row when that row is reached.
    """
    path = split_path(task, data_dir, split)
    return path, *task.open_rows(path, split)


def check_label_order(
    task: Task, id2label: Mapping | None, source: str = "config.json"
) -> np.ndarray:
    """How to bring a model's classes into the order of `task.labels`.

    Args:
        id2label: the model's own names of its classes, as in its config.json; None trusts it.
        source: the file to name in messages.

    Returns:
        p, int64 [num_labels]: our_logits = their_logits[:, p]. MNLI models of other people often
        have entailment, neutral, contradiction, for which p is [2, 0, 1].

    Raises:
        UserError: another number of classes, or names that are not this task's.
    """
    identity = np.arange(task.num_labels, dtype=np.int64)
    if not id2label:
        return identity
    try:
        theirs = {int(number): plain(name) for number, name in id2label.items()}
    except (AttributeError, TypeError, ValueError):
        theirs = {}
    names = ", ".join(task.labels or ("one score",))
    if sorted(theirs) != list(range(task.num_labels)):
        raise UserError(
            f"{source}: id2label {id2label} does not name the {task.num_labels} outputs of "
            f"{task.folder} ({names}); use a model made for this task"
        )
    if task.labels is None:
        return identity
    exact = {str(name): int(number) for number, name in id2label.items()}
    if all(name in exact for name in task.labels):
        return np.array([exact[name] for name in task.labels], dtype=np.int64)
    if all(theirs[number] in (f"label{number}", str(number)) for number in theirs):
        if task.labels != ("0", "1"):
            print(f"note: {source} does not name its labels, assuming {names}", file=sys.stderr)
        return identity
    number_of = {name: number for number, name in theirs.items()}
    for ours in (task.labels, task.label_names or ()):
        places = [number_of.get(plain(name)) for name in ours]
        if places and None not in places and len(set(places)) == len(places):
            return np.array(places, dtype=np.int64)
    wanted = names + (f" or {', '.join(task.label_names)}" if task.label_names else "")
    raise UserError(
        f"{source}: id2label names {', '.join(map(str, id2label.values()))}; expected {wanted} for "
        f"{task.folder}, in any order; correct id2label or use a model made for this task"
    )
