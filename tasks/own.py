"""A task of one's own: what its JSON file says, and its rows in CSV, TSV or JSON lines.

    {"name": "tickets", "files": {"train": "train.csv", "dev": "dev.csv", "test": "test.csv"},
     "text": "subject", "text_b": "body", "label": "team", "labels": ["billing", "technical"],
     "metric": "macro_f1"}

Columns go by their names in the header, or in files without one by their numbers, the first being 1.
"""

from __future__ import annotations

import csv
import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import NoneType
from typing import Any

from files.checksums import content_key
from files.errors import UserError
from tasks.glue import find_task
from tasks.layout import Columns, Layout
from tasks.task import Rows, Task
from tasks.tsv import read_rows

FORMATS = ("csv", "tsv", "jsonl")
# metric of the file: what is computed, and the number by which models are selected
METRICS = {
    "accuracy": ("acc", "acc"),
    "f1": ("f1", "f1"),
    "macro_f1": ("macro_f1", "macro_f1"),
    "matthews": ("mcc", "mcc"),
    "pearson_spearman": ("corr", "corr"),
}
REGRESSION = "regression"
_REQUIRED = {
    "name": str,
    "files": dict,
    "text": (str, int),
    "label": (str, int),
    "labels": (list, str),
}
_OPTIONAL = {"text_b": (str, int), "metric": str, "format": str, "max_length": int, "epochs": int}
_SPLITS = ("train", "dev", "test")


@dataclass(frozen=True)
class OwnTask(Task):
    """A task that a file describes."""

    def files(self) -> dict[str, str]:
        # Another task may have its rows in the same folder.
        return {**self.definition["files"], "train_aug": f"{self.folder}.train_aug.tsv"}

    def advice(self, split: str) -> str:
        if split == "train_aug":
            return "run data_augmentation.py on the same task first"
        return f'correct "{split}" in its files'

    def open_rows(self, path: Path, split: str) -> tuple[Layout, Rows]:
        """Rows as [text, text_b, label] or [text, label], whatever the file has besides."""
        roles = ["text", "text_b", "label"] if self.pair else ["text", "label"]
        if split == "train_aug":
            rows = read_rows(path, columns=len(roles))
            if next(rows)[1] != roles:
                raise UserError(f"{path}:1: expected the header {' '.join(roles)}")
            return _layout(roles), rows
        columns = [self.definition[role] for role in roles]
        optional = columns[-1] if split == "test" else None
        records = _records(path, self._format(path), columns, optional)
        roles = roles if next(records) else roles[:-1]
        return _layout(roles), self._checked(path, records, roles)

    def _format(self, path: Path) -> str:
        return self.definition.get("format") or path.suffix.removeprefix(".").lower()

    def _checked(self, path: Path, records: Iterator, roles: list[str]) -> Rows:
        for line, fields in records:
            for role, text in zip(roles, fields, strict=True):
                if role != "label" and not text.strip():
                    raise UserError(f"{path}:{line}: the {role} is empty; expected a text")
            yield line, fields

    def is_label(self, text: str) -> bool:
        if self.labels is None:
            return _score(text) is not None
        return text in self.labels

    def read_label(self, reader: Any, text: str, path: Path, line: int) -> int | float:
        if self.labels is None:
            if (score := _score(text)) is None:
                raise UserError(f"{path}:{line}: score {text!r}, expected a number")
            return score
        if text not in self.labels:
            raise UserError(
                f"{path}:{line}: label {text!r}, expected one of {', '.join(self.labels)}"
            )
        return self.labels.index(text)


