"""Files from elsewhere: `cached_path` for addresses, `find_model_file` for models.

Nothing half-received is ever seen under its final name: bytes go to a private `.part` file in the
same folder, which is checked against the announced length (and a checksum, where one is known) and
renamed.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import re
import shutil
import socket
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

from transformer.errors import UserError
from transformer.file_utils import atomic_open

CACHE_VARIABLE = "TINYBERT_CACHE"
ATTEMPTS = 4
BACKOFF_SECONDS = 1.0
TIMEOUT_SECONDS = (10.0, 60.0)  # to connect; between two arrivals of bytes
BLOCK_BYTES = 1 << 20
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)
WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}

Result = TypeVar("Result")


class FileMissing(UserError):
    """The server answers, and has no such file."""


class _Interrupted(Exception):
    """The server or the way to it failed; another attempt may succeed."""


class Remote(NamedTuple):
    """An opened remote file: `etag` names its version, `size` may be unknown."""

    etag: str
    size: int | None
    blocks: Iterator[bytes]


def is_address(source: str | os.PathLike) -> bool:
    """Whether `source` is an http, https or s3 address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://", "s3://"))


def cached_path(
    url_or_filename: str | os.PathLike,
    cache_dir: str | os.PathLike | None = None,
    sha256: str | None = None,
) -> Path:
    """Return a local path for a file: itself, or the cached copy of an http, https or s3 address.

    A copy is kept for each address and version (the server's ETag) in `cache_dir`, or in the folder
    that the environment variable TINYBERT_CACHE names, or in ~/.cache/tinybert. While the server
    cannot be reached the newest copy is used, and a note says so.

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
    key, name = _digest(url), _file_name(url)

    def fetch(remote: Remote) -> Path:
        path = folder / f"{key}.{_digest(remote.etag)}-{name}"
        if not path.exists():
            _receive(url, remote, path, sha256)
        return path

    try:
        path = _with_retries(url, fetch)
    except _Interrupted as error:
        copies = sorted(folder.glob(f"{key}.*-{name}"), key=lambda copy: copy.stat().st_mtime)
        if not copies:
            raise _unreachable(url, error) from None
        path = copies[-1]
        print(f"note: {url}: cannot be reached ({error}); using {path}", file=sys.stderr)
    if sha256 is not None and _sha256_of(path) != sha256:
        raise UserError(f"{path}: expected the SHA-256 {sha256}; remove the file and try again")
    return path


def download(
    url: str,
    path: str | os.PathLike,
    sha256: str | None = None,
    size: int | None = None,
) -> Path:
    """Fetch an http, https or s3 address into the file `path`, replacing it.

    Raises:
        UserError: it cannot be fetched, or is not what `sha256` and `size` (bytes) say.
    """
    if not is_address(url):
        raise UserError(f"{url}: expected an http, https or s3 address")
    try:
        _with_retries(url, lambda remote: _receive(url, remote, Path(path), sha256, size))
    except _Interrupted as error:
        raise _unreachable(url, error) from None
    return Path(path)


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
            local_files_only=not _listens(constants.ENDPOINT),
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
        socket.create_connection((address.hostname, port), timeout=TIMEOUT_SECONDS[0]).close()
    except OSError:
        return False
    return True


def _with_retries(url: str, action: Callable[[Remote], Result]) -> Result:
    """Open `url` and hand it to `action`, again and ever later while the network is to blame."""
    opened = _open_s3 if url.lower().startswith("s3://") else _open_http
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with opened(url) as remote:
                return action(remote)
        except _Interrupted as error:
            if attempt == ATTEMPTS:
                raise
            wait = BACKOFF_SECONDS * 2 ** (attempt - 1)
            print(f"note: {url}: {error}; trying again in {wait:g} s", file=sys.stderr)
            time.sleep(wait)
    raise AssertionError("unreachable")


@contextlib.contextmanager
def _open_http(url: str) -> Iterator[Remote]:
    import requests

    if url.lower().startswith("http://"):
        _say_not_encrypted("http://" + url[7:].partition("/")[0].rpartition("@")[2])
    try:
        # Not compressed on the way, so that the announced length is the file's.
        response = requests.get(
            url, stream=True, timeout=TIMEOUT_SECONDS, headers={"Accept-Encoding": "identity"}
        )
        with response:
            if url.lower().startswith("https://") and not response.url.startswith("https://"):
                raise UserError(f"{url}: leads to {response.url}, which is not encrypted; refused")
            if response.status_code != 200:
                raise _refusal(url, response.status_code, response.reason)
            headers = response.headers
            length = headers.get("Content-Length", "")
            yield Remote(
                headers.get("ETag") or headers.get("Last-Modified") or "",
                int(length) if length.isdecimal() else None,
                response.iter_content(BLOCK_BYTES),
            )
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader, ValueError) as error:
        raise UserError(f"{url}: cannot be asked for ({error})") from None
    except requests.exceptions.RequestException as error:
        raise _Interrupted(_reason(error)) from None


@contextlib.contextmanager
def _open_s3(url: str) -> Iterator[Remote]:
    import boto3
    import botocore
    from botocore.config import Config
    from botocore.exceptions import BotoCoreError, ClientError
    from urllib3.exceptions import HTTPError

    bucket, _, key = url[len("s3://") :].partition("/")
    if not bucket or not key:
        raise UserError(f"{url}: expected s3://BUCKET/KEY")
    connect, read = TIMEOUT_SECONDS
    options = {
        "connect_timeout": connect,
        "read_timeout": read,
        "retries": {"total_max_attempts": 1},
    }
    session = boto3.session.Session()
    try:
        if session.get_credentials() is None:
            options["signature_version"] = botocore.UNSIGNED  # public buckets ask for no account
        client = session.client("s3", config=Config(**options))
        if client.meta.endpoint_url.startswith("http://"):
            _say_not_encrypted(client.meta.endpoint_url)
        answer = client.get_object(Bucket=bucket, Key=key)
        with contextlib.closing(answer["Body"]) as body:
            yield Remote(answer["ETag"], answer["ContentLength"], body.iter_chunks(BLOCK_BYTES))
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        raise _refusal(url, status, error.response.get("Error", {}).get("Message", "")) from None
    except botocore.exceptions.ParamValidationError as error:
        raise UserError(f"{url}: {error}") from None
    except (BotoCoreError, HTTPError) as error:
        raise _Interrupted(_reason(error)) from None


def _receive(
    url: str, remote: Remote, path: Path, sha256: str | None = None, size: int | None = None
) -> None:
    """Write the remote file to `path`, whole and checked, or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(path.parent).free
    if remote.size is not None and remote.size > free:
        raise UserError(f"{path.parent}: {free:,} bytes free; {url} needs {remote.size:,}")
    digest, received = hashlib.sha256(), 0
    with atomic_open(path, "wb") as file:
        for block in remote.blocks:
            file.write(block)
            digest.update(block)
            received += len(block)
        if remote.size is not None and received != remote.size:
            raise _Interrupted(f"broke off after {received:,} of {remote.size:,} bytes")
        if size is not None and received != size:
            raise UserError(f"{url}: has {received:,} bytes; expected {size:,}")
        if sha256 is not None and digest.hexdigest() != sha256:
            raise UserError(f"{url}: has the SHA-256 {digest.hexdigest()}; expected {sha256}")


