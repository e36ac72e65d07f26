"""Writing and removing epochs of pregenerated data; corpus/epochs.py says what is in them, and reads them."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from corpus.published_json import write_json
from corpus.sentence_pairs import Examples
from corpus.token_store import TokenStoreWriter, write_array_header
from files.atomic import atomic_open

MASK_ARRAYS = ("masked_positions", "masked_labels", "masked_offsets")
_ARRAYS = ("tokens", "offsets", "boundaries", "is_random_next", *MASK_ARRAYS)
_EPOCH_FILE = re.compile(
    rf"epoch_(?P<number>\d+)(_metrics\.json|\.json|\.({'|'.join(_ARRAYS)})\.npy)"
)
CACHE = ".flat"  # inside a folder of the published format: the same epochs as arrays


def metrics_path(folder: str | os.PathLike, epoch: int) -> Path:
    """What says how an epoch was made, and that it is finished."""
    return Path(folder) / f"epoch_{epoch}_metrics.json"


def write_epoch(
    folder: str | os.PathLike,
    epoch: int,
    parts: Iterable[Examples],
    dtype: np.dtype,
    masked: bool,
    facts: dict,
) -> dict:
    """Write one epoch piece by piece in constant memory; return its metrics.

    Args:
        dtype: of the tokens.
        masked: whether the parts have masks.
        facts: further entries of the metrics file; max_seq_len, vocab_hash and vocab_size are
            needed to open the epoch again.
    """
    prefix = Path(folder) / f"epoch_{epoch}"
    num_examples = num_tokens = num_masked = 0
    digest = hashlib.sha256()
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(TokenStoreWriter(prefix, dtype))
        append_random = stack.enter_context(_array_writer(prefix, "is_random_next", np.uint8))
        if masked:
            append_positions, append_labels, append_offsets = (
                stack.enter_context(_array_writer(prefix, name, kind))
                for name, kind in zip(MASK_ARRAYS, (np.uint16, dtype, np.int64), strict=True)
            )
            append_offsets(np.zeros(1))
        for part in parts:
            store.append(part.tokens, part.lengths, part.boundaries)
            digest.update(np.ascontiguousarray(part.tokens, dtype).data)
            append_random(part.is_random_next)
            if masked:
                append_positions(part.masks.positions)
                append_labels(part.masks.labels)
                append_offsets(num_masked + part.masks.offsets[1:])
                num_masked += len(part.masks.labels)
            num_examples += len(part.lengths)
            num_tokens += len(part.tokens)
    metrics = {"num_training_examples": num_examples, "num_tokens": num_tokens}
    metrics["sha256"] = digest.hexdigest()
    return _write_metrics(folder, epoch, metrics | facts | {"masked": masked, "format": "flat"})


def write_json_epoch(
    folder: str | os.PathLike,
    epoch: int,
    parts: Iterable[Examples],
    vocabulary: list[str],
    max_seq_len: int,
    made_from: Mapping[str, Any] | None = None,
) -> dict:
    """Write one epoch in the published format, `vocabulary` being the tokens by id."""
    num_examples = write_json(Path(folder) / f"epoch_{epoch}.json", parts, vocabulary)
    metrics = {"num_training_examples": num_examples, "max_seq_len": max_seq_len}
    return _write_metrics(folder, epoch, metrics | {"format": "json", "made_from": made_from})


def remove_epochs(folder: str | os.PathLike, keep: int = 0) -> None:
    """Remove the epochs of a folder from number `keep` on, in either format, and nothing else."""
    matches = filter(None, map(_EPOCH_FILE.fullmatch, os.listdir(folder)))
    names = [match.group() for match in matches if int(match["number"]) >= keep]
    # The metrics go first: an epoch without them is not finished.
    for name in sorted(names, key=lambda name: not name.endswith("_metrics.json")):
        os.unlink(Path(folder) / name)
    shutil.rmtree(Path(folder) / CACHE, ignore_errors=True)


def _write_metrics(folder: str | os.PathLike, epoch: int, metrics: dict) -> dict:
    metrics = metrics | {"complete": True}
    with atomic_open(metrics_path(folder, epoch)) as file:
        json.dump(metrics, file, indent=1)
        file.write("\n")
    return metrics


@contextlib.contextmanager
def _array_writer(
    prefix: Path, name: str, dtype: np.dtype | type
) -> Iterator[Callable[[np.ndarray], None]]:
    """Give a function that appends to PREFIX.NAME.npy, which appears when the block ends."""
    dtype, count = np.dtype(dtype), 0

    def append(values: np.ndarray) -> None:
        nonlocal count
        file.write(np.ascontiguousarray(values, dtype).data)
        count += len(values)

    with atomic_open(f"{prefix}.{name}.npy", "wb") as file:
        write_array_header(file, dtype, 0)
        yield append
        file.seek(0)
        write_array_header(file, dtype, count)
