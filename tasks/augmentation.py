"""Data augmentation (TinyBERT, algorithm 1): new sentences by replacing words with likely others.

A word of one token is replaced by what a masked language model finds likely in its place, a word of
several tokens by its nearest neighbours among the word vectors. What the model finds likely comes
from tasks/likely_tokens.py.
"""

from __future__ import annotations

import math
import os
import tempfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.sentence_words import Sentence, SentenceSplitter

Candidates = list[tuple[int, list[str]]]  # (index of a word, what may replace it)

PAIR_MODES = ("independent", "legacy")

_IN_MEMORY = 1 << 26  # bytes
# Keeps these draws apart from those of other programs with the same seed.
_PURPOSE = zlib.crc32(b"augmentation")


def survey(texts: Iterable[str], splitter: SentenceSplitter) -> tuple[int, set[str]]:
    """Count the masked passes that `texts` need, and collect their words of several tokens."""
    passes, compounds = 0, set()
    for text in texts:
        sentence = splitter(text)
        passes += len(sentence.masked)
        compounds.update(sentence.words[index] for index in sentence.compound)
    return passes, compounds


@dataclass
class Counts:
    """What happened: words are counted in every row they stand in."""

    model_words: int = 0
    vector_words: int = 0
    words_without_candidates: int = 0
    words_beyond_model: int = 0


class _Waiting:
    """Likely tokens of sentences that come again: in memory up to 64 MB, else in a temporary file.

    Only the sentences' places in it are always in memory. As a context manager it removes the file.
    """

    def __init__(self) -> None:
        self._file = tempfile.SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115
        self._places: dict[str, tuple[int, tuple[int, ...]]] = {}

    def __contains__(self, text: str) -> bool:
        return text in self._places

    def put(self, text: str, tokens: np.ndarray) -> None:
        self._places[text] = self._file.seek(0, os.SEEK_END), tokens.shape
        self._file.write(tokens.astype(np.int32).tobytes())

    def get(self, text: str, last: bool) -> np.ndarray:
        """The tokens of a sentence, which is then forgotten if it was the last time."""
        start, shape = self._places.pop(text) if last else self._places[text]
        self._file.seek(start)
        return np.frombuffer(self._file.read(4 * math.prod(shape)), np.int32).reshape(shape)

    def __enter__(self) -> _Waiting:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


