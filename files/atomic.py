"""Safe writing, and inputs and outputs that are checked before anything is written."""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO

from files.errors import UserError, setting
from files.locks import LOCK_NAME, sole_writer

RUN_RECORD_NAME = "run.json"

# Nobody's work: the lock, and what keeps an empty folder in a repository or is left by looking at it.
_PLACEHOLDERS = {LOCK_NAME, ".gitkeep", ".keep", ".gitignore", ".DS_Store"}


def contents(folder: str | os.PathLike) -> list[str]:
    """Sorted names of what a folder holds, placeholders left out; none if it is not there."""
    return sorted({*os.listdir(folder)} - _PLACEHOLDERS) if os.path.isdir(folder) else []


@contextlib.contextmanager
def atomic_open(path: str | os.PathLike, mode: str = "w", **options) -> Iterator[IO]:
    """Open a file for writing that appears under `path` only once it is complete and on disk.

    The bytes go to a private file in the same folder, which is flushed, synced and renamed when the
    block ends without an error, and removed when it ends with one. Missing parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    if "b" not in mode:
        options.setdefault("encoding", "utf-8")
        options.setdefault("newline", "\n")
    descriptor, partial = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    try:
        with os.fdopen(descriptor, mode, **options) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        put_in_place(partial, path)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        if isinstance(error, OSError) and error.filename is None:
            error.filename = str(path)  # the error of a full disk names no file; the user needs one
        raise


def put_in_place(partial: str | os.PathLike, path: Path) -> None:
    """Let a private file that is complete and synced appear under `path`, on the same file system."""
    umask = os.umask(0)
    os.umask(umask)
    os.chmod(partial, 0o666 & ~umask)  # it was private; the finished one is not
    os.replace(partial, path)
    _sync_folder(path.parent)


@contextlib.contextmanager
def atomic_folder(path: str | os.PathLike) -> Iterator[Path]:
    """Give a private folder beside `path` that takes its place, whatever stands there, when the block ends.

    When the block ends with an error, what stands there stays. What a killed process left is removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with sole_writer(path.with_name(f"{path.name}.folder")):
        for rest in path.parent.glob(f".{glob.escape(path.name)}.*.folder"):
            shutil.rmtree(rest)
        partial = Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".folder", dir=path.parent))
        try:
            yield partial
            umask = os.umask(0)
            os.umask(umask)
            partial.chmod(0o777 & ~umask)
            if path.exists():  # a folder that is not empty cannot be renamed over
                old = path.with_name(f"{partial.name[:-7]}.old.folder")
                path.rename(old)
                partial.rename(path)
                shutil.rmtree(old)
            else:
                partial.rename(path)
            _sync_folder(path.parent)
        finally:
            shutil.rmtree(partial, ignore_errors=True)


def _sync_folder(folder: Path) -> None:
    """Have a folder's names on disk, so that a renamed file survives a power cut under its new name."""
    with contextlib.suppress(OSError):  # not every file system can
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def find_input(path: str | os.PathLike, what: str) -> Path:
    """Return `path` if it exists, else the same name with or without a leading `data/`.

    The published command lines write `data/json_wiki` and read `json_wiki`, unzip GloVe here and read it
    from `data/`; both work, and the choice is printed.

    Raises:
        UserError: neither place exists; the message names both.
    """
    path = Path(path)
    if path.exists():
        return path
    other = Path(*path.parts[1:]) if path.parts[:1] == ("data",) else Path("data") / path
    if not path.is_absolute() and other.exists():
        print(f"note: {path} does not exist, using {other}", file=sys.stderr)
        return other
    too = "" if path.is_absolute() else f", and no {other}"
    raise UserError(f"{path}: no such file or folder{too}; expected {what}")


def lies_in(path: str | os.PathLike, folder: str | os.PathLike) -> bool:
    """Whether a path is a folder or inside it, links followed; a link that stands in it is inside too."""
    parent, name = os.path.split(os.path.abspath(path))
    places = os.path.realpath(path), os.path.join(os.path.realpath(parent), name)
    return any(Path(place).is_relative_to(os.path.realpath(folder)) for place in places)


def check_inputs_stay(
    folder: str | os.PathLike, inputs: Iterable[str | os.PathLike | None]
) -> None:
    """Refuse to remove what an output folder holds where an input is in it, or is that folder.

    Args:
        inputs: files and folders; a folder's files may be links. What is not there, such as the name
            of a model on a hub, is passed over, and so is None.

    Raises:
        UserError: it names the input.
    """
    for source in inputs:
        if source is None or not os.path.lexists(source):
            continue
        entries = os.scandir(source) if os.path.isdir(source) else ()
        links = [entry.path for entry in entries if entry.is_symlink() and entry.is_file()]
        for path in (source, *links):
            if lies_in(path, folder):
                raise UserError(
                    f"{setting('output_dir')} {folder}: {setting('overwrite_output_dir')} would remove "
                    f"{path}, which this run reads; choose another folder"
                )


def check_no_input(
    name: str, output: str | os.PathLike, inputs: Iterable[str | os.PathLike]
) -> None:
    """Refuse to write over a file that is read.

    Args:
        name: of the setting that names the output.

    Raises:
        UserError: the output is one of the inputs, links followed.
    """
    for path in inputs:
        if os.path.exists(output) and os.path.exists(path) and os.path.samefile(output, path):
            raise UserError(
                f"{setting(name)} {output}: would write over the input {path}; choose another name"
            )


def check_writable(folder: Path, name: str = "output_dir") -> None:
    """Refuse an output folder that is not a folder, or where nothing can be written; nothing is changed.

    Args:
        name: of the setting that names it.

    Raises:
        UserError: it says why.
    """
    try:
        with contextlib.suppress(FileNotFoundError):
            os.lstat(folder)
            if not folder.exists():
                raise UserError(f"{setting(name)} {folder}: is a link that leads nowhere")
            if not folder.is_dir():
                raise UserError(f"{setting(name)} {folder}: is a file; expected a folder")
        nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
        with tempfile.TemporaryFile(dir=nearest):  # without a name wherever the system can
            pass
    except OSError as error:
        raise UserError(
            f"{setting(name)} {folder}: cannot be written there ({error.strerror})"
        ) from None
