"""A split's rows on disk: tokenised as they are read, and memory-mapped."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from corpus.token_store import TokenStore, TokenStoreWriter, encode_pairs, token_dtype
from files.atomic import atomic_open
from files.errors import UserError
from tasks.task import Task, read_parts

if TYPE_CHECKING:
    from transformer.tokenization import BertTokenizer


class Split(NamedTuple):
    """A tokenised split: its store and its labels, int64 or float32 [n] (None for a test set)."""

    store: TokenStore
    labels: np.ndarray | None


def write_split(
    task: Task,
    data_dir: str | os.PathLike,
    split: str,
    tokenizer: BertTokenizer,
    max_length: int,
    prefix: str | os.PathLike,
) -> None:
    """Tokenise a labelled split into `PREFIX.*.npy`, in memory for some thousands of rows.

    Raises:
        UserError: a row is wrong (see `tasks.glue.read_split`); nothing is left behind.
    """
    labels = []
    with TokenStoreWriter(prefix, token_dtype(len(tokenizer))) as writer:
        for part in read_parts(task, data_dir, split):
            store = encode_pairs(tokenizer, part.text_a, part.text_b, max_length)
            writer.append(store.tokens, store.lengths, store.boundaries)
            labels.append(part.labels)
    with atomic_open(f"{os.fspath(prefix)}.labels.npy", "wb") as file:
        np.save(file, np.concatenate(labels))


def open_split(prefix: str | os.PathLike) -> Split:
    """Map what `write_split` wrote.

    Raises:
        UserError: a file is missing or torn, or they do not belong together.
    """
    store = TokenStore.open(prefix)
    path = Path(f"{os.fspath(prefix)}.labels.npy")
    try:
        labels = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: cannot be read ({error}); make it again") from None
    if labels.shape != (len(store),):
        raise UserError(f"{path}: {labels.shape} labels for {len(store)} rows; make it again")
    return Split(store, labels)
