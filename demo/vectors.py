"""Word vectors of the demo's corpus in GloVe's text format: positive mutual information, reduced by SVD."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from files.atomic import atomic_open


def co_occurrences(
    sentences: Iterable[Sequence[str]], words: Sequence[str], window: int = 4
) -> np.ndarray:
    """Counts [V, V] of two words within `window` of each other, nearer ones counted more (1 / distance)."""
    number = {word: index for index, word in enumerate(words)}
    # Sentences in one row, `window` empty places between them, so that no window spans two sentences.
    row: list[int] = []
    for sentence in sentences:
        row.extend(number.get(word, -1) for word in sentence)
        row.extend([-1] * window)
    ids = np.asarray(row)
    counts = np.zeros((len(words), len(words)))
    for distance in range(1, window + 1):
        first, second = ids[:-distance], ids[distance:]
        both = (first >= 0) & (second >= 0)
        np.add.at(counts, (first[both], second[both]), 1 / distance)
    return counts + counts.T


def word_vectors(counts: np.ndarray, width: int) -> np.ndarray:
    """Vectors [V, width]: the leading singular directions of positive pointwise mutual information."""
    total = counts.sum()
    expected = np.outer(counts.sum(1), counts.sum(0)) / max(total, 1)
    with np.errstate(divide="ignore", invalid="ignore"):
        information = np.log(counts / expected)
    information[~(information > 0)] = 0
    left, strength, _ = np.linalg.svd(information)
    left = left[:, :width]
    # The sign of a singular vector is arbitrary; fix it, so that the file is the same everywhere.
    left = left * np.sign(left[np.abs(left).argmax(0), np.arange(left.shape[1])])
    return left * np.sqrt(strength[:width])


def write_vectors(
    path: Path, sentences: Iterable[Sequence[str]], words: Sequence[str], width: int
) -> None:
    """Write one line a word: the word and `width` numbers, separated by blanks."""
    vectors = word_vectors(co_occurrences(sentences, words), width)
    with atomic_open(path) as file:
        for word, vector in zip(words, vectors, strict=True):
            file.write(f"{word} {' '.join(f'{value:.4f}' for value in vector)}\n")
