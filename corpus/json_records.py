"""JSON that is not one object a line: an array, or objects written over several lines."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Iterator
from typing import IO

from corpus.text_files import LONGEST_LINE, Block, open_binary, read_some
from files.errors import UserError

_BETWEEN = re.compile(r"[\s,]*")


def read_records(path: str | os.PathLike, size: int) -> Iterator[Block]:
    """Read the elements of an array, or objects one after the other, as blocks of about `size` bytes.

    In a block each element stands on one line, and their numbers (from 1) take the place of line numbers.
    Memory holds one block, or one element where that is longer.

    Raises:
        UserError: file and line of what is not JSON, or not UTF-8.
    """
    lines: list[bytes] = []
    first, length = 1, 0
    with open_binary(path) as file:
        for record in _Records(file, path, size):
            # Outside of strings, where JSON has no line ends, white space is what it is.
            lines.append(record.replace("\r", " ").replace("\n", " ").encode("utf-8", "replace"))
            length += len(lines[-1]) + 1
            if length >= size:
                yield Block(os.fspath(path), first, b"\n".join(lines) + b"\n", "record ")
                first += len(lines)
                lines, length = [], 0
    if lines:
        yield Block(os.fspath(path), first, b"\n".join(lines) + b"\n", "record ")


class _Records:
    """The texts of the elements of a file."""

    def __init__(self, file: IO[bytes], path: str | os.PathLike, size: int) -> None:
        self._file, self._path, self._size = file, path, size
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._text, self._line, self._ended = "", 1, False

    def __iter__(self) -> Iterator[str]:
        decoder, place, in_array = json.JSONDecoder(), 0, False
        while not self._text.strip() and not self._ended:
            self._more()
        if found := re.match(r"\s*\[", self._text):
            place, in_array = found.end(), True
        while True:
            place = _BETWEEN.match(self._text, place).end()
            if place == len(self._text):
                if self._ended:
                    if in_array:
                        raise self._wrong("the array has no end; the file is torn")
                    return
                place = self._forget(place)
                self._more()
            elif in_array and self._text[place] == "]":
                self._end(place + 1)
                return
            else:
                try:
                    _, end = decoder.raw_decode(self._text, place)
                except (ValueError, RecursionError) as error:
                    if self._ended or not _may_be_cut(error, len(self._text)):
                        self._forget(getattr(error, "pos", place))
                        raise self._wrong("is not JSON; correct it") from None
                    place = self._forget(place)
                    self._more()
                    continue
                yield self._text[place:end]
                place = end

    def _end(self, place: int) -> None:
        """Refuse what comes after an array."""
        while not self._text[place:].strip() and not self._ended:
            place = self._forget(len(self._text))
            self._more()
        place = _BETWEEN.match(self._text, place).end()
        if place < len(self._text):
            self._forget(place)
            raise self._wrong("more text after the end of the array")

    def _more(self) -> None:
        """Read on; twice as far each time where an element does not come to an end."""
        data = read_some(self._file, max(self._size, len(self._text)), self._path)
        self._ended = not data
        try:
            self._text += self._decode(data, final=not data)
        except UnicodeDecodeError:
            raise self._wrong("is not UTF-8; convert the file to UTF-8", len(self._text)) from None
        if len(self._text) > LONGEST_LINE:
            raise self._wrong(f"a record of more than {LONGEST_LINE:,} characters; expected text")

    def _forget(self, place: int) -> int:
        """Drop what was read up to `place`; return where that is now."""
        self._line += self._text.count("\n", 0, place)
        self._text = self._text[place:]
        return 0

    def _wrong(self, what: str, place: int = 0) -> UserError:
        return UserError(f"{self._path}:{self._line + self._text.count(chr(10), 0, place)}: {what}")


def _may_be_cut(error: Exception, length: int) -> bool:
    """Whether JSON may be wrong only because it has not been read to its end."""
    if not isinstance(error, json.JSONDecodeError):
        return False
    return error.msg.startswith("Unterminated string") or error.pos > length - 16
