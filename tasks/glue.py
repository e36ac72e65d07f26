"""The nine GLUE tasks and the diagnostic set: columns, labels, defaults, readers.

A new task is one line in `TASKS`; where a file has its columns is in `tasks.layout`, how its rows are
read in `tasks.tsv`.
"""

from __future__ import annotations

import itertools
import os
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from files.errors import UserError
from tasks.layout import (
    MRPC,
    PAIR,
    QNLI,
    QQP,
    SENTENCE,
    Columns,
    Layout,
    Names,
    find_layout,
    is_label,
    label_ids,
    plain,
    read_label,
)
from tasks.tsv import read_rows


@dataclass(frozen=True)
class GlueTask:
    """What a task's files look like and what the published programs use for it.

    `labels` are the strings in the files and submissions in the order of the class ids, None for
    regression; `label_names` are the words other people's models use for them, `hub_order` is the order
    of the Hub's numbers where it is another. `columns` hold where a header names nothing that is known,
    `widths` are those of official files where they vary. `metric` is what is computed (see
    `tasks.metrics`), `main_metric` the one number by which a model is selected.
    """

    key: str
    folder: str
    columns: Columns
    test_columns: Columns
    labels: tuple[str, ...] | None
    label_names: tuple[str, ...] | None = None
    names: Names = PAIR
    hub_order: tuple[str, ...] | None = None
    widths: tuple[int, ...] = ()
    metric: str = "acc"
    main_metric: str = "acc"
    intermediate_epochs: int = 3
    max_length: int = 128
    augment_n: int = 30
    has_header: bool = True
    has_train: bool = True
    skip_short_rows: bool = False
    dev_files: Mapping[str, str] = field(default_factory=lambda: {"dev": "dev.tsv"})
    test_files: Mapping[str, str] = field(default_factory=lambda: {"test": "test.tsv"})

    @property
    def pair(self) -> bool:
        return self.columns.text_b is not None

    @property
    def num_labels(self) -> int:
        """Width of the classifier: 1 for regression."""
        return 1 if self.labels is None else len(self.labels)


@dataclass
class Examples:
    """One split. `ids` are line numbers in the file, int64 [n]; labels int64 or float32 [n]."""

    ids: np.ndarray
    text_a: list[str]
    text_b: list[str] | None
    labels: np.ndarray | None

    def __len__(self) -> int:
        return len(self.text_a)


_BINARY = ("0", "1")
_NLI2 = ("entailment", "not_entailment")
_NLI3 = ("contradiction", "entailment", "neutral")
_HUB_NLI3 = ("entailment", "neutral", "contradiction")

TASKS: dict[str, GlueTask] = {
    task.key: task
    for task in (
        GlueTask("cola", "CoLA", Columns(3, None, 1), Columns(1, None), _BINARY,
                 ("unacceptable", "acceptable"), SENTENCE, metric="mcc", main_metric="mcc",
                 intermediate_epochs=50, max_length=64, has_header=False),
        GlueTask("sst2", "SST-2", Columns(0, None, 1), Columns(1, None), _BINARY,
                 ("negative", "positive"), SENTENCE, intermediate_epochs=10, max_length=64, augment_n=20),
        GlueTask("mrpc", "MRPC", Columns(3, 4, 0), Columns(3, 4), _BINARY,
                 ("not_equivalent", "equivalent"), MRPC, metric="acc_and_f1", intermediate_epochs=20),
        # Line breaks inside questions tore official rows apart; the published reader drops them.
        GlueTask("qqp", "QQP", Columns(3, 4, 5), Columns(1, 2), _BINARY,
                 ("not_duplicate", "duplicate"), QQP, metric="acc_and_f1", intermediate_epochs=5,
                 augment_n=10, skip_short_rows=True),
        GlueTask("stsb", "STS-B", Columns(7, 8, -1), Columns(7, 8), None, None,
                 PAIR._replace(label=("score", "label")), metric="corr", main_metric="corr",
                 intermediate_epochs=20),
        GlueTask("mnli", "MNLI", Columns(8, 9, -1), Columns(8, 9), _NLI3, None,
                 PAIR._replace(label=("gold_label", "label")), _HUB_NLI3, (12, 16),
                 intermediate_epochs=5, augment_n=10,
                 dev_files={"dev_matched": "dev_matched.tsv",
                            "dev_mismatched": "dev_mismatched.tsv"},
                 test_files={"test_matched": "test_matched.tsv",
                             "test_mismatched": "test_mismatched.tsv"}),
        GlueTask("qnli", "QNLI", Columns(1, 2, -1), Columns(1, 2), _NLI2, None, QNLI, intermediate_epochs=10,
                 augment_n=20),
        GlueTask("rte", "RTE", Columns(1, 2, -1), Columns(1, 2), _NLI2, intermediate_epochs=20),
        GlueTask("wnli", "WNLI", Columns(1, 2, -1), Columns(1, 2), _BINARY,
                 ("not_entailment", "entailment")),
        GlueTask("ax", "diagnostic", Columns(1, 2), Columns(1, 2), _NLI3, hub_order=_HUB_NLI3,
                 has_train=False, dev_files={}, test_files={"test": "diagnostic.tsv"}),
    )
}  # fmt: skip

_ALIASES = {"sst": "sst2", "sts": "stsb", "mnlim": "mnli", "mnlimm": "mnli", "diagnostic": "ax"}


