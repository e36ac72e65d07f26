"""Data augmentation (TinyBERT, algorithm 1): new sentences by replacing words with likely others.

A word of one piece is replaced by what a masked language model finds likely in its place, a word of
several pieces by its nearest neighbours among the word vectors. The language model is handed in as
a function, so that nothing here knows how it is built:

    predict(input_ids, token_type_ids, attention_mask, rows, columns, count) -> values, ids

with inputs int64 [B, L], the places asked about as int64 [K] each, and the `count` greatest scores
of each place among the pieces that may stand there, float32 [K, count] and int64 [K, count], as
numpy arrays.
"""

from __future__ import annotations

import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tasks.sentence_words import Sentence, SentenceSplitter
from transformer.tokenization import BertTokenizer

Predict = Callable[..., tuple[np.ndarray, np.ndarray]]

PAIR_MODES = ("independent", "legacy")

# Padding and batch shape move fp32 scores by up to some 1e-5. Where the last candidate leads the
# first that is left out by less than this, the place is computed again, alone and without padding.
_CLOSE = 2e-4
# Keeps these draws apart from those of other programs with the same seed.
_PURPOSE = zlib.crc32(b"augmentation")


def survey(texts: Iterable[str], splitter: SentenceSplitter) -> tuple[int, set[str]]:
    """Count the masked passes that `texts` need, and collect their words of several pieces."""
    passes, compounds = 0, set()
    for text in texts:
        sentence = splitter(text)
        passes += len(sentence.masked)
        compounds.update(sentence.words[index] for index in sentence.compound)
    return passes, compounds


def likely_pieces(
    sentences: Sequence[Sentence],
    predict: Predict,
    tokenizer: BertTokenizer,
    count: int,
    batch_size: int,
    max_positions: int,
    exact: bool = True,
    on_batch: Callable[[int], object] = lambda passes: None,
) -> list[np.ndarray]:
    """Ask the language model for the `count` likeliest pieces at each masked word.

    The input is [CLS] masked sentence [SEP] original sentence [SEP], cut at `max_positions` with a
    [SEP] kept last. The masks of all sentences are sorted by length and share batches.

    Args:
        predict: see the module's docstring.
        count: pieces wanted for each word.
        exact: compute unclear places again, alone (see `_CLOSE`), so that the answer does not
            depend on the batches. Of no use where the arithmetic is coarser than fp32.
        on_batch: told the number of passes done after each batch.

    Returns:
        For each sentence int64 [masked words, count], each row in rising order of id.
    """
    inputs = [_model_input(sentence, tokenizer, max_positions) for sentence in sentences]
    jobs = [
        (number, slot, position)
        for number, sentence in enumerate(sentences)
        for slot, (_, position) in enumerate(sentence.masked)
    ]
    jobs.sort(key=lambda job: -len(inputs[job[0]][0]))
    found = [np.empty((len(sentence.masked), count), dtype=np.int64) for sentence in sentences]

    def run(batch: list[tuple[int, int, int]]) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.array([len(inputs[number][0]) for number, _, _ in batch])
        ids = np.full((len(batch), lengths.max()), tokenizer.pad_id, dtype=np.int64)
        segments = np.zeros_like(ids)
        for row, (number, _, _) in enumerate(batch):
            ids[row, : lengths[row]], segments[row, : lengths[row]] = inputs[number]
        rows = np.arange(len(batch))
        columns = np.array([position for _, _, position in batch])
        ids[rows, columns] = tokenizer.mask_id
        attention = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        return predict(ids, segments, attention, rows, columns, count + 1)

    for start in range(0, len(jobs), batch_size):
        batch = jobs[start : start + batch_size]
        values, pieces = run(batch)
        # One piece more than asked for comes back, unless the vocabulary holds no more.
        full = values.shape[1] > count
        for row, (number, slot, _) in enumerate(batch):
            best = pieces[row, :count]
            if exact and full and values[row, count - 1] - values[row, count] < _CLOSE:
                best = run([batch[row]])[1][0, :count]
            found[number][slot] = np.sort(best)
        on_batch(len(batch))
    return found


