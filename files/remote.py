"""Files at http, https and s3 addresses, opened for reading from any byte on."""

from __future__ import annotations

import contextlib
import functools
import re
import sys
import urllib.parse
from collections.abc import Iterator
from typing import NamedTuple

from files.errors import UserError

TIMEOUT_SECONDS = (10.0, 60.0)  # to connect; between two arrivals of bytes
BLOCK_BYTES = 1 << 16  # of a block that breaks off nothing is kept
LONGEST_WAIT = 60.0  # that a server may ask for between two attempts, in seconds
WORTH_ANOTHER_TRY = {408, 425, 429, 500, 502, 503, 504}
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+)")


class FileMissing(UserError):
    """The server answers, and has no such file."""


class Interrupted(Exception):
    """The server or the way to it failed; another attempt may succeed, `wait` seconds later."""

    def __init__(self, reason: str, wait: float = 0.0) -> None:
        super().__init__(reason)
        self.wait = wait


class Changed(Interrupted):
    """The server no longer has the version of which a part was asked for."""


class Remote(NamedTuple):
    """An opened remote file, from byte `start` on.

    `version` is the server's name of its content (ETag, else the date), "" if it gives none. `size` is
    the whole file's, None if the server does not tell.
    """

    version: str
    start: int
    size: int | None
    blocks: Iterator[bytes]


def is_address(source: object) -> bool:
    """Whether `source` is an http, https or s3 address."""
    return isinstance(source, str) and source.lower().startswith(("http://", "https://", "s3://"))


def shown(url: str) -> str:
    """Return an address as it may stand in messages: without a user's name and password."""
    return re.sub(r"(?<=://)[^/?#]*@", "", url)


def file_name(url: str) -> str:
    """Return the last part of an address as a harmless file name."""
    try:
        last = urllib.parse.urlsplit(url).path.rpartition("/")[2]
    except ValueError as error:
        raise UserError(f"{shown(url)}: is not a valid address ({error})") from None
    name = re.sub(r"[^A-Za-z0-9._-]", "_", last)[-80:]
    return name if name.strip(".") else "file"


def open_remote(
    url: str, start: int = 0, version: str = ""
) -> contextlib.AbstractContextManager[Remote]:
    """Open an address, from byte `start` on if it still is `version`, else from the beginning.

    A server that knows no ranges sends the whole file: see `Remote.start`.

    Raises:
        Changed: what is there is no longer `version`, or is shorter than `start`.
        Interrupted: the network or the server fails, at any time until the last block.
        FileMissing, UserError: no such file, no permission, no address.
    """
    opened = _open_s3 if url.lower().startswith("s3://") else _open_http
    return opened(url, start, version)


@contextlib.contextmanager
def _open_http(url: str, start: int, version: str) -> Iterator[Remote]:
    import requests

    if url.lower().startswith("http://"):
        _say_not_encrypted(shown("http://" + url[7:].partition("/")[0]))
    # Not compressed on the way, so that the announced length is the file's.
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if version and not version.startswith("W/"):  # a weak ETag cannot vouch for bytes
            headers["If-Range"] = version
    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS, headers=headers) as response:
            for hop in (*response.history[1:], response):
                if url.lower().startswith("https://") and not hop.url.startswith("https://"):
                    raise UserError(
                        f"{shown(url)}: leads to {shown(hop.url)}, which is not encrypted; refused"
                    )
            yield _answer(url, response, start, version)
    except (requests.exceptions.InvalidURL, requests.exceptions.InvalidHeader, ValueError) as error:
        raise UserError(f"{shown(url)}: cannot be requested ({error})") from None
    except requests.exceptions.RequestException as error:
        raise Interrupted(_reason(error)) from None


def _answer(url: str, response, start: int, version: str) -> Remote:
    """Turn a `requests.Response` into a `Remote`, or say why it is not one."""
    status, headers = response.status_code, response.headers
    if start and status == 416:
        raise Changed("the file is shorter than what had arrived")
    if status not in (200, 206):
        raise _refusal(url, status, response.reason or "", headers.get("Retry-After", ""))
    if headers.get("Content-Type", "").lower().startswith("text/html"):
        raise UserError(
            f"{shown(url)}: the server sends a web page (a login or an error, perhaps); expected a file"
        )
    found = headers.get("ETag") or headers.get("Last-Modified") or ""
    blocks = response.iter_content(BLOCK_BYTES)
    if status == 206:
        span = _RANGE.fullmatch(headers.get("Content-Range", ""))
        if not start or not span or int(span[1]) != start or found not in ("", version):
            raise Changed("the server sends another part than was asked for")
        return Remote(version, start, int(span[2]), blocks)
    length = headers.get("Content-Length", "")
    if not length.isdecimal() or headers.get("Content-Encoding", "identity") != "identity":
        return Remote(found, 0, None, blocks)
    return Remote(found, 0, int(length), blocks)


@contextlib.contextmanager
def _open_s3(url: str, start: int, version: str) -> Iterator[Remote]:
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
    asked = {"Range": f"bytes={start}-", "IfMatch": version} if start else {}
    session = boto3.session.Session()
    try:
        if session.get_credentials() is None:
            options["signature_version"] = botocore.UNSIGNED  # public buckets ask for no account
        client = session.client("s3", config=Config(**options))
        if client.meta.endpoint_url.startswith("http://"):
            _say_not_encrypted(client.meta.endpoint_url)
        answer = client.get_object(Bucket=bucket, Key=key, **asked)
        size = start + answer["ContentLength"]
        with contextlib.closing(answer["Body"]) as body:
            yield Remote(answer["ETag"], start, size, body.iter_chunks(BLOCK_BYTES))
    except ClientError as error:
        status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500)
        if start and status in (412, 416):
            raise Changed("the file has been replaced since") from None
        message = error.response.get("Error", {}).get("Message", "")
        raise _refusal(url, status, message) from None
    except botocore.exceptions.ParamValidationError as error:
        raise UserError(f"{url}: {error}") from None
    except (BotoCoreError, HTTPError) as error:
        raise Interrupted(_reason(error)) from None


def _refusal(url: str, status: int, reason: str, retry_after: str = "") -> Exception:
    url = shown(url)
    if status in WORTH_ANOTHER_TRY:
        wait = min(float(retry_after), LONGEST_WAIT) if retry_after.isdecimal() else 0.0
        return Interrupted(f"the server answers {status} {reason}".strip(), wait)
    if status in (404, 410):
        return FileMissing(f"{url}: the server has no such file ({status}); check the address")
    if status in (401, 403):
        return UserError(f"{url}: access denied ({status} {reason}); check address and permission")
    return UserError(f"{url}: expected a file, the server answers {status} {reason}")


def _reason(error: Exception) -> str:
    """Return the innermost cause that says something, e.g. "Connection refused"."""
    text = shown(str(error))
    found = re.search(r"(\[Errno -?\d+\] [^'\")]+)|(timed out)|(Could not connect[^\"]*)", text)
    return found.group(0) if found else f"{type(error).__name__}: {text[:200]}"


@functools.cache  # once for every server
def _say_not_encrypted(server: str) -> None:
    print(
        f"note: {server} is not encrypted: data can be read and changed on the way", file=sys.stderr
    )
