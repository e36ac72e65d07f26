"""What a run leaves beside its model: who may write there, what was done, with which data."""

from __future__ import annotations

import datetime
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from transformer.errors import UserError
from transformer.file_utils import RUN_RECORD_NAME, atomic_open

SCHEMA = 1
METRICS_NAME = "metrics.jsonl"
TEXT_LOG_NAME = "log.txt"  # the same for a reader, under the published name
CHECKPOINT_NAME = "checkpoint.pt"


def claim_output_dir(
    folder: str | os.PathLike, overwrite: bool = False, resume: bool = False
) -> Path:
    """Make `folder` ready for a training run, losing nothing that stands there.

    A finished run of ours is moved aside to `folder.previous-N`, so that a command may be typed again
    with other settings. Anything else in the folder is somebody's, and is refused.

    Args:
        overwrite: remove what is there.
        resume: keep what is there; the run goes on from its checkpoint.

    Raises:
        UserError: the folder is a file, holds an unfinished run, or files that are no run of ours.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder}: is a file; expected a folder")
    present = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if present and not resume:
        if overwrite:
            for (
                entry
            ) in folder.iterdir():  # not the folder itself, which may be a link to another disk
                if entry.is_dir() and not entry.is_symlink():
                    shutil.rmtree(entry)
                else:
                    entry.unlink()
        elif RUN_RECORD_NAME in present:
            aside = next(
                path
                for n in range(1, 10_000)
                if not (path := Path(f"{folder}.previous-{n}")).exists()
            )
            folder.rename(aside)
            print(f"note: {folder} held a finished run, now kept as {aside}", file=sys.stderr)
        elif CHECKPOINT_NAME in present or METRICS_NAME in present:
            raise UserError(
                f"--output_dir {folder}: holds an unfinished run; continue it with --resume or drop it "
                f"with --overwrite_output_dir"
            )
        else:
            raise UserError(
                f"--output_dir {folder}: is not empty (holds {present[0]}); choose another folder, or "
                f"--overwrite_output_dir to remove what is there"
            )
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def file_facts(paths: Iterable[str | os.PathLike]) -> list[dict[str, Any]]:
    """Return path, size in bytes and sha256 of each file, read in blocks."""
    facts = []
    for path in map(Path, paths):
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        facts.append({"path": str(path), "bytes": path.stat().st_size, "sha256": digest})
    return facts


class RunRecord:
    """Collects the facts of one run and writes them as JSON when it is done."""

    def __init__(self, stage: str, arguments: dict[str, Any], **facts: Any) -> None:
        """Start the clock.

        Args:
            stage: general, intermediate, prediction, finetune, mlm or evaluate.
            arguments: every flag with the value it had in the end.
            facts: further entries, such as task, teacher, data.
        """
        self._clock = time.monotonic()
        self.facts = {
            "schema": SCHEMA,
            "script": Path(sys.argv[0]).name,
            "stage": stage,
            "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
            "arguments": arguments,
            "versions": versions(),
            "git_commit": git_commit(),
            "hardware": hardware(),
            "started": _now(),
            **facts,
        }

    def write(self, path: str | os.PathLike, **facts: Any) -> dict[str, Any]:
        """Write everything known, with `facts` added, to `path`; return what was written."""
        seconds = round(time.monotonic() - self._clock, 3)
        record = {**self.facts, "finished": _now(), "seconds": seconds, **facts}
        with atomic_open(path) as file:
            json.dump(record, file, indent=2, sort_keys=True, default=str)
            file.write("\n")
        return record


def versions() -> dict[str, str]:
    """Versions of what a result depends on."""
    import numpy
    import tokenizers

    return {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "tokenizers": tokenizers.__version__,
    }


def git_commit() -> str | None:
    """The commit of this checkout, with `+` when files differ from it; None outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10)
        done.check_returncode()
        return done.stdout.strip()

    try:
        return git("rev-parse", "HEAD") + ("+" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None


def hardware() -> dict[str, Any]:
    """What the run ran on."""
    facts = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
