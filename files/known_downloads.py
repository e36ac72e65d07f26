"""Public files by their original addresses: fetched or already there, and in either case checked."""

from __future__ import annotations

import json
import sys
import urllib.parse
from pathlib import Path
from typing import Any

from files.atomic import atomic_open
from files.checksums import file_checksum, is_checksum
from files.download import OFFLINE_VARIABLE, download, is_offline
from files.errors import UserError, setting
from files.remote import shown

TABLE = Path(__file__).with_name("known_downloads.json")


def table(path: Path = TABLE) -> dict[str, dict[str, Any]]:
    """The public files we know: address -> its entry in known_downloads.json."""
    return {entry["url"]: entry for entry in json.loads(path.read_bytes())["files"]}


def obtain(
    url: str,
    path: Path,
    checksum: str | None = None,
    mirror: str | None = None,
    offline: bool = False,
) -> Path:
    """Return `path` with the file of an address in it: the one already there, or a download.

    It is compared with `checksum`, else with the table's, else with `NAME.sha256` beside it. Where none
    of them exists, what arrives first is trusted, and NAME.sha256 is written.

    Args:
        mirror: address that serves the same paths as the original server.

    Raises:
        UserError: it is not what the checksum says; it cannot be fetched; nothing may be fetched.
    """
    known = table().get(url, {})
    wanted = checksum or known.get("sha256") or _noted(path)
    if path.is_file():
        if wanted is not None and (found := file_checksum(path, wanted)) != wanted:
            raise UserError(
                f"{path}: has the checksum {found}; expected {wanted}; remove the file to fetch it again"
            )
    elif offline or is_offline():
        raise UserError(
            f"{path}: not fetched ({setting('offline')} or {OFFLINE_VARIABLE}); {by_hand(url, path)}"
        )
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            download(_mirrored(url, mirror), path, wanted, known.get("bytes"))
        except UserError as error:
            raise UserError(f"{error}. By hand: {by_hand(url, path)}") from None
    if wanted is None:
        digest = file_checksum(path)
        with atomic_open(_note(path)) as file:
            file.write(f"{digest}  {path.name}\n")
        print(
            f"note: {path}: no checksum is known; trusted as it is, and its SHA-256 {digest} is written "
            f"to {_note(path)}",
            file=sys.stderr,
        )
    return path


def by_hand(url: str, path: Path) -> str:
    """Say how the file is fetched without this program."""
    digest = checksum_of(url)
    return f"put {shown(url)} there as {path}" + (f" (SHA-256 {digest})" if digest else "")


def checksum_of(url: str) -> str | None:
    """The SHA-256 that the table vouches for; None where it knows none."""
    return table().get(url, {}).get("sha256")


def _mirrored(url: str, mirror: str | None) -> str:
    return url if mirror is None else mirror.rstrip("/") + urllib.parse.urlsplit(url).path


def _note(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _noted(path: Path) -> str | None:
    """The checksum that was written down when the file first arrived."""
    try:
        first = _note(path).read_text(encoding="utf-8").partition(" ")[0].lower()
    except FileNotFoundError:
        return None
    except ValueError:
        first = ""
    if not is_checksum(first):
        raise UserError(f"{_note(path)}: expected a checksum and a name; correct or remove it")
    return first
