"""Files from elsewhere: `cached_path` for addresses, `find_model_file` for models."""

from __future__ import annotations

import os
import re
from pathlib import Path

from transformer.errors import UserError

HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


def is_address(source: str | os.PathLike) -> bool:
    """Whether `source` is an http, https or s3 address."""
    return isinstance(source, str) and source.startswith(("http://", "https://", "s3://"))


def find_model_file(
    source: str | os.PathLike,
    filename: str,
    cache_dir: str | os.PathLike | None = None,
    revision: str | None = None,
    required: bool = True,
) -> Path | None:
    """Return one file of a model, named by its folder, its address or its name on the hub.

    Returns None if the model has no such file and `required` is False.

    Raises:
        UserError: there is no such model, or it lacks a required file.
    """
    path = Path(source)
    if path.is_dir():
        if (path / filename).is_file():
            return path / filename
        if not required:
            return None
        raise UserError(f"{path / filename}: no such file; expected a model folder with {filename}")
    raise UserError(f"{source}: no such model folder")
