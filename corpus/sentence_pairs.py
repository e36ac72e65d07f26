"""Sentence pairs as in BERT's pre-training, made from a tokenised corpus.

Every epoch cuts each document into chunks of about the wanted length and splits each chunk into a
pair. Both texts of a pair are runs of consecutive tokens, so planning a pair costs a few numbers
for each chunk, and the tokens themselves are only ever moved by array operations.

What is drawn for a document comes from a generator of its own, seeded by (seed, purpose, epoch,
document): neither the number of workers nor the cut of the work into blocks changes the result.
"""

from __future__ import annotations

import zlib
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from corpus.documents import Documents
from corpus.token_store import keep_longest_first, ranges

MIN_SEQ_LEN = 5  # [CLS] a [SEP] b [SEP]
_PURPOSE = zlib.crc32(b"sentence pairs")


@dataclass(frozen=True)
class PairRecipe:
    """How examples are made; field names are those of the flags of pregenerate_training_data.py.

    continuation: bool [vocab], which tokens continue a word; only whole-word masking needs it.
    """

    max_seq_len: int
    short_seq_prob: float
    one_seq: bool
    seed: int
    cls_id: int
    sep_id: int
    mask_id: int
    vocab_size: int
    masked_lm_prob: float = 0.0
    max_predictions_per_seq: int = 20
    continuation: np.ndarray | None = None


class Masks(NamedTuple):
    """Masked places: positions and labels, both [K]; those of sequence j begin at offsets[j]."""

    positions: np.ndarray
    labels: np.ndarray
    offsets: np.ndarray


class Examples(NamedTuple):
    """n sequences [CLS] a [SEP] b [SEP], end to end.

    tokens [T]; lengths int64 [n]; boundaries int64 [n], where b begins; is_random_next uint8 [n];
    masks: None where nothing may be masked.
    """

    tokens: np.ndarray
    lengths: np.ndarray
    boundaries: np.ndarray
    is_random_next: np.ndarray
    masks: Masks | None


def make_examples(documents: Documents, recipe: PairRecipe, epoch: int, block: int) -> Examples:
    """Make one epoch's examples from the documents of one block."""
    first, last = documents.blocks[block], documents.blocks[block + 1]
    starts = documents.read("documents", first, last + 1)
    first_sentence = int(starts[0])
    sentences = documents.read("sentences", first_sentence, starts[-1] + 1)
    first_token = int(sentences[0])

    generators, counts, plan = [], [], []
    for document, (begin, end) in enumerate(pairwise(starts.tolist()), first):
        generator = np.random.default_rng((recipe.seed % 2**64, _PURPOSE, epoch, document))
        before = len(plan)
        ends = sentences[begin - first_sentence : end - first_sentence + 1].tolist()
        plan.extend(plan_pairs(ends, begin, documents, recipe, _uniforms(generator)))
        counts.append(len(plan) - before)
        generators.append(generator)

    a_begin, a_length, b_begin, b_length, other, b_room = np.array(plan, dtype=np.int64).T
    is_random = other >= 0
    b_begin[is_random], b_length[is_random] = _fill(documents, other[is_random], b_room[is_random])

    keep_a, keep_b = keep_longest_first(a_length, b_length, recipe.max_seq_len)
    front_a, front_b = _cut_in_front(
        np.stack([a_length - keep_a, b_length - keep_b]), generators, counts
    )
    lengths, boundaries = keep_a + keep_b + 3, keep_a + 2
    begin = np.cumsum(lengths) - lengths
    flat = np.full(int(lengths.sum()), recipe.sep_id, dtype=documents.dtype)
    flat[begin] = recipe.cls_id
    tokens = documents.read("tokens", first_token, sentences[-1] + 1)
    tokens[-1:] = documents.read("tokens", documents.num_tokens, documents.num_tokens + 1)
    flat[ranges(begin + 1, keep_a)] = tokens[ranges(a_begin + front_a - first_token, keep_a)]
    own = ~is_random
    # --one_seq's placeholder stands behind all tokens, and here behind those of the block.
    b_place = np.minimum(b_begin + front_b - first_token, len(tokens) - 1)[own]
    flat[ranges((begin + boundaries)[own], keep_b[own])] = tokens[ranges(b_place, keep_b[own])]
    flat[ranges((begin + boundaries)[is_random], keep_b[is_random])] = _texts(
        documents, (b_begin + front_b)[is_random], keep_b[is_random]
    )
    masks = None
    if recipe.masked_lm_prob > 0:
        masks = _mask(flat, lengths, boundaries, recipe, generators, counts)
    return Examples(flat, lengths, boundaries, is_random.astype(np.uint8), masks)


