"""The tokens of words seen before: a corpus says the same words again and again."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence

import numpy as np

WORDS_KEPT = 1 << 18  # some 50 MB
_CHARACTERS_KEPT = 1 << 23
_WORDS_A_TEXT = 128
_WHOLE: list[str] = []  # in the place of a text's words


class KnownWords:
    """Encodes texts by the words in them, each at its first appearance.

    That is done for printable ASCII alone: nothing of it is removed, composed or joined across a space,
    so the tokens of such a text are those of its words, one after the other. Any other text is encoded
    as a whole.
    """

    def __init__(
        self,
        encode: Callable[[list[str]], tuple[np.ndarray, np.ndarray]],
        vocab: Mapping[str, int],
        kept: int = WORDS_KEPT,
    ) -> None:
        """
        Args:
            encode: from texts to their ids, int32 [T], and the length of each, int64 [n].
            vocab: token -> id.
            kept: words to know before all are forgotten; 0 encodes every text as a whole.
        """
        self._encode, self._kept = encode, kept
        # A word of one token that no ASCII word has: with it between them, many words are encoded as one
        # text, in half the time.
        self._separator = next(
            (
                (token, number)
                for token, number in vocab.items()
                if len(token) == 1 and not token.isascii() and list(encode([token])[0]) == [number]
            ),
            None,
        )
        self._forget()

    def _forget(self) -> None:
        self._number = _Numbers()
        self._characters = 0
        self._ids = np.empty(0, np.int32)  # of all words, one after the other
        self._ends = np.zeros(1, np.int64)  # word i is ids[ends[i]:ends[i + 1]]

    def encode(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, int32 [T], and the length of each, int64 [n]."""
        if len(self._number) > self._kept or self._characters > _CHARACTERS_KEPT:
            self._forget()
        parts = [
            text.split() if self._kept and text.isascii() and text.isprintable() else _WHOLE
            for text in texts
        ]
        wholes = [i for i, words in enumerate(parts) if words is _WHOLE]
        counts = np.fromiter(map(len, parts), np.int64, len(parts))
        words = itertools.chain.from_iterable(parts)
        numbers = np.fromiter(map(self._number.__getitem__, words), np.int64, int(counts.sum()))
        self._learn()
        ids, ends = self._ids, self._ends
        if wholes:
            known = len(ends) - 1
            places = np.cumsum(counts)[wholes]
            numbers = np.insert(numbers, places, np.arange(known, known + len(wholes)))
            counts[wholes] = 1
            ids, ends = _joined(ids, ends, *self._encode([texts[i] for i in wholes]))
        starts, lengths = ends[numbers], ends[numbers + 1] - ends[numbers]
        after = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
        places = np.arange(after[-1]) + np.repeat(starts - after[:-1], lengths)
        return ids[places], np.diff(after[np.cumsum(counts)], prepend=0)

    def _learn(self) -> None:
        """Encode the words that got a number since the last time."""
        new, self._number.new = self._number.new, []
        if new:
            self._characters += sum(map(len, new))
            self._ids, self._ends = _joined(self._ids, self._ends, *self._encode_words(new))

    def _encode_words(self, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
        if self._separator is None:
            return self._encode(words)
        between, token = self._separator
        # Every word is followed by a separator, the last of a text as well.
        texts = [
            f" {between} ".join([*words[start : start + _WORDS_A_TEXT], ""])
            for start in range(0, len(words), _WORDS_A_TEXT)
        ]
        ids, _ = self._encode(texts)
        is_separator = ids == token
        ends = np.flatnonzero(is_separator) - np.arange(len(words))
        return ids[~is_separator], np.diff(ends, prepend=0)


class _Numbers(dict[str, int]):
    """Words by number, in the order in which they were first asked for; `new` are the latest."""

    def __init__(self) -> None:
        self.new: list[str] = []

    def __missing__(self, word: str) -> int:
        self[word] = number = len(self)
        self.new.append(word)
        return number


def _joined(
    ids: np.ndarray, ends: np.ndarray, more: np.ndarray, lengths: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if len(lengths) == 0:
        return ids, ends
    return np.concatenate([ids, more]), np.concatenate([ends, ends[-1] + np.cumsum(lengths)])
