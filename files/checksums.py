"""Checksums of files, and of facts that JSON can hold."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

ALGORITHMS = {32: "MD5", 40: "SHA1", 64: "SHA256"}  # by the checksum's length
_BLOCK = 1 << 22


def file_checksum(path: str | os.PathLike, like: str | None = None) -> str:
    """Return a file's SHA-256, or the kind of checksum that `like` is."""
    algorithm = ALGORITHMS[len(like)] if like else "SHA256"
    with open(path, "rb") as file:
        return hashlib.file_digest(
            file, lambda: hashlib.new(algorithm, usedforsecurity=False)
        ).hexdigest()


def is_checksum(text: str) -> bool:
    """Whether `text` is a checksum that `Wanted` knows, in lower case."""
    return len(text) in ALGORITHMS and set(text) <= set("0123456789abcdef")


def file_facts(paths: Iterable[str | os.PathLike]) -> list[dict[str, Any]]:
    """Return path, size in bytes and sha256 of each file, read in blocks."""
    facts = []
    for path in map(Path, paths):
        facts.append(
            {"path": str(path), "bytes": path.stat().st_size, "sha256": file_checksum(path)}
        )
    return facts


def joint_checksum(paths: Iterable[str | os.PathLike]) -> str:
    """SHA-256 over the bytes of files, one after the other."""
    digest = hashlib.sha256()
    for path in paths:
        with open(path, "rb") as file:
            digest.update(b"%d " % os.fstat(file.fileno()).st_size)
            while block := file.read(_BLOCK):
                digest.update(block)
    return digest.hexdigest()


def content_key(*facts: Any) -> str:
    """A short name for facts that JSON can hold; other facts have another."""
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]
