"""Large UTF-8 text files, plain or compressed, read as blocks of whole lines."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import os
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO, NamedTuple

from corpus.text_formats import HEAD_BYTES, format_of, refuse_binary
from files.errors import UserError, setting

LONGEST_LINE = 1 << 30  # bytes
LONGEST_JOINED = 1 << 26  # bytes of lines that were one before they were wrapped
_LINE_BEFORE = 1 << 16  # bytes; a line that was wrapped is shorter
_GUESS_BYTES = 1 << 23
_WINDOWS, _WINDOW_BYTES = 16, 1 << 16
# What a file begins with: what unpacks it. What nothing here unpacks is refused (corpus/text_formats.py).
_OPENERS = {
    b"BZh": bz2.open,
    b"\x1f\x8b": gzip.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x5d\x00\x00": lzma.open,
}
_PACKED_HEAD = 512  # bytes by which what is not text is known


class Block(NamedTuple):
    """Whole lines of a file: its path, the number of the first line (from 1), their bytes.

    Where `unit` is "record ", they are what records that may stand on several lines were made into.
    """

    path: str
    first_line: int
    data: bytes
    unit: str = ""

    def place(self, number: int) -> str:
        """How a message names the line, or the record, with a number."""
        return f"{self.path}:{' ' if self.unit else ''}{self.unit}{number}"

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
    """Open a text file for reading, through bz2, gzip or lzma if that is what it holds.

    Raises:
        UserError: there is no such file, or it is of a kind that is not text.
    """
    try:
        file = open(path, "rb")  # noqa: SIM115
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected a text file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; expected a text file") from None
    try:
        head = file.peek(_PACKED_HEAD)[:_PACKED_HEAD]  # nothing is lost of a pipe
        opener = _opener(head)
        if opener is None:
            refuse_binary(path, head)
            return file
    except BaseException:
        file.close()
        raise
    file.close()
    return opener(path, "rb")


def _opener(head: bytes) -> Callable[..., IO[bytes]] | None:
    return next((opener for magic, opener in _OPENERS.items() if head.startswith(magic)), None)


def read_format(path: str | os.PathLike) -> str:
    """Name the format of a text file, which may be compressed (see `text_formats.format_of`).

    Raises:
        UserError: it is missing, empty, damaged or not of a format that is known.
    """
    with open_binary(path) as file:
        head = read_some(file, HEAD_BYTES, path)
    if not head.removeprefix(b"\xef\xbb\xbf").strip():
        raise UserError(f"{path}: is empty; expected text, JSON lines or a Wikipedia dump")
    return format_of(path, head)


def read_some(file: IO[bytes], size: int, path: str | os.PathLike) -> bytes:
    """Read up to `size` bytes of a file that `open_binary` opened.

    Raises:
        UserError: its compressed form is damaged.
    """
    with _undamaged(path):
        return file.read(size)


@contextlib.contextmanager
def _undamaged(path: str | os.PathLike) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, lzma.LZMAError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        raise UserError(f"{path}: is damaged ({error}); download or make it again") from None


def read_blocks(
    path: str | os.PathLike,
    size: int,
    within: range | None = None,
    joins: Callable[[bytes, bytes], bool] | None = None,
) -> Iterator[Block]:
    """Read a file as blocks of whole lines of about `size` bytes.

    Args:
        within: only lines that begin in these bytes of a file that is not compressed.
        joins: whether a line (first) is continued by the next (second); such lines are in one block, and
            belong to the range in which the first of them begins.

    Raises:
        UserError: the file is missing, its compressed form is damaged, or a line has no end.
    """
    blocks = _read_lines(path, size, within, joins)
    return blocks if joins is None else _together(blocks, joins)


def _read_lines(
    path: str | os.PathLike,
    size: int,
    within: range | None,
    joins: Callable[[bytes, bytes], bool] | None,
) -> Iterator[Block]:
    first_line, left = 1, None
    waiting, length = [], 0  # what was read since the last line feed
    with open_binary(path) as file:
        if within is not None:
            first_line += _begin(file, within, joins)
            left = within.stop - file.tell()
        while left is None or left > 0:
            data = read_some(file, size if left is None else min(size, left), path)
            if left is not None:
                left -= len(data)
                if left == 0 and not data.endswith(b"\n"):
                    data += file.readline()
                if left == 0 and joins is not None:
                    data += _continuation(file, b"".join([*waiting, data]), joins)
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


def _together(blocks: Iterable[Block], joins: Callable[[bytes, bytes], bool]) -> Iterator[Block]:
    """Cut blocks again, so that lines which are joined stay together."""
    held, first_line, path = b"", 1, ""
    for block in blocks:
        first_line, path = (first_line, path) if held else (block.first_line, block.path)
        data = held + block.data
        cut = _last_cut(data, len(held), joins)
        if not cut and len(data) > LONGEST_JOINED:
            raise UserError(
                f"{path}:{first_line}: a paragraph of more than {LONGEST_JOINED:,} bytes in wrapped lines; "
                f"expected blank lines between paragraphs, or {setting('keep_line_breaks')}"
            )
        if cut:
            yield Block(path, first_line, data[:cut])
            first_line += data.count(b"\n", 0, cut)
        held = data[cut:]
    if held:
        yield Block(path, first_line, held)


def _last_cut(data: bytes, low: int, joins: Callable[[bytes, bytes], bool]) -> int:
    """The last place, from `low` on, between two lines that are not joined; 0 if there is none."""
    end = len(data)
    while (place := data.rfind(b"\n", 0, end - 1) + 1) >= max(low, 1):
        before = data.rfind(b"\n", 0, place - 1) + 1
        if not joins(data[before:place], data[place:end]):
            return place
        end = place
    return 0


def _continuation(file: IO[bytes], data: bytes, joins: Callable[[bytes, bytes], bool]) -> bytes:
    """Read on as long as lines are joined to the last one of `data`."""
    last = data[data.rfind(b"\n", 0, len(data) - 1) + 1 :]
    lines = []
    while True:
        place = file.tell()
        line = file.readline()
        if not line or not joins(last, line):
            file.seek(place)
            return b"".join(lines)
        lines.append(line)
        last = line


def _begin(
    file: IO[bytes], within: range, joins: Callable[[bytes, bytes], bool] | None = None
) -> int:
    """Go to the first line that begins in `within`; return the number of lines before it."""
    before, left = 0, within.start
    while left > 0 and (data := file.read(min(left, 1 << 20))):
        before += data.count(b"\n")
        left -= len(data)
    if within.start and not data.endswith(b"\n"):
        before += file.readline().endswith(b"\n")
    if within.start and joins is not None:
        place = file.tell()
        file.seek(max(0, place - _LINE_BEFORE))
        before += _continuation(file, file.read(place - file.tell()), joins).count(b"\n")
    return before


def is_compressed(path: str | os.PathLike) -> bool:
    """Whether a file is one that `open_binary` unpacks."""
    with open_binary(path) as file:
        return is_packed(file)


def is_packed(file: IO[bytes]) -> bool:
    """Whether a file that `open_binary` opened is unpacked while it is read."""
    return isinstance(file, bz2.BZ2File | gzip.GzipFile | lzma.LZMAFile)


def whole_lines(file: IO[bytes], path: str | os.PathLike) -> Iterator[bytes]:
    """The lines of a file that `open_binary` opened.

    Raises:
        UserError: its compressed form is damaged.
    """
    with _undamaged(path):
        yield from file


def unpacked_size(path: str | os.PathLike) -> int:
    """Bytes of a file once it is unpacked: guessed from its first megabytes where it is compressed."""
    with open(path, "rb") as packed:
        opener, size = _opener(packed.peek(_PACKED_HEAD)), os.path.getsize(path)
        if opener is None:
            return size
        data = read_some(opener(packed), _GUESS_BYTES, path)
        return size * len(data) // packed.tell()


def sample_lines(paths: Sequence[str | os.PathLike]) -> list[list[str]]:
    """Runs of whole consecutive lines from places all over files; of compressed ones from the beginning."""
    samples = []
    for path in paths[:: max(1, len(paths) // _WINDOWS)]:
        with open_binary(path) as file:
            size = os.path.getsize(path)
            few = is_compressed(path) or size <= _WINDOWS * _WINDOW_BYTES
            starts = [0] if few else [size * i // _WINDOWS for i in range(_WINDOWS)]
            for start in starts:
                if start:
                    file.seek(start)
                data = read_some(file, (_WINDOWS if few else 1) * _WINDOW_BYTES, path)
                lines = data.decode("utf-8", "replace").split("\n")
                whole = few and len(data) < _WINDOWS * _WINDOW_BYTES
                samples.append(lines[start > 0 : None if whole else -1])
    return samples


def shard_of_files(
    paths: Sequence[str | os.PathLike], index: int, count: int
) -> list[tuple[str | os.PathLike, range | None]]:
    """Cut files into `count` shards of as many bytes; return shard `index` (from 1).

    Returns:
        (file, the bytes of it in which the lines of the shard begin). A compressed file is never
        cut: its shard is the one it begins in, and the bytes are None.
    """
    sizes = [os.path.getsize(path) for path in paths]
    low, high = (sum(sizes) * i // count for i in (index - 1, index))
    shard: list[tuple[str | os.PathLike, range | None]] = []
    begin = 0
    for path, size in zip(paths, sizes, strict=True):
        if is_compressed(path):
            if low <= begin < high:
                shard.append((path, None))
        elif inside := range(max(low - begin, 0), min(high - begin, size)):
            shard.append((path, inside))
        begin += size
    return shard
