"""Work of a killed run that the next one need not do again: folders named after what they were made from.

Nothing finished is removed because a later run has other flags or files: that run is refused, and told what
differs.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from files.atomic import atomic_open
from files.checksums import content_key
from files.errors import Mishap, UserError, setting

_DONE = "done.json"


def identity(paths: Iterable[str | os.PathLike]) -> list[list[Any]]:
    """What tells files from their next versions without reading them: name, size, time of change."""
    status = ((Path(path).name, Path(path).stat()) for path in paths)
    return [[name, facts.st_size, facts.st_mtime_ns] for name, facts in status]


def differences(kept: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name in words the entries in which kept work differs from what is asked for; "" if in none."""
    kept, now = json.loads(json.dumps([kept, now]))  # a tuple comes back as a list
    found = []
    for name in {**kept, **now}:
        if kept.get(name) != now.get(name):
            if name.endswith("_checksum"):
                found.append(f"another {name.removesuffix('_checksum')} than expected")
            else:
                found.append(f"{name} {kept.get(name)!r}, expected {now.get(name)!r}")
    return "; ".join(found)


@contextlib.contextmanager
def kept_folder(
    parent: str | os.PathLike,
    prefix: str,
    made_from: Mapping[str, Any],
    sole: bool,
    replace: bool = False,
) -> Iterator[Path]:
    """Give a private folder `parent/PREFIXkey` for work that leads to the output.

    It goes away when the block ends well, or with a mistake of the user's in what this run made. It stays
    when the program is killed, stopped or failed by the system after `mark_done`, and whatever happens
    if an earlier run made it; the next run from the same finds it (see `facts_of_done`).

    Args:
        made_from: what the work depends on: names and plain values.
        sole: nobody else has such folders here: others are of runs that led to the same output.
        replace: those others may be removed.

    Raises:
        UserError: another folder holds finished work, made from something else.
    """
    folder = Path(parent) / f"{prefix}{content_key(made_from)}"
    for rest in sorted(Path(parent).glob(f"{prefix}*")) if sole else ():
        if rest != folder:
            if not replace and (done := _read_done(rest)) is not None:
                raise UserError(
                    f"{rest}: keeps the work of a stopped run, made with "
                    f"{differences(done.get('made_from', {}), made_from)}; run that command again with "
                    f"{setting('resume')}, or remove this folder to start over"
                )
            shutil.rmtree(rest)
    keep = found = facts_of_done(folder) is not None
    if not found:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700, exist_ok=True)
    try:
        yield folder
        keep = False
    except BaseException as error:
        keep = found or not isinstance(error, UserError) or isinstance(error, Mishap)
        raise
    finally:
        if not keep or facts_of_done(folder) is None:
            shutil.rmtree(folder, ignore_errors=True)


def mark_done(folder: Path, made_from: Mapping[str, Any], **facts: Any) -> None:
    """Say that a kept folder holds all it should."""
    with atomic_open(folder / _DONE) as file:
        json.dump({"made_from": made_from, "facts": facts}, file)


def facts_of_done(folder: Path) -> dict[str, Any] | None:
    """The facts that `mark_done` was given; None where the work is not done."""
    done = _read_done(folder)
    return None if done is None else done["facts"]


def _read_done(folder: Path) -> dict[str, Any] | None:
    try:
        done = json.loads((folder / _DONE).read_bytes())
    except (OSError, ValueError):
        return None
    return done if isinstance(done, dict) and isinstance(done.get("facts"), dict) else None
