"""Documents packed into windows: one sequence after another, each full, none of two documents alone.

The tokens of all documents, with [SEP] after each document, are cut into windows of L - 2 and stored as
`[CLS] window [SEP]` (see corpus/token_store.py); what is left at the end is a shorter window.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus.documents import Documents, check_corpus_text, tokenize_corpus
from corpus.token_store import TokenStore, TokenStoreWriter
from files.atomic import atomic_open
from files.checksums import content_key, file_checksum
from files.errors import UserError, setting
from files.kept_work import identity
from files.locks import sole_writer

if TYPE_CHECKING:
    from transformer.tokenization import BertTokenizer

SPLITS = ("train", "validation", "test")
_FACTS = "windows.json"
_PURPOSE = 0x5A17  # of the draws that share documents out


def open_windows(
    corpus: Path,
    tokenizer: BertTokenizer,
    length: int,
    fractions: Mapping[str, float],
    seed: int,
    folder: Path,
    on_progress: Callable[[int], object] = lambda num_bytes: None,
) -> tuple[dict[str, TokenStore], dict[str, Any]]:
    """The windows of a corpus, made on the first call and found again afterwards.

    Args:
        corpus: one sentence a line, a blank line between documents.
        length: tokens in a window, with [CLS] and [SEP].
        fractions: of the documents that go to "validation" and "test"; the rest is "train".
        seed: which documents those are.
        folder: kept windows are in a folder below it, named after all of the above.

    Returns:
        The stores of the splits that are not empty, memory-mapped, and the facts of their making.

    Raises:
        UserError: the corpus is not one, or too small for a split; see `tokenize_corpus`.
    """
    made_from = {
        "corpus_checksum": content_key(identity([corpus])),
        "vocabulary_checksum": tokenizer.vocab_hash,
        "tokenizer": tokenizer.describe(),
        "length": length,
        "fractions": dict(fractions),
        "seed": seed,
    }
    place = folder / content_key(made_from)
    if not (place / _FACTS).is_file():
        if told := check_corpus_text(corpus):
            print(f"warning: {told}", file=sys.stderr)
        place.mkdir(parents=True, exist_ok=True)
        with sole_writer(place):
            scratch = place / "documents"  # a killed run may have left it
            shutil.rmtree(scratch, ignore_errors=True)
            scratch.mkdir()
            documents = tokenize_corpus(corpus, tokenizer, scratch, on_progress)
            counts = _write(documents, tokenizer, length, fractions, seed, place)
            shutil.rmtree(scratch)
            facts = {"made_from": made_from, "sha256": file_checksum(corpus), "splits": counts}
            with atomic_open(place / _FACTS) as file:  # last: it says that the windows are complete
                json.dump(facts, file, indent=1)
    else:
        print(f"note: {corpus} was tokenised before: {place}", file=sys.stderr)
    facts = json.loads((place / _FACTS).read_bytes())
    return {
        split: TokenStore.open(place / split)
        for split in SPLITS
        if facts["splits"][split]["windows"]
    }, facts


def _write(
    documents: Documents,
    tokenizer: BertTokenizer,
    length: int,
    fractions: Mapping[str, float],
    seed: int,
    folder: Path,
) -> dict[str, dict[str, int]]:
    """Write the three stores; return how many documents, windows and tokens each has."""
    draws = np.random.default_rng((seed % 2**64, _PURPOSE)).random(documents.num_documents)
    first, second = fractions["validation"], fractions["test"]
    split_of = np.where(draws < first, 1, np.where(draws < first + second, 2, 0))
    counts = {}
    for number, split in enumerate(SPLITS):
        found = int((split_of == number).sum())
        if not found and (split == "train" or fractions[split]):
            raise UserError(
                f"the corpus has {documents.num_documents} documents, and none is left for {split}; "
                f"expected more, with blank lines between them, or another {setting(split + '_fraction')}"
            )
        with TokenStoreWriter(folder / split, documents.dtype) as writer:
            windows = _Windows(writer, tokenizer, length)
            for start, stop in zip(documents.blocks[:-1], documents.blocks[1:], strict=True):
                windows.add(*_tokens(documents, start, stop, split_of[start:stop] == number))
            windows.end()
        counts[split] = {"documents": found, "windows": windows.count, "tokens": windows.tokens}
    return counts


def _tokens(
    documents: Documents, start: int, stop: int, wanted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The tokens of the documents `start` to `stop` that are wanted, and where each ends among them."""
    sentences = documents.read("documents", start, stop + 1)
    begins = documents.read("sentences", int(sentences[0]), int(sentences[-1]) + 1)
    bounds = begins[sentences - sentences[0]]
    tokens = documents.read("tokens", int(bounds[0]), int(bounds[-1]))
    lengths = np.diff(bounds)
    return tokens[np.repeat(wanted, lengths)], np.cumsum(lengths[wanted])


class _Windows:
    """Cuts a stream of documents into windows."""

    def __init__(self, writer: TokenStoreWriter, tokenizer: BertTokenizer, length: int) -> None:
        self._writer, self._inside = writer, length - 2
        self._cls, self._sep = tokenizer.cls_id, tokenizer.sep_id
        self._left = np.zeros(0, np.int64)
        self.count = self.tokens = 0

    def add(self, tokens: np.ndarray, ends: np.ndarray) -> None:
        """Take documents in: their tokens, and where each ends."""
        stream = np.concatenate([self._left, np.insert(tokens.astype(np.int64), ends, self._sep)])
        whole = len(stream) // self._inside
        self._append(stream[: whole * self._inside].reshape(whole, self._inside))
        self._left = stream[whole * self._inside :]

    def end(self) -> None:
        """Write what is left, without the separator after the last document."""
        if len(self._left) > 1:
            self._append(self._left[None, :-1])

    def _append(self, inside: np.ndarray) -> None:
        rows, width = inside.shape
        edges = (np.full((rows, 1), token) for token in (self._cls, self._sep))
        windows = np.concatenate([next(edges), inside, next(edges)], axis=1)
        lengths = np.full(rows, width + 2)
        self._writer.append(windows.reshape(-1), lengths, lengths)
        self.count += rows
        self.tokens += windows.size
