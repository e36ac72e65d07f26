"""Files from elsewhere: `cached_path` for addresses, `find_model_file` for models.

How a file gets here is in `transformer.transfer`: nothing half-received is ever seen under its final name.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import socket
import sys
import urllib.parse
import urllib.request
from pathlib import Path

from transformer.errors import UserError
from transformer.remote import FileMissing, Interrupted, file_name, is_address, shown
from transformer.transfer import Wanted, fetch, file_checksum

CACHE_VARIABLE = "TINYBERT_CACHE"
OFFLINE_VARIABLE = "TINYBERT_OFFLINE"
CONNECT_SECONDS = 10.0
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


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


def find_model_file(
    source: str | os.PathLike,
    filename: str,
    cache_dir: str | os.PathLike | None = None,
    required: bool = True,
) -> Path | None:
    """Return one file of a model, named by its folder, its address or its name on the hub.

    An address is that of the model's folder, or of the file itself. A name of the hub is `name` or
    `owner/name`; the hub is the one that HF_ENDPOINT names.

    Returns None if the model has no such file and `required` is False.

    Raises:
        UserError: there is no such model, or it lacks a required file.
    """
    if is_address(source):
        url = str(source).rstrip("/")
        url = url if url.endswith("/" + filename) else f"{url}/{filename}"
        try:
            return cached_path(url, cache_dir)
        except FileMissing:
            if required:
                raise
            return None
    folder = Path(source)
    if folder.is_dir():
        if (folder / filename).is_file():
            return folder / filename
        if required:
            raise UserError(f"{folder / filename}: no such file; expected in every model folder")
        return None
    name = str(source)
    # A name whose first part is a folder here is a local model not made yet, not a hub owner.
    if not HUB_NAME.fullmatch(name) or (folder.parent != Path() and folder.parent.is_dir()):
        raise UserError(f"{source}: no such folder; expected a model folder with {filename}")
    return _find_on_hub(name, filename, cache_dir, required)


def _find_on_hub(
    name: str,
    filename: str,
    cache_dir: str | os.PathLike | None,
    required: bool,
) -> Path | None:
    from huggingface_hub import constants, hf_hub_download
    from huggingface_hub.errors import (
        LocalEntryNotFoundError,
        RemoteEntryNotFoundError,
        RepositoryNotFoundError,
    )

    try:
        path = hf_hub_download(
            name,
            filename,
            cache_dir=cache_dir or None,  # an empty --cache_dir is none
            local_files_only=is_offline() or not _listens(constants.ENDPOINT),
        )
        return Path(path)
    except RemoteEntryNotFoundError:
        if required:
            raise FileMissing(
                f"{constants.ENDPOINT}/{name}: this model has no {filename}"
            ) from None
        return None
    except RepositoryNotFoundError:
        reason = "the hub has no such model, or keeps it private"
    except LocalEntryNotFoundError:
        if not required:  # without a network the cache is all there is
            return None
        reason = "the hub cannot be reached and the cache lacks the file"
    except (OSError, ValueError) as error:
        reason = str(error).strip().partition("\n")[0]
    raise UserError(
        f"{name}: no such folder here, and no {filename} from {constants.ENDPOINT}/{name}: {reason}"
    )


@functools.cache
def _listens(endpoint: str) -> bool:
    """Whether a server can be connected to. The hub library would retry for half a minute."""
    if urllib.request.getproxies():
        return True
    address = urllib.parse.urlsplit(endpoint)
    port = address.port or (443 if address.scheme == "https" else 80)
    try:
        socket.create_connection((address.hostname, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _unreachable(url: str, error: Interrupted) -> UserError:
    return UserError(
        f"{shown(url)}: cannot be fetched ({error}); check the address and the network"
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]
