"""What a program says before it does its work, or instead of it with --dry_run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def add_dry_run_flag(group: argparse._ArgumentGroup) -> None:
    """Add --dry_run."""
    group.add_argument(
        "--dry_run",
        action="store_true",
        help="check everything, say what would be done and how long it would take, and stop",
    )


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print a title and a fact a line, aligned, on standard error."""
    width = max(map(len, facts)) + 2
    gap = "\n" + " " * (width + 2)
    lines = (
        f"  {name:<{width}}{str(value).replace(chr(10), gap)}" for name, value in facts.items()
    )
    print("\n".join([title, *lines]), file=sys.stderr)


def say_untouched(output: str | os.PathLike) -> None:
    """The last line of a dry run."""
    print(f"dry run: {output} is unchanged", file=sys.stderr)


def of_size(count: float) -> str:
    """Say how large something of so many bytes is: 812 bytes, 3.1 MB, 13.4 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def folder_bytes(folder: Path) -> int:
    """How many bytes the files in a folder have."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