def _unreachable(url: str, error: _Interrupted) -> UserError:
    return UserError(f"{url}: cannot be fetched ({error}); check the address and the network")


def _refusal(url: str, status: int, reason: str) -> Exception:
    if status in WORTH_ANOTHER_TRY:
        return _Interrupted(f"the server answers {status} {reason}".strip())
    if status in (404, 410):
        return FileMissing(f"{url}: the server has no such file ({status}); check the address")
    if status in (401, 403):
        return UserError(f"{url}: access denied ({status} {reason}); check address and permission")
    return UserError(f"{url}: expected a file, the server answers {status} {reason}")


def _reason(error: Exception) -> str:
    """Return the innermost cause that says something, e.g. "Connection refused"."""
    text = str(error)
    found = re.search(r"(\[Errno -?\d+\] [^'\")]+)|(timed out)|(Could not connect[^\"]*)", text)
    return found.group(0) if found else f"{type(error).__name__}: {text[:200]}"


@functools.cache  # once for every server
def _say_not_encrypted(server: str) -> None:
    print(
        f"note: {server} is not encrypted: data can be read and changed on the way", file=sys.stderr
    )


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _file_name(url: str) -> str:
    """Return the last part of an address as a harmless file name."""
    try:
        last = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    except ValueError as error:
        raise UserError(f"{url}: is no address ({error})") from None
    return re.sub(r"[^A-Za-z0-9._-]", "_", last)[-80:] or "file"


def _sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
