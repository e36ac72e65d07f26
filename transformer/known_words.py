"""The pieces of words seen before: a corpus says the same words again and again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np

WORDS_KEPT = 1 << 18  # some 50 MB
_CHARACTERS_KEPT = 1 << 23


class KnownWords:
    """Encodes texts by the words in them, each at its first appearance.

    That is done for printable ASCII alone: nothing of it is removed, composed or joined across a space,
    so the pieces of such a text are those of its words, one after the other. Any other text is encoded
    as a whole.
    """

    def __init__(
        self, encode: Callable[[list[str]], tuple[np.ndarray, np.ndarray]], kept: int = WORDS_KEPT
    ) -> None:
        """
        Args:
            encode: from texts to their ids, int32 [T], and the length of each, int64 [n].
            kept: words to know before all are forgotten; 0 encodes every text as a whole.
        """
        self._encode, self._kept = encode, kept
        self._forget()

    def _forget(self) -> None:
        self._number: dict[str, int] = {}
        self._characters = 0
        self._ids = np.empty(0, np.int32)  # of all words, one after the other
        self._ends = np.zeros(1, np.int64)  # word i is ids[ends[i]:ends[i + 1]]

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, int32 [T], and the length of each, int64 [n]."""
        if len(self._number) > self._kept or self._characters > _CHARACTERS_KEPT:
            self._forget()
        wholes, parts = [], []
        for text in texts:
            if self._kept and text.isascii() and text.isprintable():
                parts.append(text.split())
            else:
                parts.append((len(wholes),))  # a number in the place of a word
                wholes.append(text)
        words = list(itertools.chain.from_iterable(parts))
        self._learn(word for word in dict.fromkeys(words) if type(word) is str)
        ids, ends = _joined(self._ids, self._ends, *self._encode(wholes))
        number = self._number
        if wholes:
            number = number | {i: len(number) + i for i in range(len(wholes))}
        numbers = np.fromiter(map(number.__getitem__, words), np.int64, len(words))
        starts, counts = ends[numbers], ends[numbers + 1] - ends[numbers]
        after = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts)])
        places = np.arange(after[-1]) + np.repeat(starts - after[:-1], counts)
        last_words = np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)))
        return ids[places], np.diff(after[last_words], prepend=0)

    def _learn(self, words: Iterable[str]) -> None:
        new = [word for word in words if word not in self._number]
        if new:
            self._number.update(zip(new, itertools.count(len(self._number)), strict=False))
            self._characters += sum(map(len, new))
            self._ids, self._ends = _joined(self._ids, self._ends, *self._encode(new))


def _joined(
    ids: np.ndarray, ends: np.ndarray, more: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if len(lengths) == 0:
        return ids, ends
    return np.concatenate([ids, more]), np.concatenate([ends, ends[-1] + np.cumsum(lengths)])
