"""The nine GLUE tasks and the diagnostic set: columns, labels, defaults, readers.

A new GLUE task is one line in `TASKS`; where a file has its columns is in `tasks.layout`, how its rows are
read in `tasks.tsv`.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from files.errors import UserError, setting
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
from tasks.task import Rows, Task
from tasks.tsv import read_rows


@dataclass(frozen=True)
class GlueTask(Task):
    """What a GLUE task's files look like and what the published programs use for it.

    Attributes:
        columns, test_columns: where the columns are if a header names nothing that is known.
        names: what headers call the columns.
        hub_order: the labels in the order of the Hub's numbers, where that is another.
        widths: of official files, where they vary.
    """

    columns: Columns = Columns(0, None)
    test_columns: Columns = Columns(0, None)
    names: Names = PAIR
    hub_order: tuple[str, ...] | None = None
    widths: tuple[int, ...] = ()
    has_header: bool = True
    skip_short_rows: bool = False

    def advice(self, split: str) -> str:
        if split == "train_aug":
            return f"run data_augmentation.py {setting('task_name')} {self.folder} first"
        name = self.folder.split("-")[0]  # the download calls them SST and STS
        return f"give the folder that holds it, or run download_glue.py {setting('tasks')} {name}"

    def open_rows(self, path: Path, split: str) -> tuple[Layout, Rows]:
        is_test = split in self.test_files
        rows = read_rows(path, skip_short=self.skip_short_rows and not is_test)
        line, first = next(rows)
        layout = find_layout(self, is_test, path, line, first)
        if layout.header is None:
            rows = itertools.chain([(line, first)], rows)
        return layout, _without(layout.header, rows, path)

    def is_label(self, text: str) -> bool:
        return is_label(self, text)

    def label_reader(self, path: Path, first: str) -> Mapping[str, int] | None:
        return None if self.labels is None else label_ids(self, path, first)

    def read_label(self, reader: Any, text: str, path: Path, line: int) -> int | float:
        return read_label(self, reader, text, path, line)


def _glue(
    key: str,
    folder: str,
    columns: Columns,
    test_columns: Columns,
    labels: tuple[str, ...] | None,
    label_names: tuple[str, ...] | None = None,
    names: Names = PAIR,
    **facts: Any,
) -> GlueTask:
    pair = columns.text_b is not None
    facts |= {"columns": columns, "test_columns": test_columns, "names": names, "pair": pair}
    return GlueTask(key, folder, labels, label_names, **facts)


def _without(header: list[str] | None, rows: Rows, path: Path) -> Rows:
    for line, fields in rows:
        if fields == header:
            raise UserError(
                f"{path}:{line}: the header again, expected a row; was the file joined from several?"
            )
        yield line, fields


_BINARY = ("0", "1")
_NLI2 = ("entailment", "not_entailment")
_NLI3 = ("contradiction", "entailment", "neutral")
_HUB_NLI3 = ("entailment", "neutral", "contradiction")

TASKS: dict[str, GlueTask] = {
    task.key: task
    for task in (
        _glue("cola", "CoLA", Columns(3, None, 1), Columns(1, None), _BINARY,
                 ("unacceptable", "acceptable"), SENTENCE, metric="mcc", main_metric="mcc",
                 intermediate_epochs=50, max_length=64, has_header=False),
        _glue("sst2", "SST-2", Columns(0, None, 1), Columns(1, None), _BINARY,
                 ("negative", "positive"), SENTENCE, intermediate_epochs=10, max_length=64, augment_n=20),
        _glue("mrpc", "MRPC", Columns(3, 4, 0), Columns(3, 4), _BINARY,
                 ("not_equivalent", "equivalent"), MRPC, metric="acc_and_f1", intermediate_epochs=20),
        # Line breaks inside questions tore official rows apart; the published reader drops them.
        _glue("qqp", "QQP", Columns(3, 4, 5), Columns(1, 2), _BINARY,
                 ("not_duplicate", "duplicate"), QQP, metric="acc_and_f1", intermediate_epochs=5,
                 augment_n=10, skip_short_rows=True),
        _glue("stsb", "STS-B", Columns(7, 8, -1), Columns(7, 8), None, None,
                 PAIR._replace(label=("score", "label")), metric="corr", main_metric="corr",
                 intermediate_epochs=20),
        _glue("mnli", "MNLI", Columns(8, 9, -1), Columns(8, 9), _NLI3, None,
                 PAIR._replace(label=("gold_label", "label")), hub_order=_HUB_NLI3, widths=(12, 16),
                 intermediate_epochs=5, augment_n=10,
                 dev_files={"dev_matched": "dev_matched.tsv",
                            "dev_mismatched": "dev_mismatched.tsv"},
                 test_files={"test_matched": "test_matched.tsv",
                             "test_mismatched": "test_mismatched.tsv"}),
        _glue("qnli", "QNLI", Columns(1, 2, -1), Columns(1, 2), _NLI2, None, QNLI, intermediate_epochs=10,
                 augment_n=20),
        _glue("rte", "RTE", Columns(1, 2, -1), Columns(1, 2), _NLI2, intermediate_epochs=20),
        _glue("wnli", "WNLI", Columns(1, 2, -1), Columns(1, 2), _BINARY,
                 ("not_entailment", "entailment")),
        _glue("ax", "diagnostic", Columns(1, 2), Columns(1, 2), _NLI3, hub_order=_HUB_NLI3,
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
        raise UserError(f"{setting('task_name')} {name}: no such task; expected one of {names}")
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
            f"{data_dir}: the folder's name is not that of a GLUE task; give {setting('task_name')}"
        )
    return found[0]
