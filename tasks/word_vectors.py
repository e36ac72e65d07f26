"""Word vectors in GloVe's text format, and the nearest words of many words at once."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from corpus.text_files import is_packed, open_binary, whole_lines
from files.errors import UserError

_QUERIES = 256  # words compared with all others at once: 100 MB of similarities for 100,000 vectors
# Cosines closer than this are in the order that single precision happens to give them.
_CLOSE = 1e-5
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class WordVectors:
    """The usable vectors of a file, in the file's order.

    Attributes:
        words: [V].
        matrix: float32 [V, D], rows of length 1.
        rows: word -> its row.
        skipped: vectors left out: zero, of a repeated word, of `<unk>`, or of no word at all.
    """

    words: list[str]
    matrix: np.ndarray
    rows: dict[str, int]
    skipped: int

    def checksum(self) -> str:
        """SHA-256, in hexadecimal, over words and vectors."""
        digest = hashlib.sha256("\n".join(self.words).encode())
        digest.update(self.matrix.data)
        return digest.hexdigest()


def read_word_vectors(path: str | os.PathLike, limit: int = 100_000) -> WordVectors:
    """Read the first `limit` vectors of a file with one word and its numbers a line.

    The dimension is that of the first line. A line is split from its right end, because the 840B
    set has words with spaces in them (`. . .`, `at name@domain.com`). A first line of two whole
    numbers (the header that word2vec and fastText write) is passed over, and so is a byte-order mark; the
    file may be compressed (bzip2, gzip, xz). Zero vectors have no
    direction and are skipped, as are words that could not stand in a tab-separated file.

    Raises:
        UserError: `FILE:LINE`: another number of dimensions, something that is not a finite number,
            bytes that are not UTF-8; or no vector at all.
    """
    words: list[str] = []
    rows: dict[str, int] = {}
    skipped = read = dimension = 0
    matrix = np.empty((0, 0), dtype=np.float32)
    with open_binary(path) as file:
        size = 0 if is_packed(file) else os.fstat(file.fileno()).st_size
        for number, raw in enumerate(whole_lines(file, path), 1):
            line = raw.removeprefix(b"\xef\xbb\xbf").rstrip() if number == 1 else raw.rstrip()
            if not line:
                continue
            if not dimension:
                fields = line.split(b" ")
                if number == 1 and len(fields) == 2 and all(field.isdigit() for field in fields):
                    continue
                dimension = len(fields) - 1
                # A number takes two bytes at least, which bounds the rows of a file; a pipe has no size.
                bound = 1 + size // (2 * max(1, dimension)) if size else limit
                matrix = np.empty((min(limit, bound), dimension), dtype=np.float32)
            word, vector = _parse(line, dimension, f"{path}:{number}")
            norm = np.linalg.norm(vector.astype(np.float64))
            if not np.isfinite(norm):
                raise UserError(f"{path}:{number}: a number that is not finite or too large")
            usable = word.strip() and word != "<unk>" and not set(word) & set("\t\r\n")
            if norm == 0 or not usable or word in rows:
                skipped += 1
            else:
                matrix[len(words)] = vector / norm
                rows[word] = len(words)
                words.append(word)
            read += 1
            if read == limit:
                break
    if not words:
        raise UserError(f"{path}: no word vectors; expected a word and its numbers on each line")
    return WordVectors(words, matrix[: len(words)], rows, skipped)


def nearest_words(vectors: WordVectors, words: Iterable[str], count: int) -> dict[str, list[str]]:
    """Find the `count` words of greatest cosine similarity to each of `words`, itself left out.

    One blocked matrix product serves all words. Where single precision cannot tell which word is
    the last to be taken, the word is done again in double precision, so that the answer for a word
    does not depend on which others are asked for; equal similarities go to the word that comes
    first.

    Returns:
        word -> nearest words, in the order of the file (not of similarity); words without a vector
        have no entry.
    """
    known = sorted({vectors.rows[word] for word in words if word in vectors.rows})
    matrix = torch.from_numpy(vectors.matrix)
    count = min(count, len(vectors.words) - 1)
    nearest: dict[str, list[str]] = {}
    if count < 1:
        return {vectors.words[row]: [] for row in known}
    for start in range(0, len(known), _QUERIES):
        rows = torch.tensor(known[start : start + _QUERIES])
        similarity = matrix[rows] @ matrix.T  # [Q, V]
        similarity[torch.arange(len(rows)), rows] = -torch.inf
        best, ids = similarity.topk(count + 1)
        unclear = best[:, count - 1] - best[:, count] < _CLOSE
        for i, row in enumerate(rows.tolist()):
            taken = ids[i, :count].numpy()
            if unclear[i]:
                close = (similarity[i] > best[i, count - 1] - 2 * _CLOSE).nonzero().ravel().numpy()
                taken = _nearest_exactly(vectors.matrix, row, close, count)
            nearest[vectors.words[row]] = [vectors.words[j] for j in sorted(taken.tolist())]
    return nearest


def _parse(line: bytes, dimension: int, place: str) -> tuple[str, np.ndarray]:
    fields = line.rsplit(b" ", dimension)
    try:
        word = fields[0].decode("utf-8")
    except UnicodeDecodeError:
        raise UserError(f"{place}: is not UTF-8; expected GloVe's text format, unpacked") from None
    expected = f"expected a word and {dimension} numbers, as in the first line"
    if len(fields) != dimension + 1 or dimension < 1:
        raise UserError(f"{place}: {len(fields) - 1} numbers; expected a word and its vector")
    if " " in word and _NUMBER.fullmatch(word.rpartition(" ")[2]):
        raise UserError(f"{place}: more than {dimension} numbers; {expected}")
    try:
        vector = np.fromstring(line[len(fields[0]) + 1 :], dtype=np.float32, sep=" ")
    except ValueError:
        vector = np.empty(0)
    if len(vector) != dimension:
        raise UserError(f"{place}: not {dimension} numbers after {word[:40]!r}; {expected}")
    return word, vector


def _nearest_exactly(matrix: np.ndarray, row: int, among: np.ndarray, count: int) -> np.ndarray:
    """The `count` rows of `among` nearest to `row` in double precision, the first of equal ones."""
    similarity = matrix[among].astype(np.float64) @ matrix[row].astype(np.float64)
    return among[np.argsort(-similarity, kind="stable")[:count]]
