"""A corpus, tokenised once into flat arrays on disk, so that it need not fit into memory."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from corpus.line_breaks import find_wrapping
from corpus.text_files import Block, read_blocks, read_format, sample_lines
from corpus.token_store import token_dtype
from files.atomic import atomic_open
from files.errors import UserError

if TYPE_CHECKING:
    from transformer.tokenization import BertTokenizer

BLOCK_TOKENS = 1 << 18  # work is handed out in runs of documents of about this size
ARRAYS = ("tokens", "sentences", "documents")  # files of a tokenised corpus
_EVERY = 256  # documents
_WINDOW_BYTES = 1 << 23
_READ_BYTES = 1 << 21
_SENTENCES = 1 << 18  # of a shard, put in their place at once


@dataclass(frozen=True)
class Documents:
    """A tokenised corpus on disk.

    `folder` holds three raw arrays: `tokens` (all sentences, end to end, then the placeholder "."),
    `sentences` int64 [S + 1] (where each begins among the tokens) and `documents` int64 [D + 1]
    (where each begins among the sentences). No sentence and no document is empty. `blocks` cuts the
    documents into runs of about BLOCK_TOKENS: block i is documents blocks[i] to blocks[i + 1].
    """

    folder: Path
    dtype: np.dtype
    num_documents: int
    num_sentences: int
    num_tokens: int
    blocks: tuple[int, ...]

    def facts(self) -> dict[str, Any]:
        """What `kept` needs to find the arrays again, for JSON."""
        own = {field.name: getattr(self, field.name) for field in fields(self)}
        del own["folder"]
        return {**own, "dtype": self.dtype.str}

    @classmethod
    def kept(cls, folder: Path, facts: dict[str, Any]) -> Documents:
        """The documents that `tokenize_corpus` wrote into a folder before."""
        blocks = tuple(facts["blocks"])
        return cls(
            **{**facts, "folder": folder, "dtype": np.dtype(facts["dtype"]), "blocks": blocks}
        )

    def read(self, name: str, start: int = 0, stop: int | None = None) -> np.ndarray:
        """Read a run of one of the three arrays.

        Nothing is memory-mapped: pages touched here and there in a large file would fill the memory.
        """
        dtype = self._dtype_of(name)
        path = self.folder / name
        stop = path.stat().st_size // dtype.itemsize if stop is None else stop
        return np.fromfile(path, dtype, stop - start, offset=start * dtype.itemsize)

    def windows(
        self, name: str, starts: np.ndarray, width: int
    ) -> Iterator[tuple[slice, np.ndarray]]:
        """Read a window of `width` values from each of `starts`, some megabytes at a time.

        Yields:
            (which of `starts`, their windows [n, width]). What lies past the end of the file is 0.
        """
        dtype = self._dtype_of(name)
        at_once = max(1, _WINDOW_BYTES // (width * dtype.itemsize))
        with open(self.folder / name, "rb", buffering=0) as file:
            for first in range(0, len(starts), at_once):
                which = slice(first, min(first + at_once, len(starts)))
                found = np.zeros((which.stop - first, width), dtype)
                for row, start in zip(found, starts[which].tolist(), strict=True):
                    os.preadv(file.fileno(), [row], start * dtype.itemsize)
                yield which, found

    def document_ends(self, sentences: np.ndarray) -> np.ndarray:
        """The sentence after the last one of each sentence's document, int64 [n]."""
        ends = np.empty(len(sentences), np.int64)
        near = np.searchsorted(self._some_documents, sentences, "right") - 1
        for which, begins in self.windows("documents", near * _EVERY, _EVERY + 1):
            later = begins > sentences[which, None]
            ends[which] = begins[np.arange(len(begins)), later.argmax(axis=1)]
        return ends

    @cached_property
    def _some_documents(self) -> np.ndarray:
        """Where every `_EVERY`-th document begins: so much of a search needs no reading."""
        step = _EVERY << 10
        parts = (
            self.read("documents", start, min(start + step, self.num_documents + 1))[::_EVERY]
            for start in range(0, self.num_documents + 1, step)
        )
        return np.concatenate(list(parts))

    def _dtype_of(self, name: str) -> np.dtype:
        return np.dtype(self.dtype if name == "tokens" else np.int64)