def read_task_file(path: str | os.PathLike) -> OwnTask:
    """Read a task's file.

    Raises:
        UserError: the file, the key, and what was expected.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected the JSON file of a task") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: not JSON ({error})") from None
    try:
        return make_task(content)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def make_task(definition: Any) -> OwnTask:
    """The task of what a task's file says.

    Raises:
        UserError: the key, and what was expected.
    """
    if not isinstance(definition, dict):
        raise UserError("expected a JSON object with name, files, text, label and labels")
    known = _REQUIRED | _OPTIONAL
    for key, value in definition.items():
        if key not in known:
            raise UserError(f"{key!r} is not a key of a task; there are {', '.join(known)}")
        if not isinstance(value, known[key]) or isinstance(value, bool):
            raise UserError(f"{key} is {value!r}; expected {_kind(known[key])}")
    missing = [key for key in _REQUIRED if key not in definition]
    if missing:
        raise UserError(f"lacks {', '.join(missing)}")
    name, labels = definition["name"], _labels(definition["labels"])
    if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", name, re.ASCII):
        raise UserError(f"name is {name!r}; expected letters, digits, '.', '_' and '-'")
    if _is_glue(name):
        raise UserError(f"name is {name!r}, a task of GLUE; expected another name")
    _check_files(definition["files"])
    _check_columns(definition)
    if definition.get("format", "csv") not in FORMATS:
        raise UserError(f"format is {definition['format']!r}; expected one of {', '.join(FORMATS)}")
    for key in ("max_length", "epochs"):
        if definition.get(key, 1) < 1:
            raise UserError(f"{key} is {definition[key]}; expected a number from 1")
    metric, main = _metric(definition.get("metric"), labels)
    return OwnTask(
        key=f"{name}-{content_key({k: v for k, v in definition.items() if k != 'files'})}",
        folder=name,
        labels=labels,
        metric=metric,
        main_metric=main,
        intermediate_epochs=definition.get("epochs", 3),
        max_length=definition.get("max_length", 128),
        pair="text_b" in definition,
        dev_files={"dev": definition["files"]["dev"]},
        test_files={k: v for k, v in definition["files"].items() if k == "test"},
        score_range=None,
        definition=definition,
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys are different."""
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"the key {key!r} appears twice")
        found[key] = value
    return found


def _kind(types: type | tuple[type, ...]) -> str:
    names = {str: "a text", int: "a whole number", list: "a list", dict: "an object"}
    return " or ".join(names[kind] for kind in (types if isinstance(types, tuple) else (types,)))


def _labels(given: list | str) -> tuple[str, ...] | None:
    if given == REGRESSION:
        return None
    if isinstance(given, str) or len(given) < 2:
        raise UserError(
            f'labels is {given!r}; expected a list of two labels or more, or "{REGRESSION}"'
        )
    labels = tuple(_text(label) for label in given)
    if len(set(labels)) < len(labels):
        raise UserError(f"labels is {given!r}; expected different ones")
    if any(not label or len(label.splitlines()) > 1 or "\t" in label for label in labels):
        raise UserError(f"labels is {given!r}; expected words without tabs and line breaks")
    return labels


def _is_glue(name: str) -> bool:
    try:
        find_task(name)
    except UserError:
        return False
    return True


def _check_files(files: dict[str, Any]) -> None:
    for split, file in files.items():
        if split not in _SPLITS or not isinstance(file, str) or not file:
            raise UserError(
                f"files has {split!r}: {file!r}; expected names for {', '.join(_SPLITS)}"
            )
    if missing := [split for split in ("train", "dev") if split not in files]:
        raise UserError(f"files lacks {' and '.join(missing)}")
    names = [os.path.normpath(file) for file in files.values()]
    for split, name in zip(files, names, strict=True):
        if names.count(name) > 1:
            raise UserError(f"files names {name} twice, as {split} too; expected different files")


def _check_columns(definition: Mapping[str, Any]) -> None:
    columns = [definition[role] for role in ("text", "text_b", "label") if role in definition]
    if len({type(column) for column in columns}) > 1:
        raise UserError(
            f"columns {columns}: names and numbers; expected names in the header, or numbers where "
            "files have no header"
        )
    if len(set(columns)) < len(columns):
        raise UserError(f"columns {columns}: one is named twice")
    if any(type(column) is int and column < 1 for column in columns):
        raise UserError(f"columns {columns}: expected numbers from 1")
    if any(column == "" for column in columns):
        raise UserError("a column has no name")


def _metric(given: str | None, labels: tuple[str, ...] | None) -> tuple[str, str]:
    fits = ["pearson_spearman"] if labels is None else ["accuracy", "macro_f1", "matthews"]
    fits += ["f1"] * (labels is not None and len(labels) == 2)
    if given is None:
        return METRICS[fits[0]]
    if given not in fits:
        what = "a regression" if labels is None else f"{len(labels)} labels"
        raise UserError(f"metric is {given!r}; expected for {what} one of {', '.join(fits)}")
    return METRICS[given]


