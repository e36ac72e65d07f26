"""Which files are GLUE's own: download_glue.py notes it beside them, the record of a run asks.

A name and a layout make no dataset: the demo's RTE/dev.tsv has both. A file is GLUE's if it was unpacked
from what GLUE serves, by checksum, and is unchanged since.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from files.atomic import atomic_open
from files.checksums import file_checksum
from files.known_downloads import checksum_of

NOTE_NAME = "origin.json"
GLUE = "GLUE"


def note_glue(folder: Path, names: Iterable[str], urls: Iterable[str]) -> None:
    """Write down that the named files in `folder` come from GLUE's addresses.

    Nothing is written where the checksum of one of them is not known: what came from there may be anything.
    """
    sources = {url: checksum_of(url) for url in urls}
    if not all(sources.values()):
        return
    files = {name: file_checksum(folder / name) for name in names}
    with atomic_open(folder / NOTE_NAME) as file:
        json.dump({"dataset": GLUE, "made_from": sources, "files": files}, file, indent=2)
        file.write("\n")


def dataset_of(path: Path, sha256: str) -> str | None:
    """The dataset that a file with this checksum belongs to: GLUE, or None where that is not known."""
    try:
        note = json.loads((path.parent / NOTE_NAME).read_bytes())
        known = note["dataset"] == GLUE and note["files"].get(path.name) == sha256
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return GLUE if known else None