class _Writer:
    """Writes `Documents` piece by piece; as a context manager it closes the files."""

    def __init__(self, folder: Path, dtype: np.dtype) -> None:
        self._folder, self._dtype = folder, dtype
        self._stack = contextlib.ExitStack()
        self._tokens, self._sentences, self._documents = (
            self._stack.enter_context(open(folder / name, "wb"))  # noqa: SIM115
            for name in ARRAYS
        )
        self._sentences.write(np.zeros(1, np.int64))
        self._documents.write(np.zeros(1, np.int64))
        self._num_tokens = self._num_sentences = self._num_documents = 0
        self._last_end = self._block_start = 0
        self._blocks = [0]

    def add(self, ids: np.ndarray, ends: np.ndarray, breaks: Sequence[int]) -> None:
        """Add sentences: their tokens, where each ends among them, and where documents end.

        Args:
            breaks: numbers of sentences, of those added here, before an end of a document.
        """
        self._tokens.write(np.ascontiguousarray(ids, self._dtype).data)
        self._sentences.write(np.ascontiguousarray(self._num_tokens + ends, np.int64).data)
        for place in breaks:
            token = int(ends[place - 1]) if place else 0
            self._end_document(self._num_sentences + place, self._num_tokens + token)
        self._num_sentences += len(ends)
        self._num_tokens += len(ids)

    def close(self, placeholder: int) -> Documents:
        """End the last document, and append the placeholder token."""
        self._end_document(self._num_sentences, self._num_tokens)
        self._tokens.write(np.array([placeholder], self._dtype))
        self._stack.close()
        if self._blocks[-1] != self._num_documents:
            self._blocks.append(self._num_documents)
        return Documents(
            self._folder, self._dtype, self._num_documents, self._num_sentences,
            self._num_tokens, tuple(self._blocks),
        )  # fmt: skip

    def _end_document(self, sentence: int, token: int) -> None:
        if sentence == self._last_end:
            return
        self._last_end = sentence
        self._num_documents += 1
        self._documents.write(np.int64(sentence))
        if token - self._block_start >= BLOCK_TOKENS:
            self._block_start = token
            self._blocks.append(self._num_documents)

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()


def tokenize_corpus(
    corpus: str | os.PathLike,
    tokenizer: BertTokenizer,
    folder: str | os.PathLike,
    on_progress: Callable[[int], object] = lambda num_bytes: None,
    reads: int | None = None,
) -> Documents:
    """Tokenise a corpus (one sentence a line, a blank line between documents) into `folder`.

    Sentences of which no token is left are dropped. Memory stays bounded whatever the corpus.

    Args:
        reads: go no further than so many times two megabytes; None goes to the end.

    Raises:
        UserError: the file is missing, empty or not UTF-8 (with the line).
    """
    with _Writer(Path(folder), token_dtype(len(tokenizer))) as writer:
        blocks = islice(read_blocks(corpus, _READ_BYTES), reads)
        for chunk in _tokenized(blocks, tokenizer, on_progress):
            writer.add(*chunk)
        documents = writer.close(_placeholder(tokenizer))
    return _checked(documents, corpus)


def tokenize_shard(
    corpus: str | os.PathLike,
    within: range | None,
    tokenizer: BertTokenizer,
    path: str | os.PathLike,
    on_progress: Callable[[int], object] = lambda num_bytes: None,
) -> dict[str, int]:
    """Tokenise the lines that begin in some bytes of a corpus into one file.

    The file holds the tokens, and after them, int64 each, where sentences end among them and where
    documents end among the sentences.

    Returns:
        How many of each there are: tokens, sentences, breaks.
    """
    dtype = token_dtype(len(tokenizer))
    counts = {"tokens": 0, "sentences": 0, "breaks": 0}
    with (
        atomic_open(path, "wb") as file,
        tempfile.TemporaryFile(dir=Path(path).parent) as sentences,
        tempfile.TemporaryFile(dir=Path(path).parent) as breaks,
    ):
        blocks = read_blocks(corpus, _READ_BYTES, within)
        for ids, ends, places in _tokenized(blocks, tokenizer, on_progress):
            file.write(np.ascontiguousarray(ids, dtype).data)
            sentences.write(np.ascontiguousarray(counts["tokens"] + ends, np.int64).data)
            breaks.write(np.array(places, np.int64) + counts["sentences"])
            counts["tokens"] += len(ids)
            counts["sentences"] += len(ends)
            counts["breaks"] += len(places)
        for part in (sentences, breaks):
            part.seek(0)
            shutil.copyfileobj(part, file, 1 << 20)
    return counts


