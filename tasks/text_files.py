"""Large UTF-8 text files, plain or compressed, read as blocks of whole lines."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from collections.abc import Iterator, Sequence
from typing import IO, NamedTuple

from transformer.errors import UserError

LONGEST_LINE = 1 << 30  # bytes
_GUESS_BYTES = 1 << 23
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


def read_blocks(path: str | os.PathLike, size: int, within: range | None = None) -> Iterator[Block]:
    """Read a file as blocks of whole lines of about `size` bytes.

    Args:
        within: only lines that begin in these bytes of a file that is not compressed.

    Raises:
        UserError: the file is missing, its compressed form is damaged, or a line has no end.
    """
    first_line, left = 1, None
    waiting, length = [], 0  # what was read since the last line feed
    with open_binary(path) as file:
        if within is not None:
            first_line += _begin(file, within)
            left = within.stop - file.tell()
        while left is None or left > 0:
            data = read_some(file, size if left is None else min(size, left), path)
            if left is not None:
                left -= len(data)
                if left == 0 and not data.endswith(b"\n"):
                    data += file.readline()
            end = data.rfind(b"\n") + 1 if data else 0
            if data and not end:
                waiting.append(data)
                length += len(data)
                if length > LONGEST_LINE:  # a file of zeros a thousand times smaller, perhaps
                    raise UserError(
                        f"{path}:{first_line}: a line of more than {LONGEST_LINE:,} bytes; expected text"
                    )
                continue
            lines = b"".join([*waiting, data[:end]])
            waiting, length = [data[end:]], len(data) - end
            if lines:
                yield Block(os.fspath(path), first_line, lines)
                first_line += lines.count(b"\n")
            if not data:
                return
    if rest := b"".join(waiting):
        yield Block(os.fspath(path), first_line, rest)


def _begin(file: IO[bytes], within: range) -> int:
    """Go to the first line that begins in `within`; return the number of lines before it."""
    before, left = 0, within.start
    while left > 0 and (data := file.read(min(left, 1 << 20))):
        before += data.count(b"\n")
        left -= len(data)
    if within.start and not data.endswith(b"\n"):
        before += file.readline().endswith(b"\n")
    return before


def is_compressed(path: str | os.PathLike) -> bool:
    """Whether a file is one that `open_binary` unpacks."""
    with open_binary(path) as file:
        return isinstance(file, bz2.BZ2File | gzip.GzipFile)


def unpacked_size(path: str | os.PathLike) -> int:
    """Bytes of a file once it is unpacked: guessed from its first megabytes where it is compressed."""
    with open(path, "rb") as packed:
        head, size = packed.peek(3), os.path.getsize(path)
        opener = next(
            (opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None
        )
        if opener is None:
            return size
        data = read_some(opener(packed), _GUESS_BYTES, path)
        return size * len(data) // packed.tell()


def share_of_files(
    paths: Sequence[str | os.PathLike], index: int, count: int
) -> list[tuple[str | os.PathLike, range | None]]:
    """Cut files into `count` shares of as many bytes; return share `index` (from 1).

    Returns:
        (file, the bytes of it in which the lines of the share begin). A compressed file is never
        cut: its share is the one it begins in, and the bytes are None.
    """
    sizes = [os.path.getsize(path) for path in paths]
    low, high = (sum(sizes) * i // count for i in (index - 1, index))
    share: list[tuple[str | os.PathLike, range | None]] = []
    begin = 0
    for path, size in zip(paths, sizes, strict=True):
        if is_compressed(path):
            if low <= begin < high:
                share.append((path, None))
        elif inside := range(max(low - begin, 0), min(high - begin, size)):
            share.append((path, inside))
        begin += size
    return share
