"""Files of a model, named by its folder, its address or its name on the Hugging Face hub."""

from __future__ import annotations

import functools
import os
import re
import socket
import urllib.parse
import urllib.request
from pathlib import Path

from files.download import cached_path, is_offline
from files.errors import UserError
from files.remote import FileMissing, is_address

CONNECT_SECONDS = 10.0
HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?", re.ASCII)


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