def _model_input(
    sentence: Sentence, tokenizer: BertTokenizer, max_positions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and segments, int64 [L], of [CLS] sentence [SEP] sentence [SEP], unmasked."""
    pieces = sentence.ids
    ids = np.concatenate(
        ([tokenizer.cls_id], pieces, [tokenizer.sep_id], pieces, [tokenizer.sep_id])
    )[:max_positions]
    ids[-1] = tokenizer.sep_id
    segments = (np.arange(len(ids)) >= len(pieces) + 2).astype(np.int64)
    return ids, segments


@dataclass
class Counts:
    """What happened: words are counted in every row they stand in."""

    sentences: int = 0  # distinct ones, each computed once
    model_words: int = 0
    vector_words: int = 0
    words_without_candidates: int = 0
    words_beyond_model: int = 0


@dataclass(frozen=True)
class Augmenter:
    """Makes variants of the sentences of a data set.

    Attributes:
        pieces: sentences -> likely pieces, ids [masked words, M] for each (see `likely_pieces`).
        neighbours: word -> its nearest words (see `word_vectors.nearest_words`).
        draws: variants drawn for each sentence, N.
        probability: of each word to be replaced, p.
        seed: row and side of a sentence are added to it, so that no variant depends on other rows.
        window: masked passes collected before the model is asked.
    """

    splitter: SentenceSplitter
    tokens: Sequence[str]
    pieces: Callable[[Sequence[Sentence]], list[np.ndarray]]
    neighbours: Mapping[str, Sequence[str]]
    draws: int
    probability: float
    seed: int
    window: int
    counts: Counts = field(default_factory=Counts)

    def variants(self, sides: Sequence[Sequence[str]]) -> Iterator[list[list[str]]]:
        """Yield, for each row, the new sentences of each of its sides.

        Args:
            sides: the texts of all rows, one sequence for single sentences and two for pairs.
        """
        rows = list(zip(*sides, strict=True))
        # A sentence's candidates are kept until its last row: premises and questions are repeated.
        uses = Counter(text for row in rows for text in row)
        kept: dict[str, tuple[Sentence, list[tuple[int, list[str]]]]] = {}
        start = 0
        while start < len(rows):
            stop = self._prepare(rows, start, kept)
            for number in range(start, stop):
                new = []
                for side, text in enumerate(rows[number]):
                    sentence, candidates = kept[text]
                    self._count(sentence, candidates)
                    generator = np.random.default_rng((self.seed % 2**64, _PURPOSE, number, side))
                    new.append(
                        draw_variants(
                            text,
                            sentence.words,
                            candidates,
                            self.draws,
                            self.probability,
                            generator,
                        )
                    )
                    uses[text] -= 1
                    if not uses[text]:
                        del kept[text]
                yield new
            start = stop

    def _prepare(self, rows: Sequence[tuple[str, ...]], start: int, kept: dict) -> int:
        """Add to `kept` the sentences of a window of rows from `start`; return where it ends."""
        new: dict[str, Sentence] = {}
        passes, stop = 0, start
        while stop < len(rows) and (passes < self.window or stop == start):
            for text in rows[stop]:
                if text not in kept and text not in new:
                    new[text] = self.splitter(text)
                    passes += len(new[text].masked)
            stop += 1
        found = self.pieces(list(new.values()))
        for (text, sentence), pieces in zip(new.items(), found, strict=True):
            kept[text] = sentence, self._candidates(sentence, pieces)
        self.counts.sentences += len(new)
        return stop

    def _candidates(self, sentence: Sentence, pieces: np.ndarray) -> list[tuple[int, list[str]]]:
        likely = {
            index: [self.tokens[piece] for piece in row]
            for (index, _), row in zip(sentence.masked, pieces.tolist(), strict=True)
        }
        for index in sentence.compound:
            word = sentence.words[index]
            near = self.neighbours.get(word, ())
            likely[index] = [other.title() for other in near] if word.istitle() else list(near)
        return sorted((index, words) for index, words in likely.items() if words)

    def _count(self, sentence: Sentence, candidates: list[tuple[int, list[str]]]) -> None:
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