def _layout(roles: list[str]) -> Layout:
    label = roles.index("label") if "label" in roles else None
    return Layout(Columns(0, 1 if "text_b" in roles else None, label), roles)


def _text(value: Any) -> str:
    """A value of JSON as the same in a table: texts as they are, true and 3 as they are written."""
    return value if isinstance(value, str) else json.dumps(value)


def _score(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _records(
    path: Path, kind: str, columns: list[str | int], optional: str | int | None = None
) -> Iterator[Any]:
    """Yield whether the optional column is there, then (line, the columns' texts) of each row.

    Tabs and line breaks within a text become spaces, so that it is one field of any file written.
    """
    if kind not in FORMATS:
        raise UserError(
            f"{path}: a file of which kind? expected a name that ends in .{', .'.join(FORMATS)}, or "
            'a "format" in the task\'s file'
        )
    if kind == "jsonl":
        rows = _json_rows(path, columns, optional)
    else:
        rows = _table_rows(path, kind, columns, optional)
    yield next(rows)
    for line, fields in rows:
        yield line, [re.sub(r"[\t\r\n\v\f\x1c-\x1e\x85\u2028\u2029]+", " ", f) for f in fields]


def _table_rows(
    path: Path, kind: str, columns: list[str | int], optional: str | int | None
) -> Iterator[Any]:
    rows = read_rows(path) if kind == "tsv" else _csv_rows(path)
    line, first = next(rows)
    named = isinstance(columns[0], str)
    width = len(first)
    if named:
        missing = [c for c in columns if c not in first and c != optional]
        if missing:
            raise UserError(
                f"{path}:{line}: no column is called {missing[0]!r}; the header names {', '.join(first)}"
            )
        twice = [c for c in columns if first.count(c) > 1]
        if twice:
            raise UserError(f"{path}:{line}: two columns are called {twice[0]!r}")
        places = [first.index(c) for c in columns if c in first]
    else:
        places = [c - 1 for c in columns if c != optional or c <= width]
        if max(places) >= width:
            raise UserError(
                f"{path}:{line}: {width} columns; the task's file asks for column {max(places) + 1}"
            )
    yield len(places) == len(columns)
    if not named:
        yield line, [first[place] for place in places]
    for line, fields in rows:
        if len(fields) != width:
            raise UserError(
                f"{path}:{line}: {len(fields)} columns, expected {width} as in the first line"
            )
        yield line, [fields[place] for place in places]


def _csv_rows(path: Path) -> Rows:
    """Rows of a CSV file, in whose quoted fields commas, quotes and line breaks may stand."""
    begin = 1
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for fields in reader:
                if fields:  # a blank line is none
                    yield begin, fields
                begin = reader.line_num + 1
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: byte {error.start + 1} is not UTF-8; convert the file") from None
    except csv.Error as error:
        raise UserError(f"{path}:{begin}: not CSV ({error})") from None
    if begin == 1:
        raise UserError(f"{path}: the file is empty; expected rows")


def _json_rows(path: Path, columns: list[str | int], optional: str | int | None) -> Iterator[Any]:
    if not isinstance(columns[0], str):
        raise UserError(
            f"{path}: JSON lines have no column {columns[0]}; expected names in the task's file"
        )
    labelled = None
    with open(path, "rb") as file:
        for line, raw in enumerate(file, 1):
            try:
                text = raw.decode("utf-8-sig" if line == 1 else "utf-8").strip()
                row = json.loads(text, object_pairs_hook=_once) if text else None
            except UnicodeDecodeError:
                raise UserError(f"{path}:{line}: not UTF-8; convert the file") from None
            except (ValueError, RecursionError) as error:
                raise UserError(f"{path}:{line}: not JSON ({error})") from None
            if row is None:
                continue
            if not isinstance(row, dict):
                raise UserError(f"{path}:{line}: expected a JSON object")
            if labelled is None:
                labelled = optional is None or optional in row
                yield labelled
            wanted = columns if labelled else [c for c in columns if c != optional]
            for column in wanted:
                if column not in row or isinstance(row[column], list | dict | NoneType):
                    raise UserError(
                        f"{path}:{line}: {column!r} is {row.get(column)!r}; expected a text or a number"
                    )
            yield line, [_text(row[column]) for column in wanted]
    if labelled is None:
        raise UserError(f"{path}: the file is empty; expected rows")