def find_task(name: str) -> GlueTask:
    """The task of a name in any spelling: SST-2, sst2, sst-2, STS-b, MNLI-mm, diagnostic.

    Raises:
        UserError: there is none; the message lists the names.
    """
    key = plain(name)
    task = TASKS.get(_ALIASES.get(key, key))
    if task is None:
        names = ", ".join(task.folder for task in TASKS.values())
        raise UserError(f"--task_name {name}: no such task; expected one of {names}")
    return task


def guess_task(data_dir: str | os.PathLike) -> GlueTask:
    """The task a data folder belongs to, by its name: data/glue_data/RTE, SST-2/, my_cola_copy.

    The task is a word of the name, or some (sst-2): `chocolate` is not CoLA, `quarterly` not RTE.

    Raises:
        UserError: the name fits no task, or several.
    """
    name = Path(data_dir).resolve().name.lower()
    exact = plain(name)
    exact = _ALIASES.get(exact, exact)
    if exact in TASKS:
        return TASKS[exact]
    words = re.findall("[a-z0-9]+", name)
    runs = {"".join(words[i:j]) for i in range(len(words)) for j in range(i + 1, len(words) + 1)}
    found = [task for task in TASKS.values() if task.has_train and task.key in runs]
    if len(found) != 1:
        raise UserError(
            f"{data_dir}: the folder's name is not that of a GLUE task; give --task_name"
        )
    return found[0]


def split_path(task: GlueTask, data_dir: str | os.PathLike, split: str) -> Path:
    """Where a split's file is; `split` is train, train_aug, or one of the task's dev or test sets.

    Raises:
        UserError: the task has no such split, or its file is missing.
    """
    files = {**task.dev_files, **task.test_files}
    if task.has_train:
        files = {"train": "train.tsv", "train_aug": "train_aug.tsv", **files}
    if split not in files:
        raise UserError(f"{task.folder} has no split {split}; expected one of {', '.join(files)}")
    path = Path(data_dir) / files[split]
    if not path.is_file():
        if split == "train_aug":
            advice = f"run data_augmentation.py --task_name {task.folder} first"
        else:
            name = task.folder.split("-")[0]  # the download calls them SST and STS
            advice = f"give the folder that holds it, or run download_glue.py --tasks {name}"
        raise UserError(
            f"{path}: no such file; expected the {split} set of {task.folder}; {advice}"
        )
    return path


def dev_splits(task: GlueTask, data_dir: str | os.PathLike) -> list[str]:
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


def read_split(task: GlueTask, data_dir: str | os.PathLike, split: str) -> Examples:
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
    task: GlueTask, data_dir: str | os.PathLike, split: str, part_rows: int = 1 << 14
) -> Iterator[Examples]:
    """Yield a split `part_rows` rows at a time; no more of it is held in memory. See `read_split`."""
    path, layout, rows = open_rows(task, data_dir, split)
    a, b, label = layout.columns
    dtype = np.float32 if task.labels is None else np.int64
    number, ids = 0, None
    while part := list(itertools.islice(rows, part_rows)):
        labels = None
        if not number and label is not None:
            first = part[0][1][label]
            if split in task.test_files and not is_label(task, first):
                label = None  # a column is there, but the labels of this test set are hidden
            elif task.labels is not None:
                ids = label_ids(task, path, first)
        if label is not None:
            found = [read_label(task, ids, fields[label], path, line) for line, fields in part]
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


def open_rows(
    task: GlueTask, data_dir: str | os.PathLike, split: str
) -> tuple[Path, Layout, Iterator[tuple[int, list[str]]]]:
    """A split's file, where its columns are, and its rows with their line numbers.

    Raises:
        UserError: as `read_split`; for what is wrong with a row when that row is reached.
    """
    path = split_path(task, data_dir, split)
    is_test = split in task.test_files
    rows = read_rows(path, skip_short=task.skip_short_rows and not is_test)
    line, first = next(rows)
    layout = find_layout(task, is_test, path, line, first)
    if layout.header is None:
        rows = itertools.chain([(line, first)], rows)
    return path, layout, _without(layout.header, rows, path)


def _without(
    header: list[str] | None, rows: Iterator[tuple[int, list[str]]], path: Path
) -> Iterator[tuple[int, list[str]]]:
    for line, fields in rows:
        if fields == header:
            raise UserError(
                f"{path}:{line}: the header again, expected a row; was the file joined from several?"
            )
        yield line, fields


def check_label_order(
    task: GlueTask, id2label: Mapping | None, source: str = "config.json"
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
    if all(theirs[number] in (f"label{number}", str(number)) for number in theirs):
        if task.labels != _BINARY:
            print(f"note: {source} does not name its labels, assuming {names}", file=sys.stderr)
        return identity
    number_of = {name: number for number, name in theirs.items()}
    for ours in (task.labels, task.label_names or ()):
        places = [number_of.get(plain(name)) for name in ours]
        if places and None not in places:
            return np.array(places, dtype=np.int64)
    wanted = names + (f" or {', '.join(task.label_names)}" if task.label_names else "")
    raise UserError(
        f"{source}: id2label names {', '.join(map(str, id2label.values()))}; expected {wanted} for "
        f"{task.folder}, in any order; correct id2label or use a model made for this task"
    )
