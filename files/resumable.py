"""An output that takes hours to write, and outlives the process that writes it.

While OUTPUT is made, the folder OUTPUT.unfinished holds

    content     what has been written
    done.json   up to which byte, with what checksum, from what (`made_from`), and what the writer needs to
                resume; with a checksum of its own

When it is complete, `content` is renamed to OUTPUT and the folder removed. What it keeps is never removed
because a later run has other flags or files, or no --resume: that run is refused, with what differs.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import sys
import time
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from files.atomic import atomic_open, put_in_place
from files.checksums import content_key
from files.errors import Mishap, UserError, setting
from files.kept_work import differences

SECONDS = 10.0  # of work that a kill may cost: `Unfinished.mark` does nothing more often
_CONTENT, _DONE = "content", "done.json"
_OURS = re.compile(rf"{_CONTENT}|{re.escape(_DONE)}|\.{re.escape(_DONE)}\.\w{{8}}\.part")
_BLOCK = 1 << 22


class Unfinished:
    """What has been written of an output.

    Attributes:
        facts: what the last `mark` was given; None at the beginning.
    """

    def __init__(
        self, folder: Path, made_from: Mapping[str, Any], found: dict[str, Any] | None
    ) -> None:
        self.facts: dict[str, Any] | None = found and found["facts"]
        self._folder, self._made_from = folder, dict(made_from)
        self._bytes, self._checksum = (found["bytes"], found["crc32"]) if found else (0, 0)
        self._marked = time.monotonic()
        self._file: IO[bytes] = open(folder / _CONTENT, "r+b" if found else "xb")  # noqa: SIM115
        self._file.truncate(self._bytes)
        self._file.seek(self._bytes)

    def write(self, data: bytes) -> None:
        """Append to the output."""
        self._checksum = zlib.crc32(data, self._checksum)
        self._bytes += len(data)
        self._file.write(data)

    def mark(self, facts: dict[str, Any]) -> None:
        """Say that a run can resume from here, knowing `facts`: plain values."""
        if time.monotonic() - self._marked >= SECONDS:
            self._sync()
            done = {"made_from": self._made_from, "bytes": self._bytes, "crc32": self._checksum}
            done["facts"] = facts
            with atomic_open(self._folder / _DONE) as file:
                json.dump({"done": done, "check": content_key(done)}, file)
            self.facts = facts
            self._marked = time.monotonic()

    def finish(self, output: Path) -> None:
        """Let the output appear."""
        self._sync()
        self.close()
        put_in_place(self._folder / _CONTENT, output)

    def close(self) -> None:
        """Close the file; a full disk has been told by then."""
        with contextlib.suppress(OSError):
            self._file.close()

    def _sync(self) -> None:
        self._file.flush()
        os.fsync(self._file.fileno())


@contextlib.contextmanager
def unfinished(
    output: str | os.PathLike, made_from: Mapping[str, Any], resume: bool
) -> Iterator[Unfinished]:
    """Give what becomes `output` when the block ends without an error.

    What was marked stays when the program is killed or stopped, or when the system fails it (a full
    disk, a want of memory); a mistake of the user's removes it, unless an earlier run had left it. The
    caller is the output's only writer.

    Args:
        made_from: what the output is made from: names and plain values.
        resume: continue after the last mark of a run that left one.

    Raises:
        UserError: something that is not ours stands in the folder's place, or a stopped run's work that
            was made from something else, or that is not to be resumed.
    """
    output = Path(output)
    folder = Path(f"{output}.unfinished")
    found = _left_behind(folder, output, made_from, resume)
    if found is None:
        shutil.rmtree(folder, ignore_errors=True)
    try:
        folder.mkdir(mode=0o700, exist_ok=found is not None)
        work = Unfinished(folder, made_from, found)
    except OSError as error:
        raise UserError(f"{output}: cannot be written there ({error.strerror})") from None
    keep = False
    try:
        yield work
        work.finish(output)
    except BaseException as error:
        mistake = isinstance(error, UserError) and not isinstance(error, Mishap)
        keep = work.facts is not None and (found is not None or not mistake)
        if keep:
            print(
                f"note: {folder} keeps what is done; {setting('resume')} continues from there",
                file=sys.stderr,
            )
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(
                output
            )  # the error of a full disk names no file; the user needs one
        raise
    finally:
        work.close()
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


def _left_behind(
    folder: Path, output: Path, made_from: Mapping[str, Any], resume: bool
) -> dict[str, Any] | None:
    """What `done.json` of a run from the same says, if the bytes are what it says."""
    if not os.path.lexists(folder):
        return None
    if (
        folder.is_symlink()
        or not folder.is_dir()
        or not all(map(_OURS.fullmatch, os.listdir(folder)))
    ):
        raise UserError(
            f"{folder}: is in the way: expected nothing there, or what a stopped run of this program "
            "left; move it away"
        )
    reason = "what it left is damaged"
    if not (folder / _DONE).exists():
        reason = "it had not come far enough"
    elif (found := _read_note(folder)) is not None:
        differs = differences(found["made_from"], made_from)
        if differs or not resume:
            what = f", made with {differs}; run that command again with" if differs else ";"
            raise UserError(
                f"{folder}: keeps {found['bytes']:,} bytes of a stopped run{what} {setting('resume')}"
                f"{'' if differs else ' continues it'}, or remove this folder to start over"
            )
        with contextlib.suppress(OSError):
            if _checksum(folder / _CONTENT, found["bytes"]) == found["crc32"]:
                print(f"note: {output}: resuming after {found['bytes']:,} bytes", file=sys.stderr)
                return found
    print(f"note: {output}: a stopped run is not resumed ({reason})", file=sys.stderr)
    return None


def _read_note(folder: Path) -> dict[str, Any] | None:
    """What `done.json` says; None if it is damaged."""
    try:
        note = json.loads((folder / _DONE).read_bytes())
        found = note["done"]
        if content_key(found) != note["check"]:
            return None
        return {"made_from": {}, **found}  # earlier versions did not say
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None


def _checksum(path: Path, size: int) -> int | None:
    """CRC-32 of the first `size` bytes of a file; None if it has fewer."""
    checksum = 0
    with open(path, "rb") as file:
        while size > 0:
            if not (data := file.read(min(size, _BLOCK))):
                return None
            checksum = zlib.crc32(data, checksum)
            size -= len(data)
    return checksum
