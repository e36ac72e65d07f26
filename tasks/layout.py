"""Where a GLUE file has its texts and its label: by the names in its header, checked against the task's.

Official files, exports of the Hub's data sets and files with further columns are read by name. By
position are read: CoLA's train and dev files, which have no header, and files of the official shape whose
header names nothing that is known, which is said.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from files.errors import UserError

if TYPE_CHECKING:
    from tasks.task import Task


class Columns(NamedTuple):
    """0-based columns of a file; a label of -1 is the last column, None means it has none."""

    text_a: int
    text_b: int | None
    label: int | None = None


class Names(NamedTuple):
    """What headers call the columns, the official name first; compared without case and punctuation."""

    text_a: tuple[str, ...]
    text_b: tuple[str, ...] = ()
    label: tuple[str, ...] = ("label",)


class Layout(NamedTuple):
    """What is where in one file; without a `header` its first line is a row."""

    columns: Columns
    header: list[str] | None


SENTENCE = Names(("sentence",))
PAIR = Names(("sentence1", "premise"), ("sentence2", "hypothesis"))
MRPC = Names(("#1 String", "sentence1"), ("#2 String", "sentence2"), ("Quality", "label"))
QQP = Names(("question1",), ("question2",), ("is_duplicate", "label"))
QNLI = Names(("question",), ("sentence",))

_INDEX = {"index", "idx", "id", "qid1", "qid2", "1id", "2id", "pairid", "promptid"}
_SHOWN = 30  # characters of a name in a message


def plain(name: str) -> str:
    """A name in lower case without punctuation: `SST-2` and `sst2`, `#1 String` and `1string`."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


_TEXTS = {plain(n) for names in (SENTENCE, PAIR, MRPC, QQP, QNLI) for n in names[0] + names[1]}
_LABELS = {"label", "quality", "isduplicate", "goldlabel", "score"}


def is_header(fields: Sequence[str]) -> bool:
    """Whether fields, one at least a text's name, are the names of columns and nothing else."""
    names = {plain(field) for field in fields}
    return names <= _TEXTS | _LABELS | _INDEX and not names.isdisjoint(_TEXTS)


def find_layout(task: Task, is_test: bool, path: Path, line: int, first: Sequence[str]) -> Layout:
    """The layout of a file by its first row, `first`, which stands in `line`.

    Raises:
        UserError: `FILE:LINE`: the header lacks a column, names one twice, or names another task's; or
            there is none, and the task's files have one.
    """
    official = task.test_columns if is_test else task.columns
    is_row = _is_row(task, official, first)
    if is_row and not task.has_header:
        return Layout(official, None)
    names = [plain(cell) for cell in first]
    own = [{plain(name) for name in names_of} for names_of in task.names]
    found = [[i for i, name in enumerate(names) if name in role] for role in own]

    def refuse(what: str) -> UserError:
        cells = ", ".join(cell[:_SHOWN] for cell in first)
        return UserError(
            f"{path}:{line}: {what}; expected {_expected(task, is_test)}; found {cells}"
        )

    if sum(cell[:1] == cell[-1:] == '"' for cell in first):
        raise refuse("the header is quoted, and in GLUE's files quotes are text")
    if strange := [first[i] for i, n in enumerate(names) if n in _TEXTS - own[0] - own[1]]:
        raise refuse(f"the header names {strange[0]}, which no file of {task.folder} has")
    if found[0] or found[1]:
        needed = ("text", "second text", "label")[: 2 + (not is_test)]
        for role, places, role_names in zip(needed, found, task.names, strict=False):
            if role_names and not places and task.has_train:
                raise refuse(f"the header names no column as the {role}")
        for places in found:
            if len(places) > 1:
                twice = " and ".join(first[i] for i in places)
                raise refuse(f"the header names two columns for the same, {twice}")
        a, b, label = (places[0] if places else None for places in found)
        if a is None or (task.pair and b is None):
            raise refuse("the header names one text alone")
        return Layout(Columns(a, b, label), list(first))
    _check_positions(task, is_test, path, line, first)
    if any(place != [official.label % len(first)] for place in found[2:] if place and not is_test):
        raise refuse("the header names the label in another place than GLUE's files have it")
    texts = [place for place in official[:2] if place is not None]
    if any(names[i] in _LABELS | _INDEX for i in texts):
        raise refuse("the header names no text")
    told = " and ".join(f"column {i + 1} ({first[i][:_SHOWN]})" for i in texts)
    say_once(
        f"{path}: the header's names are not those of {task.folder}; the columns of its official files are "
        f"taken, the text is {told}"
    )
    label = found[2][0] if is_test and len(found[2]) == 1 else official.label
    return Layout(official._replace(label=label), list(first))


