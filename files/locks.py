"""One writer for one output: a second process is refused, a dead one's place is taken."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from files.errors import UserError

LOCK_NAME = ".lock"  # in an output folder; beside an output file it is .NAME.lock
_NO_LOCKS = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}
_PARTIAL = re.compile(
    r"\.(?P<name>.+)\.[a-z0-9_]{8}\.part"
)  # as `file_utils.atomic_open` names them


def wait_for_lock(file: IO, told: str) -> None:
    """Lock an open file, after the process that has it; the lock ends when the file is closed.

    Where the file system has no locks, nothing is locked: files still appear complete or not at all.

    Args:
        told: what to say before waiting.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        print(f"note: {told}", file=sys.stderr)
        fcntl.flock(file, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise


@contextlib.contextmanager
def sole_writer(output: str | os.PathLike) -> Iterator[None]:
    """Keep every other process from writing `output`, a file or an existing folder, during the block.

    The lock is the kernel's and ends with its holder, however that ends; the file that carries it tells
    others who holds it. What a killed holder left half-written is removed.

    Raises:
        UserError: another process holds it (its id and host are named), or nothing can be written there.
    """
    output = Path(output)
    if output.is_dir():
        folder, lock, names = output, output / LOCK_NAME, None
    else:
        folder, lock, names = output.parent, output.parent / f".{output.name}.lock", {output.name}
    try:
        descriptor = _acquire(lock, output)
    except OSError as error:
        raise UserError(f"{output}: cannot be written there ({error.strerror})") from None
    if descriptor is None:
        print(
            f"note: {folder}: its file system has no locks; let no other process write there",
            file=sys.stderr,
        )
        yield
        return
    try:
        for entry in os.scandir(folder):
            match = _PARTIAL.fullmatch(entry.name)
            ours = match and (names is None or match["name"] in names)
            if ours and entry.is_file(follow_symlinks=False):
                os.unlink(entry)
        yield
    finally:
        if _is_at(descriptor, lock):  # the folder may have been moved, and the file with it
            lock.unlink()
        os.close(descriptor)


def _acquire(lock: Path, output: Path) -> int | None:
    """Open and lock the file; None where the file system cannot."""
    while True:
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if not _is_at(descriptor, lock):  # its holder has just removed it
                os.close(descriptor)
                continue
            dead = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
            if dead:
                print(f"note: {output}: {dead} wrote here and died", file=sys.stderr)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()}".encode(), 0)
            return descriptor
        except OSError as error:
            holder = ""
            for _ in range(5):  # it may have the lock and not have written its name yet
                holder = os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip()
                if holder or error.errno != errno.EWOULDBLOCK:
                    break
                time.sleep(0.05)
            os.close(descriptor)
            if error.errno == errno.EWOULDBLOCK:
                raise UserError(
                    f"{output}: {holder or 'another process'} is writing there; wait for it, or stop it"
                ) from None
            if error.errno in _NO_LOCKS:
                return None
            raise


def _is_at(descriptor: int, path: Path) -> bool:
    """Whether an open file is the one that stands under `path`."""
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path, follow_symlinks=False))
    except FileNotFoundError:
        return False