@dataclass(frozen=True)
class Augmenter:
    """Makes variants of the sentences of a data set.

    Attributes:
        likely: sentences -> likely tokens, ids [masked words, M] for each (see `likely_tokens`).
        neighbours: word -> its nearest words (see `word_vectors.nearest_words`).
        draws: variants drawn for each sentence, N.
        probability: of each word to be replaced, p.
        seed: row and side of a sentence are added to it, so that no variant depends on other rows.
        window: masked passes collected before the model is asked.
    """

    splitter: SentenceSplitter
    tokens: Sequence[str]
    likely: Callable[[Sequence[Sentence]], list[np.ndarray]]
    neighbours: Mapping[str, Sequence[str]]
    draws: int
    probability: float
    seed: int
    window: int
    counts: Counts = field(default_factory=Counts)

    def variants(
        self, sides: Sequence[Sequence[str]], rows: range | None = None
    ) -> Iterator[list[list[str]]]:
        """Yield, for each row, the new sentences of each of its sides.

        No sentence is computed twice: what comes again in a later window waits in a `_Waiting`.

        Args:
            sides: the texts of all rows, one sequence for single sentences and two for pairs.
            rows: those wanted; None for all. What is drawn for a row does not depend on it.
        """
        rows = range(len(sides[0])) if rows is None else rows
        uses = Counter(side[number] for number in rows for side in sides)
        with _Waiting() as waiting:
            start = rows.start
            while start < rows.stop:
                stop, window = self._window(sides, range(start, rows.stop), uses, waiting)
                for number in range(start, stop):
                    yield [
                        self._draw(side[number], *window[side[number]], (number, which))
                        for which, side in enumerate(sides)
                    ]
                start = stop

    def _draw(
        self, text: str, sentence: Sentence, candidates: Candidates, place: tuple[int, int]
    ) -> list[str]:
        self._count(sentence, candidates)
        generator = np.random.default_rng((self.seed % 2**64, _PURPOSE, *place))
        return draw_variants(
            text, sentence.words, candidates, self.draws, self.probability, generator
        )

    def _window(
        self,
        sides: Sequence[Sequence[str]],
        rows: range,
        uses: Counter[str],
        waiting: _Waiting,
    ) -> tuple[int, dict[str, tuple[Sentence, Candidates]]]:
        """Prepare the sentences of the first rows of `rows`; return them, and where their rows end."""
        sentences: dict[str, Sentence] = {}
        new: dict[str, Sentence] = {}
        passes, stop = 0, rows.start
        while stop < rows.stop and max(passes, stop - rows.start) < self.window:
            for text in (side[stop] for side in sides):
                uses[text] -= 1
                if text not in sentences:
                    sentences[text] = self.splitter(text)
                    if text not in waiting:
                        new[text] = sentences[text]
                        passes += len(new[text].masked)
            stop += 1
        likely = dict(zip(new, self.likely(list(new.values())), strict=True))
        for text in sentences:
            if text not in likely:
                likely[text] = waiting.get(text, last=not uses[text])
            elif uses[text]:
                waiting.put(text, likely[text])
        return stop, {
            text: (sentence, self._candidates(sentence, likely[text]))
            for text, sentence in sentences.items()
        }

    def _candidates(self, sentence: Sentence, likely: np.ndarray) -> Candidates:
        likely = {
            index: [self.tokens[token] for token in row]
            for (index, _), row in zip(sentence.masked, likely.tolist(), strict=True)
        }
        for index in sentence.compound:
            word = sentence.words[index]
            near = self.neighbours.get(word, ())
            likely[index] = [other.title() for other in near] if word.istitle() else list(near)
        return sorted((index, words) for index, words in likely.items() if words)

    def _count(self, sentence: Sentence, candidates: Candidates) -> None:
        compound = set(sentence.compound)
        by_vectors = sum(index in compound for index, _ in candidates)
        self.counts.vector_words += by_vectors
        self.counts.model_words += len(candidates) - by_vectors
        self.counts.words_beyond_model += sentence.beyond
        wanted = len(sentence.masked) + len(compound)
        self.counts.words_without_candidates += wanted - len(candidates)


def draw_variants(
    text: str,
    words: Sequence[str],
    candidates: Sequence[tuple[int, Sequence[str]]],
    draws: int,
    probability: float,
    generator: np.random.Generator,
) -> list[str]:
    """Draw sentences in which each word with candidates is replaced with `probability`.

    Args:
        text: the sentence as it stands in the file.
        words: the sentence as words, joined by spaces for the variants.
        candidates: (index of a word, what may replace it).
        draws: sentences drawn; those drawn before, or equal to `text`, are dropped.

    Returns:
        At most `draws` different sentences, in the order drawn.
    """
    sizes = np.array([len(words) for _, words in candidates], dtype=np.int64)
    replaced = generator.random((draws, len(sizes))) < probability
    choices = generator.integers(0, sizes, size=(draws, len(sizes)))
    new: dict[str, None] = {}
    for chosen, choice in zip(replaced, choices, strict=True):
        changed = list(words)
        for slot in np.flatnonzero(chosen):
            index, others = candidates[slot]
            changed[index] = others[choice[slot]]
        new[" ".join(changed)] = None
    new.pop(text, None)
    return list(new)


def augmented_rows(
    fields: Sequence[str],
    columns: Sequence[int],
    variants: Sequence[Sequence[str]],
    pair_mode: str = "independent",
) -> Iterator[list[str]]:
    """Yield a row and the rows in which one of its sentences is replaced by a variant.

    Args:
        fields: the row as it stands in the file.
        columns: where its sentences are.
        variants: the new sentences for each of `columns`.
        pair_mode: "independent" varies one sentence while the other is as in the file; "legacy"
            leaves the first sentence at its last variant while the second is varied, as published.
    """
    row = list(fields)
    if pair_mode == "independent":
        yield list(row)
    for column, new in zip(columns, variants, strict=True):
        for sentence in new if pair_mode == "independent" else [fields[column], *new]:
            row[column] = sentence
            yield list(row)
        if pair_mode == "independent":
            row[column] = fields[column]