def join_shards(
    shards: Iterable[tuple[Path, dict[str, int]]],
    tokenizer: BertTokenizer,
    folder: str | os.PathLike,
    corpus: str | os.PathLike,
) -> Documents:
    """Make of the files of `tokenize_shard` what `tokenize_corpus` makes of the whole."""
    dtype = token_dtype(len(tokenizer))
    with _Writer(Path(folder), dtype) as writer:
        for path, counts in shards:
            with open(path, "rb") as tokens, open(path, "rb") as sentences:
                sentences.seek(counts["tokens"] * dtype.itemsize)
                with open(path, "rb") as file:
                    file.seek(sentences.tell() + 8 * counts["sentences"])
                    breaks = np.fromfile(file, np.int64, counts["breaks"])
                token = 0
                for first in range(0, max(counts["sentences"], 1), _SENTENCES):
                    ends = np.fromfile(
                        sentences, np.int64, min(_SENTENCES, counts["sentences"] - first)
                    )
                    last = first + len(ends)
                    low = np.searchsorted(breaks, first, "right" if first else "left")
                    high = np.searchsorted(breaks, last, "right")
                    size = int(ends[-1]) - token if len(ends) else 0
                    ids = np.fromfile(tokens, dtype, size)
                    writer.add(ids, ends - token, (breaks[low:high] - first).tolist())
                    token += size
        documents = writer.close(_placeholder(tokenizer))
    return _checked(documents, corpus)


def check_corpus_text(corpus: str | os.PathLike) -> str | None:
    """Refuse a file that is not plain text; return what should be said of one that is.

    Raises:
        UserError: it is missing, empty, or of another format; it says which.
    """
    if (kind := read_format(corpus)) != "text":
        what = {"dump": "a Wikipedia dump", "doc": "WikiExtractor's output"}.get(kind, "JSON")
        raise UserError(
            f"{corpus}: is {what}; expected one sentence a line and a blank line between documents: "
            "prepare_data.py makes that of it"
        )
    if wrapping := find_wrapping(sample_lines([corpus])):
        return (
            f"{corpus}: looks wrapped at {wrapping.width} characters, and each line is taken for a "
            "sentence; prepare_data.py joins such lines"
        )
    return None


def _tokenized(
    blocks: Iterable[Block], tokenizer: BertTokenizer, on_progress: Callable[[int], object]
) -> Iterator[tuple[np.ndarray, np.ndarray, list[int]]]:
    """Yield tokens, ends of sentences and ends of documents as `_Writer.add` takes them."""
    for block in blocks:
        texts: list[str] = []
        breaks: list[int] = []
        for line in map(str.strip, block.lines()):
            if line:
                texts.append(line)
            else:
                breaks.append(len(texts))
        ids, offsets = tokenizer.encode_flat(texts)
        filled = np.diff(offsets) > 0
        kept_before = np.concatenate([[0], np.cumsum(filled)])
        yield ids, offsets[1:][filled], kept_before[breaks].tolist() if breaks else []
        on_progress(len(block.data))


def _placeholder(tokenizer: BertTokenizer) -> int:
    return tokenizer.vocab.get(".", tokenizer.unk_id)


def _checked(documents: Documents, corpus: str | os.PathLike) -> Documents:
    if documents.num_documents == 0:
        raise UserError(
            f"{corpus}: holds no text; expected one sentence a line and a blank line between "
            "documents (prepare_data.py writes it)"
        )
    return documents
