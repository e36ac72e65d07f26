"""Files from elsewhere: `cached_path` and `download`, retried, resumed, checked, and only then renamed.

What has arrived stands in `NAME.part`; `NAME.part.json` says of which address and version it is. A later
attempt, or a later run, asks for the rest if the server still has that version, and starts again if not.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

from files.atomic import atomic_open
from files.checksums import ALGORITHMS, file_checksum
from files.errors import UserError
from files.locks import wait_for_lock
from files.progress import progress_bar
from files.remote import Changed, Interrupted, Remote, file_name, is_address, open_remote, shown

CACHE_VARIABLE = "TINYBERT_CACHE"
OFFLINE_VARIABLE = "TINYBERT_OFFLINE"
ATTEMPTS = 4  # in a row that bring less than PROGRESS_BYTES
PROGRESS_BYTES = 1 << 20
BACKOFF_SECONDS = 1.0
SHOW_PROGRESS_FROM = 16 << 20  # bytes


class Wanted(NamedTuple):
    """What a file must be: a checksum (MD5, SHA-1 or SHA-256 in hexadecimal), a size in bytes."""

    checksum: str | None = None
    size: int | None = None


class _Begun(NamedTuple):
    """Of what the partial file is a part."""

    url: str
    version: str
    size: int | None


def fetch(
    url: str,
    partial: Path,
    place: Callable[[str], Path],
    wanted: Wanted = Wanted(),  # noqa: B008 (immutable)
    accept: bool = False,
) -> Path:
    """Bring an address to the path that `place` names for the version the server has.

    Args:
        partial: the `.part` file, in the same folder.
        accept: take a file that already stands at that path.

    Raises:
        Interrupted: the network failed to the end; what has arrived is kept.
        UserError: no such file, no permission, no room, or not what is `wanted`; nothing is kept then.
    """
    partial.parent.mkdir(parents=True, exist_ok=True)
    with _sole_use(partial) as file:
        failures = most = 0
        while True:
            try:
                return _attempt(url, file, partial, place, wanted, accept)
            except Interrupted as error:
                arrived = os.fstat(file.fileno()).st_size
                failures = 1 if arrived >= most + PROGRESS_BYTES else failures + 1
                most = max(most, arrived)
                if failures == ATTEMPTS:
                    kept = f"; {arrived:,} bytes are kept in {partial}" if arrived else ""
                    raise Interrupted(f"{error}{kept}") from None
                wait = max(BACKOFF_SECONDS * 2 ** (failures - 1), error.wait)
                print(f"note: {shown(url)}: {error}; trying again in {wait:g} s", file=sys.stderr)
                time.sleep(wait)
            except UserError:
                _forget(file, partial)
                raise


def _attempt(
    url: str,
    file: IO[bytes],
    partial: Path,
    place: Callable[[str], Path],
    wanted: Wanted,
    accept: bool,
) -> Path:
    begun, have = _begun(file, partial, url, wanted)
    try:
        if have and begun.size == have:  # everything had arrived, and was not renamed any more
            path = place(begun.version)
        else:
            with open_remote(url, have, begun.version) as remote:
                path, have = place(remote.version), remote.start
                if accept and path.exists():
                    _forget(file, partial)
                    return path
                _receive(url, remote, file, partial, wanted)
        if fault := _fault(file, partial, wanted):
            if have:  # perhaps the two parts are of different versions
                raise Changed(fault)
            raise UserError(f"{shown(url)}: {fault}")
    except Changed:
        _forget(file, partial)
        raise
    os.fsync(file.fileno())
    os.replace(partial, path)
    _note(partial).unlink(missing_ok=True)
    return path


def _begun(file: IO[bytes], partial: Path, url: str, wanted: Wanted) -> tuple[_Begun, int]:
    """Return of what the partial file is a part, and how much of it is there that can be used."""
    have = os.fstat(file.fileno()).st_size
    try:
        begun = _Begun(**json.loads(_note(partial).read_bytes()))
        # Without a strong name of the version only a checksum tells whether two parts belong together.
        certain = wanted.checksum or (begun.version and not begun.version.startswith("W/"))
        if begun.url == _digest(url) and certain and have <= (begun.size or have):
            return begun, have
    except (OSError, ValueError, TypeError, AttributeError):
        pass  # no note, or a damaged one
    return _Begun(url, "", None), 0


def _receive(url: str, remote: Remote, file: IO[bytes], partial: Path, wanted: Wanted) -> None:
    if None not in (wanted.size, remote.size) and remote.size != wanted.size:
        raise UserError(f"{shown(url)}: has {remote.size:,} bytes; expected {wanted.size:,}")
    free = shutil.disk_usage(partial.parent).free
    needed = (remote.size or wanted.size or 0) - remote.start
    if needed > free:
        raise UserError(f"{partial.parent}: {free:,} bytes free; {shown(url)} needs {needed:,}")
    file.seek(remote.start)
    file.truncate()
    if not remote.start:
        with atomic_open(_note(partial)) as note:
            json.dump(_Begun(_digest(url), remote.version, remote.size)._asdict(), note)
    received = remote.start
    bar = progress_bar(
        remote.size,
        "B",
        partial.name.removesuffix(".part"),
        initial=remote.start,
        disable=(remote.size or 0) < SHOW_PROGRESS_FROM,
    )
    with bar:
        for block in remote.blocks:
            rest = memoryview(block)
            with _named(partial):
                while rest:  # a disk that is nearly full takes some of it
                    rest = rest[file.write(rest) :]
            received += len(block)
            bar.update(len(block))
            if wanted.size is not None and received > wanted.size:
                raise UserError(
                    f"{shown(url)}: has {received:,} bytes and more; expected {wanted.size:,}"
                )
    if remote.size is not None and received != remote.size:
        raise Interrupted(f"broke off after {received:,} of {remote.size:,} bytes")


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """Give an error that knows no file, such as a full disk's, the name the user needs."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _fault(file: IO[bytes], partial: Path, wanted: Wanted) -> str:
    """Return in what a whole file is not what is wanted; "" if it is."""
    size = os.fstat(file.fileno()).st_size
    if wanted.size is not None and size != wanted.size:
        return f"has {size:,} bytes; expected {wanted.size:,}"
    if wanted.checksum is not None:
        found = file_checksum(partial, wanted.checksum)
        if found != wanted.checksum:
            return f"has the {ALGORITHMS[len(found)]} {found}; expected {wanted.checksum}"
    return ""


