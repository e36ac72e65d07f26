"""Pregenerated data on disk: what pregenerate_training_data.py writes and general_distill.py reads.

The folder holds for each epoch i a token store `epoch_i` (see corpus/token_store.py) and

    epoch_i.is_random_next.npy    uint8 [n]: 1 where the second text is from another document
    epoch_i.masked_positions.npy  uint16 [K]: places in their sequences   } only if something
    epoch_i.masked_labels.npy     like the tokens [K]: what stood there   } may be masked
    epoch_i.masked_offsets.npy    int64 [n + 1]: where a sequence's begin }
    epoch_i_metrics.json          how it was made; written last: without it the epoch is unfinished

The published format, `epoch_i.json` with its metrics, is written and read as well.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import os
import shutil
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus.epoch_writing import CACHE, MASK_ARRAYS, metrics_path, write_epoch
from corpus.published_json import read_json
from corpus.sentence_pairs import Examples, Masks
from corpus.token_store import LARGE, TokenStore, load_array, token_dtype
from files.errors import UserError

if TYPE_CHECKING:
    from transformer.tokenization import BertTokenizer

_CHECK_FIRST_SECONDS = 0.5
_CHECKED_TOKENS = 1 << 24  # compared at a time
_AGAIN = "run pregenerate_training_data.py again"


@dataclass(frozen=True)
class CorpusEpoch:
    """One epoch, memory-mapped; where `masked` is not None, the tokens of `store` are masked."""

    store: TokenStore
    is_random_next: np.ndarray
    masked: Masks | None
    max_seq_len: int
    vocab_hash: str
    vocab_size: int
    sha256: str | None  # of the tokens, as noted when they were written


def available_epochs(folder: str | os.PathLike) -> int:
    """Count the finished epochs 0, 1, … of a folder.

    Raises:
        UserError: there is none.
    """
    count = 0
    while metrics_path(folder, count).is_file():
        count += 1
    if count == 0:
        raise UserError(
            f"{folder}: holds no finished epoch (no epoch_0_metrics.json); expected the "
            "output folder of pregenerate_training_data.py"
        )
    return count


def open_epoch(folder: str | os.PathLike, epoch: int, tokenizer: BertTokenizer) -> CorpusEpoch:
    """Open one epoch; of its arrays only the offsets are read.

    An epoch of the published format is first turned into arrays, once: beside it in `.flat/`, or in
    a private temporary folder where that cannot be written.

    Raises:
        UserError: the epoch is missing, torn, or made with another vocabulary than the tokenizer's.
    """
    folder = Path(folder)
    metrics = _read_metrics(folder, epoch)
    if metrics.get("format") != "flat":
        folder, metrics = _flatten(folder, epoch, metrics, tokenizer)
    if metrics.get("vocab_hash") != tokenizer.vocab_hash:
        raise UserError(
            f"{metrics_path(folder, epoch)}: the data was made with another vocabulary "
            f"({metrics.get('vocab_size')} tokens) than the model's ({len(tokenizer)} tokens); run "
            "pregenerate_training_data.py with this model"
        )
    prefix = folder / f"epoch_{epoch}"
    store = replace(
        TokenStore.open(prefix), vocab_size=len(tokenizer), longest=metrics["max_seq_len"]
    )
    is_random_next = _load(prefix, "is_random_next")
    masks = None
    if metrics.get("masked"):
        masks = Masks(*(_load(prefix, name) for name in MASK_ARRAYS))
    if (
        not len(store) == len(is_random_next) == metrics["num_training_examples"]
        or (masks and len(masks.offsets) != len(store) + 1)
        or (masks and not len(masks.positions) == len(masks.labels) == masks.offsets[-1])
        or (len(store) <= LARGE and store.lengths.max(initial=0) > metrics["max_seq_len"])
    ):
        raise _of_another(prefix, metrics["num_training_examples"], metrics["max_seq_len"])
    if masks and not len(masks.positions):
        masks = None
    return CorpusEpoch(
        store, is_random_next, masks, metrics["max_seq_len"], tokenizer.vocab_hash,
        len(tokenizer), metrics.get("sha256"),
    )  # fmt: skip


def check_corpus(folder: str | os.PathLike, epochs: Sequence[CorpusEpoch]) -> None:
    """Read all tokens once: each is in the vocabulary, all have the checksum noted at their writing.

    Of a large epoch the rows, which `open_epoch` did not look at, are looked at first.

    Raises:
        UserError: a token id is not valid, or the file has changed since; or the files are not of one epoch.
    """
    for number, epoch in enumerate(epochs):
        prefix = Path(folder) / f"epoch_{number}"
        path = Path(f"{prefix}.tokens.npy")
        if len(epoch.store) > LARGE and epoch.store.check() > epoch.max_seq_len:
            raise _of_another(prefix, len(epoch.store), epoch.max_seq_len)
        digest, largest = hashlib.sha256(), 0
        for start in range(0, len(epoch.store.tokens), _CHECKED_TOKENS):
            tokens = epoch.store.tokens[start : start + _CHECKED_TOKENS]
            digest.update(tokens.data)
            largest = max(largest, int(tokens.max()))
        if epoch.sha256 is not None and digest.hexdigest() != epoch.sha256:
            raise UserError(
                f"{path}: has changed since it was written (its checksum in "
                f"epoch_{number}_metrics.json is another); {_AGAIN}"
            )
        if largest >= epoch.vocab_size:
            raise UserError(
                f"{path}: holds the id {largest}, the vocabulary has {epoch.vocab_size} tokens; {_AGAIN}"
            )


def _of_another(prefix: Path, rows: int, length: int) -> UserError:
    return UserError(
        f"{prefix}.*.npy: do not belong together (the metrics file says {rows} examples of up to "
        f"{length} tokens); {_AGAIN}"
    )


def start_check(folder: str | os.PathLike, epochs: Sequence[CorpusEpoch]) -> Callable[[], None]:
    """Start `check_corpus` beside what follows, so that no run waits for a large corpus to be read.

    A small one is checked when this returns.

    Returns:
        A function that waits for the check's end and raises what it raised.

    Raises:
        UserError: as `check_corpus`, where that was done in time.
    """
    check: Future[None] = Future()

    def run() -> None:
        try:
            check.set_result(check_corpus(folder, epochs))
        except BaseException as error:
            check.set_exception(error)

    threading.Thread(target=run, daemon=True).start()  # a run that ends early does not wait for it
    with contextlib.suppress(TimeoutError):
        check.result(timeout=_CHECK_FIRST_SECONDS)
    return check.result


def corpus_facts(folder: str | os.PathLike, epochs: Sequence[CorpusEpoch]) -> dict[str, Any]:
    """Path, rows and checksum of each epoch, for a run record; nothing is read for it."""
    return {
        "path": str(folder),
        "rows": [len(epoch.store) for epoch in epochs],
        "sha256": [epoch.sha256 for epoch in epochs],
    }


def epoch_origin(folder: str | os.PathLike, epoch: int) -> dict[str, Any] | None:
    """The `made_from` among the facts of an epoch; empty if it has none, None if it is not finished."""
    if not metrics_path(folder, epoch).is_file():
        return None
    made_from = _read_metrics(Path(folder), epoch).get("made_from")
    return made_from if isinstance(made_from, dict) else {}


def _flatten(
    folder: Path, epoch: int, metrics: dict, tokenizer: BertTokenizer
) -> tuple[Path, dict]:
    """Turn an epoch of the published format into arrays, unless that was done before."""
    source = folder / f"epoch_{epoch}.json"
    try:
        status = source.stat()
    except FileNotFoundError:
        raise UserError(f"{source}: no such file; expected it beside its metrics") from None
    facts = {
        "source": [status.st_size, status.st_mtime_ns],
        "vocab_hash": tokenizer.vocab_hash,
        "vocab_size": len(tokenizer),
        "max_seq_len": metrics["max_seq_len"],
    }
    cache = folder / CACHE
    if metrics_path(cache, epoch).is_file():
        known = _read_metrics(cache, epoch)
        if all(known.get(key) == value for key, value in facts.items()):
            return cache, known
    try:
        cache.mkdir(exist_ok=True)
        metrics_path(cache, epoch).unlink(missing_ok=True)
    except OSError:
        cache = Path(tempfile.mkdtemp(prefix="pregenerated-"))
        atexit.register(shutil.rmtree, cache, ignore_errors=True)
    print(f"note: turning {source} into arrays in {cache}, once", file=sys.stderr)
    expected = metrics["num_training_examples"]
    parts = _counted(read_json(source, tokenizer), expected, source)
    dtype = token_dtype(len(tokenizer))
    return cache, write_epoch(cache, epoch, parts, dtype, True, facts)


def _counted(parts: Iterable[Examples], expected: int, source: Path) -> Iterator[Examples]:
    found = 0
    for part in parts:
        found += len(part.lengths)
        yield part
    if found != expected:
        raise UserError(
            f"{source}: holds {found} examples, its metrics file says {expected}; {_AGAIN}"
        )


def _read_metrics(folder: Path, epoch: int) -> dict:
    path = metrics_path(folder, epoch)
    try:
        metrics = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; epoch {epoch} is missing, {_AGAIN}") from None
    except (ValueError, RecursionError):
        metrics = None
    needed = ("num_training_examples", "max_seq_len")
    if not isinstance(metrics, dict) or any(type(metrics.get(key)) is not int for key in needed):
        raise UserError(f"{path}: expected a JSON object with the numbers {' and '.join(needed)}")
    if metrics["num_training_examples"] < 1:
        raise UserError(f"{path}: an epoch without examples; {_AGAIN}")
    return metrics


def _load(prefix: Path, name: str) -> np.ndarray:
    array = load_array(f"{prefix}.{name}.npy", mmap=True, advice=_AGAIN)
    if array.ndim != 1 or array.dtype.kind not in "iu":
        raise UserError(f"{prefix}.{name}.npy: expected a row of whole numbers; {_AGAIN}")
    return array
