"""Zip files that may come from anybody."""

from __future__ import annotations

import os
import shutil
import stat
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from files.errors import UserError

MOST_MEMBERS = 10_000
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_LONGEST_NAME = 200  # bytes of a file's or folder's name


def unpack_zip(
    archive: str | os.PathLike,
    folder: str | os.PathLike,
    source: str,
    largest: int,
    wanted: Callable[[str], bool] = lambda name: True,
) -> None:
    """Unpack into a folder of the caller's own, which is of no use if this fails.

    Args:
        source: what messages call the archive.
        largest: bytes that the whole may unpack to.
        wanted: which members to unpack, by name; the others are checked as well.

    Raises:
        UserError: it is damaged or encrypted, holds anything but files and folders, a name twice or one
            that leads out of `folder`, or unpacks to more than `largest` or the disk has room for.
    """
    archive, folder = Path(archive), Path(folder)
    try:
        with zipfile.ZipFile(archive) as opened:
            members = opened.infolist()
            _check(members, archive, source, largest)
            folder.mkdir(parents=True, exist_ok=True)
            for member in members:
                if wanted(member.filename):
                    _extract(opened, member, folder)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, ValueError, zlib.error) as error:
        raise UserError(f"{source}: is not a valid zip file ({error}); fetch it again") from None
    except (FileExistsError, NotADirectoryError, IsADirectoryError):
        raise UserError(f"{source}: holds a name twice; refused") from None


def _check(members: list[zipfile.ZipInfo], archive: Path, source: str, largest: int) -> None:
    """Judge by the table of contents, before a byte is written."""
    size, free = archive.stat().st_size, shutil.disk_usage(archive.parent).free
    if len(members) > MOST_MEMBERS:
        raise UserError(f"{source}: holds {len(members):,} files; refused")
    for member in members:
        name, kind = member.filename, stat.S_IFMT(member.external_attr >> 16)
        parts = PurePosixPath(name).parts
        if not name:  # zipfile ends a name at its first zero byte
            raise zipfile.BadZipFile("a member has no name")
        if name.startswith("/") or ".." in parts or "\\" in name or ":" in name:
            raise UserError(f"{source}: member {name!r} leads out of its folder; refused")
        if any(len(part.encode("utf-8", "replace")) > _LONGEST_NAME for part in parts):
            raise UserError(f"{source}: member {name[:40]!r}… has too long a name; refused")
        if kind not in (0, stat.S_IFREG, stat.S_IFDIR) or member.flag_bits & 1:
            raise UserError(f"{source}: member {name!r} is not a regular file; refused")
        if member.compress_type not in _METHODS or not 0 <= member.header_offset < size:
            raise zipfile.BadZipFile(f"member {name!r} cannot be read")
    # Members that share their bytes, as those of a zip bomb do, add up to more than there is.
    if sum(member.compress_size for member in members) > size:
        raise zipfile.BadZipFile("its members overlap")
    total = sum(member.file_size for member in members)
    if total > min(free, largest):
        raise UserError(
            f"{source}: unpacks to {total:,} bytes; {free:,} are free, {largest:,} expected at most"
        )


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path) -> None:
    """Write one member; zipfile gives no more bytes than the table of contents has declared."""
    path = folder.joinpath(*PurePosixPath(member.filename).parts)
    if member.is_dir():
        path.mkdir(parents=True, exist_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    with opened.open(member) as source, open(path, "xb") as target:
        shutil.copyfileobj(source, target, 1 << 20)
        target.flush()
        os.fsync(target.fileno())
