"""Tokenised rows and teachers' logits on disk: made once, memory-mapped by every run that needs the same.

An entry is `KIND-KEY.*` beside `KIND-KEY.json`, which is written last; the key is a checksum of all that
the entry depends on, so that one made from other inputs is never read. It holds the checksums of the others:
a damaged entry is made again. Where the file or folder it was
made from has changed since, a new entry is made beside the old one and a line says so.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus.token_store import TokenStore
from files.atomic import atomic_open, contents
from files.checksums import file_facts
from files.errors import UserError, setting
from files.locks import wait_for_lock
from files.progress import progress_bar
from tasks.evaluation import predict_logits, predict_spans
from tasks.features import Split, open_split, write_split
from tasks.squad import Questions
from tasks.task import Task, split_path
from tasks.windows import Cut, Windows, make_windows
from transformer.modeling import BertPreTrainedModel
from transformer.precision import autocast
from transformer.tokenization import BertTokenizer

_OURS = re.compile(r"\.?[\w.-]+-(rows|windows|logits)-[0-9a-f]{16}\..+")


@contextlib.contextmanager
def feature_cache(given: str | None, output_dir: str | os.PathLike) -> Iterator[Path]:
    """The folder that was given, or `OUTPUT_DIR.cache`, which is removed when the run is done.

    The latter stays after an interruption, for the run that resumes; a mistake of the
    user's leaves nothing new.
    """
    if given:
        yield Path(given)
        return
    folder = Path(f"{os.path.abspath(output_dir)}.cache")
    other = [name for name in contents(folder) if not _OURS.fullmatch(name)]
    if other:
        raise UserError(
            f"{folder}: holds {other[0]}, and would be removed after the run; name another folder for "
            f"the tokenised rows with {setting('feature_cache')}"
        )
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    keep = False
    try:
        yield folder
    except UserError:
        keep = folder not in made
        raise
    except BaseException:
        keep = True
        raise
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)
            for parent in made[1:]:
                with contextlib.suppress(OSError):  # something else is in it by now
                    parent.rmdir()


def cached_split(
    folder: Path,
    task: Task,
    data_dir: str | os.PathLike,
    split: str,
    tokenizer: BertTokenizer,
    length: int,
) -> tuple[Split, str]:
    """A labelled split, tokenised unless that was done before; and the key of its entry.

    Raises:
        UserError: a row is wrong.
    """
    path = split_path(task, data_dir, split)
    origin = {"file": str(path.resolve()), "length": length}
    content = {
        "task": task.key,
        "sha256": file_facts([path])[0]["sha256"],
        "length": length,
        "vocabulary": tokenizer.vocab_hash,
        "tokenizer": tokenizer.describe(),
    }
    prefix = _entry(
        folder, f"{task.folder}-{split}-rows", origin, content,
        lambda prefix: write_split(task, data_dir, split, tokenizer, length, prefix),
    )  # fmt: skip
    return open_split(prefix), prefix.name


def cached_windows(
    folder: Path, questions: Questions, negative: bool, tokenizer: BertTokenizer, cut: Cut
) -> tuple[Windows, str]:
    """The questions of a file in windows, made unless that was done before; and the key of their entry.

    Args:
        negative: whether the file was read as one of SQuAD 2.0.

    Raises:
        UserError: see `make_windows`.
    """
    path = questions.path
    origin = {"file": str(path.resolve()), "cut": cut._asdict()}
    content = {
        "sha256": file_facts([path])[0]["sha256"],
        "negative": negative,
        "cut": cut._asdict(),
        "vocabulary": tokenizer.vocab_hash,
        "tokenizer": tokenizer.describe(),
    }
    prefix = _entry(
        folder, f"{path.stem}-windows", origin, content,
        lambda prefix: make_windows(questions, tokenizer, cut).save(prefix),
    )  # fmt: skip
    return Windows.open(prefix), prefix.name


def cached_logits(
    folder: Path,
    name: str,
    source: str,
    teacher: BertPreTrainedModel,
    store: TokenStore,
    rows_key: str,
    batch_size: int,
    precision: str,
    of_tokens: bool = False,
) -> np.ndarray:
    """The teacher's logits of every row, float32 [n, C], computed unless that was done before.

    A killed computation is taken up where it stopped.

    Args:
        name: of the task.
        source: where the teacher is from, to notice that it has changed.
        rows_key: of the rows' entry.
        of_tokens: the teacher finds spans: its scores of every token, float32 [T, 2].

    Raises:
        UserError: a logit is not finite.
    """
    device = next(teacher.parameters()).device
    content = {
        "rows": rows_key,
        "teacher": _weights_hash(teacher),
        "precision": precision,
        "device": device.type,
        "batch_size": batch_size,
    }
    origin = {"teacher": os.path.abspath(source), "rows": rows_key, "precision": precision,
              "device": device.type, "batch_size": batch_size}  # fmt: skip

    def make(prefix: Path) -> None:
        path, partial = _logits_path(prefix), _logits_path(prefix, ".part")
        shape, predict = (len(store), teacher.config.num_labels), predict_logits
        if of_tokens:
            shape, predict = (len(store.tokens), 2), predict_spans
        if not partial.exists():
            with atomic_open(partial, "wb") as file:
                np.save(file, np.full(shape, np.nan, np.float32))
        logits = np.load(partial, mmap_mode="r+")
        with progress_bar(len(store), "row", "the teacher's logits") as bar:
            predict(
                teacher, store, batch_size, device, autocast(precision, device), logits,
                bar.update,
            )  # fmt: skip
        if not np.isfinite(logits).all():
            partial.unlink()
            raise UserError(
                f"{setting('teacher_model')} {source}: some of its logits are not finite numbers"
            )
        logits.flush()
        partial.replace(path)

    prefix = _entry(folder, f"{name}-logits", origin, content, make)
    return np.load(_logits_path(prefix), mmap_mode="r")


def _logits_path(prefix: Path, ending: str = "") -> Path:
    return prefix.with_name(f"{prefix.name}.logits.npy{ending}")


def _entry(
    folder: Path,
    kind: str,
    origin: dict[str, Any],
    content: dict[str, Any],
    make: Callable[[Path], None],
) -> Path:
    """The prefix of an entry's files, made if it is not there; one process makes, others wait."""
    key = hashlib.sha256(json.dumps([kind, content], sort_keys=True).encode()).hexdigest()[:16]
    prefix = folder / f"{kind}-{key}"
    record = folder / f"{prefix.name}.json"
    folder.mkdir(parents=True, exist_ok=True)
    with _one_at_a_time(folder):
        if record.exists() and _read_record(record).get("files") != _checksums(prefix):
            print(f"note: {record}: what belongs to it is damaged; made again", file=sys.stderr)
            _remove(record)
        if not record.exists():
            for other in folder.glob(f"{kind}-*.json"):
                if _read_record(other).get("origin") == origin:
                    changed = origin.get("teacher") or origin["file"]
                    print(
                        f"note: {other}: {changed} has changed since; made again beside it",
                        file=sys.stderr,
                    )
            make(prefix)
            facts = {"origin": origin, "content": content, "files": _checksums(prefix)}
            with atomic_open(record) as file:
                json.dump(facts, file, indent=2, sort_keys=True)
    return prefix


def _read_record(path: Path) -> dict[str, Any]:
    """What is known of an entry; nothing if it cannot be read."""
    try:
        record = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}


def _checksums(prefix: Path) -> dict[str, str]:
    """The SHA-256 of each array of an entry."""
    return {
        Path(facts["path"]).name: facts["sha256"]
        for facts in file_facts(sorted(prefix.parent.glob(f"{prefix.name}.*.npy")))
    }


def _remove(record: Path) -> None:
    for path in (record, *record.parent.glob(f"{record.stem}.*")):
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    with open(folder / ".lock", "w") as file:
        wait_for_lock(file, f"{folder}: another run is at work there, waiting")
        yield


def _weights_hash(model: torch.nn.Module) -> str:
    """A checksum of a model's configuration and weights."""
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    for name, tensor in model.state_dict().items():
        digest.update(f"{name} {tensor.dtype} {[*tensor.shape]}".encode())
        digest.update(tensor.cpu().contiguous().view(torch.uint8).numpy().data)
    return digest.hexdigest()
