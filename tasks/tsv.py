"""Tab-separated files as GLUE has them: raw fields, in which a quote character is text.

Lines end in LF or CRLF; a byte-order mark at the beginning of the file is skipped.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import partial

from files.errors import UserError

LONGEST_ROW = 1 << 20  # bytes; the longest of GLUE has some thousands


def read_rows(
    path: str | os.PathLike, skip_short: bool = False, columns: int | None = None
) -> Iterator[tuple[int, list[str]]]:
    """Yield (line number from 1, fields) of a tab-separated file, its first line included.

    Every row has `columns` fields; None: as many as the first line. With `skip_short` rows with fewer
    are left out and counted on standard error. One line is held in memory at a time.

    Raises:
        UserError: `FILE:LINE`: not UTF-8, a NUL byte, another number of fields, more than LONGEST_ROW
            bytes, a carriage return within the first line; or an empty file.
    """
    expected, reason = columns or 0, "" if columns else " as in the first line"
    skipped = number = 0
    blank = None  # blank lines are only allowed at the end of the file
    with open(path, "rb") as file:
        for number, raw in enumerate(iter(partial(file.readline, LONGEST_ROW + 1), b""), 1):
            if len(raw) > LONGEST_ROW:
                raise UserError(
                    f"{path}:{number}: a line of more than {LONGEST_ROW:,} bytes; expected a row of text"
                )
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise UserError(
                    f"{path}:{number}: byte {error.start + 1} is not UTF-8; convert the file"
                ) from None
            if "\0" in line:
                raise UserError(f"{path}:{number}: holds a NUL byte; expected UTF-8 text")
            line = line.rstrip("\n").removesuffix("\r")
            if number == 1 and "\r" in line:
                raise UserError(
                    f"{path}:1: has a carriage return within it; expected rows that end in line feeds: "
                    "convert the file with `tr '\\r' '\\n'`"
                )
            if not line:
                blank = blank or number
                continue
            fields = line.split("\t")
            expected = expected or len(fields)
            if skip_short and len(fields) < expected:
                skipped += 1
                continue
            if blank or len(fields) != expected:
                bad, count = (blank, 0) if blank else (number, len(fields))
                raise UserError(
                    f"{path}:{bad}: {count} columns, expected {expected}{reason}; "
                    "fields are separated by tabs, quotes have no meaning"
                )
            yield number, fields
    if not number or blank == 1:
        raise UserError(f"{path}: the file is empty; expected tab-separated rows")
    if skipped:
        print(f"note: {path}: {skipped} of {number} lines have too few columns, skipped as in the "
              "published reader", file=sys.stderr)  # fmt: skip