@contextlib.contextmanager
def _sole_use(partial: Path) -> Iterator[IO[bytes]]:
    """Open the partial file, waiting for another process that is at it; an empty one is removed after."""
    while True:
        descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            wait_for_lock(file, f"{partial}: another process is at it; waiting")
            if not _stands_at(file, partial):
                continue  # the other one has renamed or removed it
            try:
                yield file
            finally:
                if _stands_at(file, partial) and not os.fstat(file.fileno()).st_size:
                    _note(partial).unlink(missing_ok=True)
                    partial.unlink()
            return


def _stands_at(file: IO[bytes], path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


def _forget(file: IO[bytes], partial: Path) -> None:
    file.seek(0)
    file.truncate()
    _note(partial).unlink(missing_ok=True)


def _note(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _digest(url: str) -> str:
    """Addresses may hold a password, which is not written down."""
    return hashlib.sha256(url.encode("utf-8", "surrogatepass")).hexdigest()


def cached_path(
    url_or_filename: str | os.PathLike,
    cache_dir: str | os.PathLike | None = None,
    sha256: str | None = None,
) -> Path:
    """Return a local path for a file: itself, or the cached copy of an http, https or s3 address.

    A copy is kept for each address and version (the server's ETag) in `cache_dir`, or in the folder
    that the environment variable TINYBERT_CACHE names, or in ~/.cache/tinybert. While the server
    cannot be reached, or TINYBERT_OFFLINE is set, the newest copy is used, and a note says so.

    Raises:
        UserError: no such file; the server refuses; the copy's checksum is not `sha256`.
    """
    if not is_address(url_or_filename):
        if "://" in str(url_or_filename):
            raise UserError(f"{url_or_filename}: expected a path or an http, https or s3 address")
        if Path(url_or_filename).exists():
            return Path(url_or_filename)
        raise UserError(f"{url_or_filename}: no such file or folder")
    url = str(url_or_filename)
    default = os.environ.get(CACHE_VARIABLE) or Path.home() / ".cache" / "tinybert"
    folder = Path(cache_dir or default)
    key, name = _digest(url), file_name(url)
    try:
        if is_offline():
            raise Interrupted(f"{OFFLINE_VARIABLE} is set")
        path = fetch(
            url,
            folder / f"{key}-{name}.part",
            lambda version: folder / f"{key}.{_digest(version)}-{name}",
            Wanted(sha256),
            accept=True,
        )
    except Interrupted as error:
        copies = sorted(folder.glob(f"{key}.*-{name}"), key=lambda copy: copy.stat().st_mtime)
        if not copies:
            raise _unreachable(url, error) from None
        path = copies[-1]
        print(f"note: {shown(url)}: cannot be reached ({error}); using {path}", file=sys.stderr)
    if sha256 is not None and file_checksum(path) != sha256:
        raise UserError(f"{path}: expected the SHA-256 {sha256}; remove the file and try again")
    return path


def download(
    url: str,
    path: str | os.PathLike,
    checksum: str | None = None,
    size: int | None = None,
) -> Path:
    """Fetch an http, https or s3 address into the file `path`, replacing it.

    Raises:
        UserError: it cannot be fetched, or is not what `checksum` (SHA-256, SHA-1 or MD5) and `size`
            (bytes) say.
    """
    if not is_address(url):
        raise UserError(f"{url}: expected an http, https or s3 address")
    path = Path(path)
    try:
        if is_offline():
            raise Interrupted(f"{OFFLINE_VARIABLE} is set")
        return fetch(
            url, path.with_name(f"{path.name}.part"), lambda version: path, Wanted(checksum, size)
        )
    except Interrupted as error:
        raise _unreachable(url, error) from None


def is_offline() -> bool:
    """Whether the user has forbidden the network: TINYBERT_OFFLINE=1."""
    return os.environ.get(OFFLINE_VARIABLE, "").lower() not in ("", "0", "no", "false", "off")


def _unreachable(url: str, error: Interrupted) -> UserError:
    return UserError(
        f"{shown(url)}: cannot be fetched ({error}); check the address and the network"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