def _check_positions(
    task: Task, is_test: bool, path: Path, line: int, first: Sequence[str]
) -> None:
    """Refuse a first row that neither names a known column nor has the shape of an official header."""
    official = task.test_columns if is_test else task.columns
    widths = task.widths if not is_test else ()
    if not widths:
        most = max(column for column in official if column is not None)
        widths = (most + 1 + (official.label == -1),)
    if len(first) not in widths:
        least = "at least " if len(first) < min(widths) else ""
        raise UserError(
            f"{path}:{line}: {len(first)} columns, expected {least}{min(widths)} for {task.folder}, or a "
            f"header that names {_expected(task, is_test)}; fields are separated by tabs"
        )
    digits = any(plain(cell).isdigit() for cell in first)
    if digits or _is_row(task, official, first):
        names = _expected(task, is_test)
        raise UserError(
            f"{path}:{line}: a row of data, expected a header; add one that names {names}"
        )


def _is_row(task: Task, columns: Columns, first: Sequence[str]) -> bool:
    """Whether a row has a label where official files have it, and so is not a header."""
    label = columns.label
    if label is None or len(first) < max(label, *(c or 0 for c in columns[:2])) + 1:
        return False
    return is_label(task, first[label])


def _expected(task: Task, is_test: bool) -> str:
    roles = [names for names in task.names[: 2 + (not is_test)] if names]
    return ", ".join(" or ".join(names) for names in roles)


def is_label(task: Task, text: str) -> bool:
    """Whether a text is a label of the task in any of the ways in which labels are written."""
    if task.labels is None:
        return _is_score(text)
    return any(text in ids for ids in _ways(task))


def _is_score(text: str) -> bool:
    try:
        return 0.0 <= float(text) <= 5.0
    except ValueError:
        return False


def _ways(task: Task) -> list[dict[str, int]]:
    """How labels are written: as in GLUE's files, in other people's words, in the Hub's numbers."""
    ways = [task.labels, task.label_names or ()]
    ids = [{name: number for number, name in enumerate(way)} for way in ways]
    order = task.hub_order or task.labels
    return [*ids, {str(number): task.labels.index(name) for number, name in enumerate(order)}]


def label_ids(task: Task, path: Path, first: str) -> Mapping[str, int]:
    """The class ids of a file's labels, which are all written as its first one is.

    Numbers in the place of NLI's words are those of the Hub's data sets, which is said.
    """
    words, others, numbers = _ways(task)
    if first in words or not (first in others or first in numbers):
        return words
    if first in others:
        return others
    meant = ", ".join(f"{number} {task.labels[i]}" for number, i in numbers.items())
    say_once(f"{path}: its labels are numbers, read as the Hugging Face Hub writes them: {meant}")
    return numbers


def read_label(
    task: Task, ids: Mapping[str, int] | None, text: str, path: Path, line: int
) -> int | float:
    """The class id of a label, or the score.

    Raises:
        UserError: `FILE:LINE`: it is neither.
    """
    if ids is None:
        if not _is_score(text):
            hidden = _hidden(text)
            raise UserError(f"{path}:{line}: score {text!r}, expected a number from 0 to 5{hidden}")
        return float(text)
    if text not in ids:
        hidden = _hidden(text)
        raise UserError(f"{path}:{line}: label {text!r}, expected one of {', '.join(ids)}{hidden}")
    return ids[text]


def _hidden(text: str) -> str:
    if text == "-":
        return "; SNLI and MNLI write - where the annotators disagree: leave such rows out"
    if text and text.startswith("-") and _number(text) == -1:
        return "; -1 stands for the hidden labels of a test set"
    return ""


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


@cache
def say_once(note: str) -> None:
    """Print a note on standard error, however often the same file is read."""
    print(f"note: {note}", file=sys.stderr)
