"""Work of a killed run that the next one need not do again: folders named after what they were made from."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from transformer.file_utils import atomic_open

_DONE = "done.json"


def content_key(*facts: Any) -> str:
    """A short name for facts that JSON can hold; other facts have another."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def identity(paths: Iterable[str | os.PathLike]) -> list[list[Any]]:
    """What tells files from their next versions without reading them: name, size, time of change."""
    status = ((Path(path).name, Path(path).stat()) for path in paths)
    return [[name, facts.st_size, facts.st_mtime_ns] for name, facts in status]


@contextlib.contextmanager
def kept_folder(parent: str | os.PathLike, prefix: str, key: str, sole: bool) -> Iterator[Path]:
    """Give a private folder `parent/PREFIXkey` for work that leads to the output.

    It goes away when the block ends, well or with an error. It stays when the program is killed or
    stopped after `mark_done`; the next run with this key finds it (see `facts_of_done`).

    Args:
        sole: nobody else has such folders here: those with other keys are rests, and are removed.
    """
    folder = Path(parent) / f"{prefix}{key}"
    for rest in Path(parent).glob(f"{prefix}*") if sole else ():
        if rest != folder:
            shutil.rmtree(rest)
    if facts_of_done(folder) is None:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    stopped = False
    try:
        yield folder
    except (KeyboardInterrupt, SystemExit):
        stopped = True
        raise
    finally:
        if not stopped or facts_of_done(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)


def mark_done(folder: Path, **facts: Any) -> None:
    """Say that a kept folder holds all it should."""
    with atomic_open(folder / _DONE) as file:
        json.dump(facts, file)


def facts_of_done(folder: Path) -> dict[str, Any] | None:
    """The facts that `mark_done` was given; None where the work is not done."""
    try:
        facts = json.loads((folder / _DONE).read_bytes())
    except (OSError, ValueError):
        return None
    return facts if isinstance(facts, dict) else None
