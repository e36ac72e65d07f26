"""Large UTF-8 text files, plain or compressed, read as blocks of whole lines."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from collections.abc import Iterator
from typing import IO, NamedTuple

from transformer.errors import UserError

_OPENERS = {b"BZh": bz2.open, b"\x1f\x8b": gzip.open}


class Block(NamedTuple):
    """Whole lines of a file: its path, the number of the first line (from 1), their bytes."""

    path: str
    first_line: int
    data: bytes

    def lines(self) -> list[str]:
        """Decode the lines; only a line feed ends one.

        Raises:
            UserError: file and line of what is not UTF-8.
        """
        try:
            text = self.data.decode("utf-8-sig" if self.first_line == 1 else "utf-8")
        except UnicodeDecodeError as error:
            line = self.first_line + self.data.count(b"\n", 0, error.start)
            raise UserError(
                f"{self.path}:{line}: is not UTF-8; convert the file to UTF-8"
            ) from None
        return text.removesuffix("\n").split("\n")


def open_binary(path: str | os.PathLike) -> IO[bytes]:
    """Open a file for reading, through bz2 or gzip if that is what it holds."""
    try:
        with open(path, "rb") as file:
            head = file.read(3)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a text file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; expected a text file") from None
    matching = (opener for magic, opener in _OPENERS.items() if head.startswith(magic))
    return next(matching, open)(path, "rb")


def read_some(file: IO[bytes], size: int, path: str | os.PathLike) -> bytes:
    """Read up to `size` bytes of a file that `open_binary` opened.

    Raises:
        UserError: its compressed form is damaged.
    """
    try:
        return file.read(size)
    except (EOFError, zlib.error, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise UserError(f"{path}: is damaged ({error}); download or make it again") from None


def read_blocks(path: str | os.PathLike, size: int) -> Iterator[Block]:
    """Read a file as blocks of whole lines of about `size` bytes.

    Raises:
        UserError: the file is missing, or its compressed form is damaged.
    """
    first_line, rest = 1, b""
    with open_binary(path) as file:
        while True:
            data = read_some(file, size, path)
            end = data.rfind(b"\n") + 1 if data else 0
            if data and not end:
                rest += data
                continue
            lines, rest = rest + data[:end], data[end:]
            if lines:
                yield Block(os.fspath(path), first_line, lines)
                first_line += lines.count(b"\n")
            if not data:
                return
