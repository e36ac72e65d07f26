"""What a run leaves beside its model: who may write there, what was done, with which data."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch

from distillation.checkpoint import CHECKPOINT_NAME, PREVIOUS_CHECKPOINT_NAME, first_free
from files.atomic import RUN_RECORD_NAME, atomic_open, check_writable, contents, lies_in
from files.errors import UserError, setting
from files.locks import LOCK_NAME, sole_writer
from transformer.file_utils import SAFE_WEIGHTS_NAME, WEIGHTS_NAME
from transformer.linear import products_by
from transformer.processor import processor

SCHEMA = 1
METRICS_NAME = "metrics.jsonl"
TEXT_LOG_NAME = "log.txt"  # the same for a reader, under the published name
_OF_A_RUN = {RUN_RECORD_NAME, CHECKPOINT_NAME, PREVIOUS_CHECKPOINT_NAME, METRICS_NAME}
_WEIGHTS = {WEIGHTS_NAME, SAFE_WEIGHTS_NAME}


@contextlib.contextmanager
def claim_output_dir(
    folder: str | os.PathLike, overwrite: bool = False, resume: bool = False
) -> Iterator[Path]:
    """Make `folder` ready for a run and keep other processes out of it during the block.

    Nothing that stands there is lost: a finished run of ours is moved aside to `folder.previous-N`, so
    that a command may be typed again with other settings. Anything else in the folder is somebody's, and
    is refused.

    Args:
        overwrite: remove what is there.
        resume: keep what is there; the run resumes from its checkpoint.

    Raises:
        UserError: the folder is a file, is being written by another process, holds an unfinished run,
            or files that do not belong to a run of ours.
    """
    folder = Path(folder)
    if not folder.is_dir():
        check_output_dir(folder, overwrite, resume)
        folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        stack.enter_context(sole_writer(folder))
        present = check_output_dir(folder, overwrite, resume)
        if present and not resume:
            if overwrite:
                _empty(folder, present)
            else:
                _move_aside(folder)
                stack.enter_context(sole_writer(folder))
        yield folder


def check_output_dir(folder: Path, overwrite: bool = False, resume: bool = False) -> list[str]:
    """Return the names that a run's folder holds (see `contents`); nothing is changed.

    Raises:
        UserError: it is one that `claim_output_dir` refuses for what it is, where it is, or what it holds.
    """
    check_writable(folder)
    present = contents(folder)
    if present and not (resume or overwrite or RUN_RECORD_NAME in present):
        raise UserError(f"{setting('output_dir')} {folder}: {_what_is_there(present)}")
    if resume and _WEIGHTS.intersection(present) and not _OF_A_RUN.intersection(present):
        raise UserError(
            f"{setting('output_dir')} {folder}: holds a model and no run to resume; choose another folder"
        )
    if present and not (resume or overwrite) and lies_in(os.curdir, folder):
        raise UserError(
            f"{setting('output_dir')} {folder}: holds a finished run and is the current folder, which "
            f"cannot be moved aside; choose another folder, or {setting('overwrite_output_dir')} to remove "
            "what is there"
        )
    return present


def _empty(folder: Path, names: Iterable[str]) -> None:
    """Remove what a folder holds, but not the folder: it may be a link to another disk."""
    for name in names:
        entry = folder / name
        if entry.is_dir() and not entry.is_symlink():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def _move_aside(folder: Path) -> None:
    """Rename a folder to the first free `folder.previous-N`, and make a new one in its place."""
    aside = first_free(f"{folder}.previous-")
    folder.rename(aside)
    (aside / LOCK_NAME).unlink(missing_ok=True)
    folder.mkdir()
    print(f"note: {folder} held a finished run, now kept as {aside}", file=sys.stderr)


def _what_is_there(present: list[str]) -> str:
    if _OF_A_RUN.intersection(present):
        return (
            f"holds an unfinished run; continue it with {setting('resume')} or drop it with "
            f"{setting('overwrite_output_dir')}"
        )
    return (
        f"is not empty (holds {present[0]}); choose another folder, or {setting('overwrite_output_dir')} to "
        "remove what is there"
    )


def script_name() -> str:
    """The program as it is typed at the root of the repository: task_distill.py, distilbert/pretrain.py."""
    path, root = Path(sys.argv[0]).resolve(), Path(__file__).resolve().parent.parent
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


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
            "script": script_name(),
            "stage": stage,
            "command": [script_name(), *sys.argv[1:]],
            "arguments": arguments,
            "versions": versions(),
            "git_commit": git_commit(),
            "hardware": hardware(),
            "started": _now(),
            **facts,
        }

    def complete(self, **facts: Any) -> dict[str, Any]:
        """Stop the clock; return everything known, with `facts` added."""
        seconds = round(time.monotonic() - self._clock, 3)
        return {**self.facts, "finished": _now(), "seconds": seconds, **facts}


def write_record(path: str | os.PathLike, record: dict[str, Any]) -> None:
    """Write a record that is complete."""
    with atomic_open(path) as file:
        json.dump(record, file, indent=2, sort_keys=True, default=str)
        file.write("\n")


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
    here = processor()
    facts = {
        "machine": platform.machine(),
        "processor": here.name,
        "instructions": here.instructions,
        "fp32_products": products_by(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
    }
    if torch.cuda.is_available():
        facts["gpu"] = torch.cuda.get_device_name()
    return facts


def _now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