def _fill(
    documents: Documents, sentences: np.ndarray, room: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Whole sentences from each of `sentences` on, until `room` tokens are filled or their document
    ends, one at the least: (begin, length), int64 [n] each."""
    begin, length = np.empty_like(sentences), np.empty_like(sentences)
    if len(sentences):
        room = np.maximum(room, 1)
        left = documents.document_ends(sentences) - sentences
        # No sentence is empty, so as many fill the room for certain.
        for which, ends in documents.windows("sentences", sentences, int(room.max()) + 1):
            begin[which] = ends[:, 0]
            ends = ends - ends[:, :1]
            full = (ends >= room[which, None]).argmax(axis=1)
            # Where the corpus ends first the window is not full.
            full = np.where(full > 0, full, left[which])
            full = np.minimum(full, left[which])
            length[which] = ends[np.arange(len(ends)), full]
    return begin, length


def _texts(documents: Documents, begins: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The tokens of texts all over the corpus, end to end."""
    texts = []
    if len(begins):
        for which, tokens in documents.windows("tokens", begins, int(lengths.max())):
            texts.append(tokens[np.arange(tokens.shape[1]) < lengths[which, None]])
    return np.concatenate(texts) if texts else np.zeros(0, documents.dtype)


def plan_pairs(
    ends: list[int],
    first_sentence: int,
    documents: Documents,
    recipe: PairRecipe,
    uniform: Iterator[float],
) -> Iterator[tuple[int, int, int, int, int, int]]:
    """Cut one document into pairs of texts.

    `ends` are the places of its sentences among the tokens, [sentences + 1].

    Yields:
        (a begin, a length, b begin, b length, random, room). Where the second text is random, its
        begin and length are left 0: it starts with sentence `random` of another document (each
        equally likely, so documents in proportion to their sentences), to fill `room` tokens. Else
        the last two are -1 and 0.
    """
    room = recipe.max_seq_len - 3
    target = room
    if next(uniform) < recipe.short_seq_prob:
        target = 2 + int(next(uniform) * (room - 1))
    size, start = len(ends) - 1, 0
    while start < size:
        stop = min(bisect_left(ends, ends[start] + target, start + 1), size)
        split = start + 1 + int(next(uniform) * (stop - start - 1))
        a_begin, a_length = ends[start], ends[split] - ends[start]
        if not recipe.one_seq and (split == stop or next(uniform) < 0.5):
            other = int(next(uniform) * (documents.num_sentences - size))
            if other >= first_sentence:
                other += size
            yield a_begin, a_length, 0, 0, other, target - a_length
            start = split  # the sentences that B replaced are put back
        elif split == stop:
            # --one_seq and nothing follows: the placeholder, as published
            yield a_begin, a_length, documents.num_tokens, 1, -1, 0
            start = stop
        else:
            yield a_begin, a_length, ends[split], ends[stop] - ends[split], -1, 0
            start = stop


def _cut_in_front(
    cut: np.ndarray, generators: list[np.random.Generator], counts: list[int]
) -> np.ndarray:
    """How many of the tokens cut from each text, [2, n], go from its front: a coin for each."""
    parts = np.split(cut, np.cumsum(counts)[:-1], axis=1)
    drawn = (
        generator.binomial(part, 0.5) if part.any() else part
        for generator, part in zip(generators, parts, strict=True)
    )
    return np.concatenate(list(drawn), axis=1)


def _uniforms(generator: np.random.Generator) -> Iterator[float]:
    while True:
        yield from generator.random(64).tolist()


def _mask(
    tokens: np.ndarray,
    lengths: np.ndarray,
    boundaries: np.ndarray,
    recipe: PairRecipe,
    generators: list[np.random.Generator],
    counts: list[int],
) -> Masks:
    """Mask `tokens` in place as BERT does: of the places chosen 80 % [MASK], 10 % a random token.

    A sequence of n tokens gets round(n · probability) places, at least one and at most
    `max_predictions_per_seq`. Words come in random order; one that would exceed the number is
    passed over. Without whole-word masking every token is a word of its own.
    """
    num_sequences = len(lengths)
    row = np.repeat(np.arange(num_sequences), lengths)
    column = ranges(np.zeros(num_sequences, np.int64), lengths)
    special = (column == 0) | (column == boundaries[row] - 1) | (column == lengths[row] - 1)
    begins_word = ~special
    if recipe.continuation is not None:
        begins_segment = (column == 1) | (column == boundaries[row])
        begins_word &= ~recipe.continuation[tokens] | begins_segment

    per_document = np.add.reduceat(lengths, np.cumsum([0, *counts[:-1]]))
    sizes = list(zip(generators, per_document.tolist(), strict=True))
    order_key, action = (np.concatenate([g.random(size) for g, size in sizes]) for _ in range(2))
    substitute = np.concatenate([g.integers(recipe.vocab_size, size=size) for g, size in sizes])

    place = np.flatnonzero(~special)
    word = np.cumsum(begins_word)[place] - 1  # of each ordinary token
    first = np.flatnonzero(begins_word)
    word_row, word_size = row[first], np.bincount(word, minlength=len(first))
    order = np.lexsort((order_key[first], word_row))
    words_in_row = np.bincount(word_row, minlength=num_sequences)
    rank = ranges(np.zeros(num_sequences, np.int64), words_in_row)

    wanted = np.minimum(
        recipe.max_predictions_per_seq,
        np.maximum(1, np.rint(lengths * recipe.masked_lm_prob).astype(np.int64)),
    )
    size_at = np.zeros((int(words_in_row.max()), num_sequences), np.int64)
    size_at[rank, word_row[order]] = word_size[order]
    chosen_at = np.zeros(size_at.shape, bool)
    done = np.zeros(num_sequences, np.int64)
    for size, chosen in zip(size_at, chosen_at, strict=True):
        np.logical_and(size > 0, done + size <= wanted, out=chosen)
        done += size * chosen
        if (done == wanted).all():
            break
    chosen_word = np.empty(len(first), bool)
    chosen_word[order] = chosen_at[rank, word_row[order]]

    masked = place[chosen_word[word]]
    labels = tokens[masked]
    replacement = np.where(action[masked] < 0.9, labels, substitute[masked])
    tokens[masked] = np.where(action[masked] < 0.8, recipe.mask_id, replacement)
    offsets = np.concatenate([[0], np.cumsum(np.bincount(row[masked], minlength=num_sequences))])
    return Masks(column[masked], labels, offsets)
