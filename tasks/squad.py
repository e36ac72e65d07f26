"""Questions about a text whose answers are spans of it: SQuAD 1.1 and 2.0, and files of that kind.

Read are the official JSON, a list of `{"id", "question", "context", "answers"}` (or that under "data"), and
JSON lines of the same. Contexts are never changed: answers are counted in their characters.
"""

from __future__ import annotations

import json
import os
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from files.errors import UserError

_SHOWN = 3  # ids that a note names


@dataclass
class Questions:
    """The questions of a file.

    Attributes:
        ids, texts: of each question.
        contexts: the texts that they are about, each once.
        context_of, article_of: int32 [n], number of a question's context, and of the article it is from.
        answers: right answers of each, none of a question that has none or whose answers are hidden.
        starts: the character of the context at which each of those begins, -1 where it is not in it.
        impossible: bool [n], whether a question is said to have no answer (SQuAD 2.0).
    """

    path: Path
    ids: list[str]
    texts: list[str]
    contexts: list[str]
    context_of: np.ndarray
    article_of: np.ndarray
    answers: list[list[str]]
    starts: list[list[int]]
    impossible: np.ndarray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: np.ndarray) -> Questions:
        """Some of the questions, in this order."""
        return Questions(
            self.path,
            [self.ids[i] for i in rows],
            [self.texts[i] for i in rows],
            self.contexts,
            self.context_of[rows],
            self.article_of[rows],
            [self.answers[i] for i in rows],
            [self.starts[i] for i in rows],
            self.impossible[rows],
        )

    def context(self, question: int) -> str:
        """The text that a question is about."""
        return self.contexts[self.context_of[question]]


def read_questions(path: str | os.PathLike, negative: bool = False) -> Questions:
    """Read a file of questions.

    Where `answer_start` does not point at the answer, the occurrence nearest to it is taken, and a note says
    how often that was so and how often there is none.

    Args:
        negative: whether questions may have no answer, as in SQuAD 2.0.

    Raises:
        UserError: the file, or the line of it, and what is wrong: its form, an id that comes twice, a
            question without an answer in a file where each should have one.
    """
    path = Path(path)
    found = Questions(
        path, [], [], [], np.zeros(0, np.int32), np.zeros(0, np.int32), [], [], np.zeros(0, bool)
    )
    context_of, article_of, impossible = [], [], []
    numbers: dict[str, int] = {}
    mended: Counter[str] = Counter()
    examples: dict[str, list[str]] = {}
    where: dict[str, str] = {}
    for place, article, context, row in _rows(path):
        key = _text(row, "id", place)
        if key in where:
            raise UserError(
                f"{place}: the id {key} has been used by {where[key]}; expected an id of its own for each "
                "question"
            )
        where[key] = place
        if context not in numbers:
            numbers[context] = len(found.contexts)
            found.contexts.append(context)
        none = row.get("is_impossible", False)
        if type(none) is not bool:
            raise UserError(f"{place}: is_impossible is {none!r}; expected true or false")
        if none and not negative:
            raise UserError(
                f"{place}: the question {key} has no answer, as in SQuAD 2.0; expected an answer to each "
                "question of SQuAD 1.1"
            )
        answers, starts = [], []
        for text, start in () if none else _answers(row, place):
            start, what = _find(context, text, start)
            if what:
                mended[what] += 1
                examples.setdefault(what, []).append(key)
            answers.append(text)
            starts.append(start)
        found.ids.append(key)
        found.texts.append(_text(row, "question", place))
        found.answers.append(answers)
        found.starts.append(starts)
        context_of.append(numbers[context])
        article_of.append(article)
        impossible.append(none)
    if not found.ids:
        raise UserError(f"{path}: no question in it; expected questions as SQuAD's files have them")
    found.context_of = np.array(context_of, np.int32)
    found.article_of = np.array(article_of, np.int32)
    found.impossible = np.array(impossible, bool)
    for what, count in mended.items():
        some = ", ".join(examples[what][:_SHOWN]) + ", …" * (count > _SHOWN)
        print(f"note: {path}: {count:,} answers {what} ({some})", file=sys.stderr)
    return found


def _rows(path: Path) -> Iterator[tuple[str, int, str, dict[str, Any]]]:
    """Where a question stands, the number of its article, its context, and what the file says of it."""
    try:
        content = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; expected JSON") from None
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected SQuAD's JSON, or JSON lines") from None
    if path.suffix == ".jsonl":
        for number, line in enumerate(content.split("\n"), 1):
            if line.strip():
                row = _parse(line, f"{path}:{number}")
                yield f"{path}:{number}", 0, _text(row, "context", f"{path}:{number}"), row
        return
    values = _parse(content, str(path))
    data = values.get("data") if isinstance(values, dict) else values
    if not isinstance(data, list):
        raise UserError(f'{path}: expected a list of articles or questions, under "data" or alone')
    for number, entry in enumerate(data):
        place = f"{path}, entry {number + 1}"
        if not isinstance(entry, dict):
            raise UserError(f"{place}: expected an article or a question, a JSON object")
        if "paragraphs" not in entry:
            yield place, number, _text(entry, "context", place), entry
            continue
        for paragraph in _list(entry, "paragraphs", place):
            context = _text(paragraph, "context", place)
            for row in _list(paragraph, "qas", place):
                yield place, number, context, row


def _parse(text: str, place: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{place}: not JSON ({error})") from None


def _list(holder: Any, key: str, place: str) -> list:
    value = holder.get(key) if isinstance(holder, dict) else None
    if not isinstance(value, list):
        raise UserError(f'{place}: expected a list under "{key}"')
    return value


def _text(holder: Any, key: str, place: str) -> str:
    value = holder.get(key) if isinstance(holder, dict) else None
    if type(value) is int and key == "id":
        value = str(value)
    if not isinstance(value, str):
        raise UserError(f'{place}: expected a text under "{key}"')
    return value


def _answers(row: dict[str, Any], place: str) -> list[tuple[str, int]]:
    """The answers of a question: a list of objects, or an object of lists; none where they are hidden."""
    given = row.get("answers", [])
    if isinstance(given, dict):
        texts, starts = given.get("text", []), given.get("answer_start", [])
        if not isinstance(texts, list) or not isinstance(starts, list) or len(texts) != len(starts):
            raise UserError(f'{place}: expected as many "text" as "answer_start" under "answers"')
        given = [{"text": t, "answer_start": s} for t, s in zip(texts, starts, strict=True)]
    if not isinstance(given, list):
        raise UserError(f'{place}: expected a list under "answers"')
    found = []
    for answer in given:
        start = answer.get("answer_start", -1) if isinstance(answer, dict) else -1
        if type(start) is not int:
            raise UserError(f'{place}: "answer_start" is {start!r}; expected a number')
        found.append((_text(answer, "text", place), start))
    return found


def _find(context: str, text: str, start: int) -> tuple[int, str]:
    """Where an answer begins, -1 if nowhere; and what was wrong with where it was said to."""
    if start >= 0 and context.startswith(text, start):
        return start, ""
    before, after = (
        context.rfind(text, 0, max(start, 0) + len(text)),
        context.find(text, max(start, 0)),
    )
    there = [place for place in (before, after) if place >= 0]
    if text and there:
        nearest = min(there, key=lambda place: abs(place - start))
        return nearest, "do not begin where answer_start says; the nearest occurrence is taken"
    return -1, "are not in their text; none of their windows is taught to find them"
