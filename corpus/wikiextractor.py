"""The wikiextractor command, run as a program of its own that does not outlive this one."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

from files.errors import UserError

_GUARD = Path(__file__).with_name("end_with_parent.py")
_NEEDED = (3, 1)  # 3.0 does not start on Python 3.11


def check_dump(dump: str | os.PathLike) -> None:
    """Refuse a dump that wikiextractor would not unpack: it goes by the file's name.

    Raises:
        UserError: it is compressed in another way than its name says, or with xz.
    """
    with open(dump, "rb") as file:
        head = file.read(6)
    for magic, ending in ((b"BZh", ".bz2"), (b"\x1f\x8b", ".gz"), (b"\xfd7zXZ\x00", None)):
        if head.startswith(magic) and (ending is None or Path(dump).suffix != ending):
            raise UserError(
                f"{dump}: is a dump compressed with {(ending or '.xz')[1:]}; "
                + (f"expected a name that ends in {ending}" if ending else "unpack it first")
            )


def extract_dump(
    dump: str | os.PathLike, folder: str | os.PathLike, processes: int, templates: bool
) -> None:
    """Extract a MediaWiki dump (.xml or .xml.bz2) into `folder` as JSON lines, passing messages on.

    Raises:
        UserError: wikiextractor is missing, too old, or fails.
    """
    if importlib.util.find_spec("wikiextractor") is None:
        raise UserError(
            f"{dump}: a dump needs the program wikiextractor, which is not installed; "
            "`pip install 'wikiextractor>=3.1'`, or extract elsewhere and give the folder"
        )
    version = metadata.version("wikiextractor")
    if tuple(int(part) for part in version.split(".")[:2]) < _NEEDED:
        raise UserError(
            f"{dump}: wikiextractor {version} is too old; `pip install 'wikiextractor>=3.1'`"
        )
    command = [sys.executable, "-I", os.fspath(_GUARD)]
    command += [sys.executable, "-m", "wikiextractor.WikiExtractor", os.fspath(dump), "--json"]
    command += ["-o", os.fspath(folder), "--processes", str(processes)]
    if not templates:
        command.append("--no-templates")
    last = ""
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, encoding="utf-8", errors="replace",
        start_new_session=True,
    ) as run:  # fmt: skip
        for line in run.stderr:
            last = line.strip() or last
            if line.startswith(("INFO", "WARNING")):
                print(f"wikiextractor: {line.rstrip()}", file=sys.stderr)
    if run.returncode:
        raise UserError(f"{dump}: wikiextractor failed: {last}")
    if not any(Path(folder).rglob("wiki_*")):
        raise UserError(f"{dump}: wikiextractor found no article; expected a MediaWiki XML dump")
