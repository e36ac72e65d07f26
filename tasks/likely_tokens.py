"""What a masked language model finds likely in the place of each word of many sentences.

The model is handed in as a function, so that nothing here knows how it is built:

    predict(input_ids, token_type_ids, attention_mask, columns, count) -> values, ids

with inputs int64 [B, L], the place of each sequence that is asked about, int64 [B], and the `count`
greatest scores there among the tokens that may stand there, float32 [B, count] and int64
[B, count], as numpy arrays.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tasks.sentence_words import Sentence
from transformer.tokenization import BertTokenizer

Predict = Callable[..., tuple[np.ndarray, np.ndarray]]
LikelyTokens = Callable[[Sequence[Sentence]], list[np.ndarray]]

# Padding and batch shape move fp32 scores by up to some 1e-5. Where the last candidate leads the
# first that is left out by less than this, the place is computed again, alone and without padding.
_CLOSE = 2e-4


def likely_tokens(
    sentences: Sequence[Sentence],
    predict: Predict,
    tokenizer: BertTokenizer,
    count: int,
    batch_size: int,
    max_positions: int,
    exact: bool = True,
    on_batch: Callable[[int], object] = lambda passes: None,
) -> list[np.ndarray]:
    """Ask the language model for the `count` likeliest tokens at each masked word.

    The input is [CLS] masked sentence [SEP] original sentence [SEP], cut at `max_positions` with a
    [SEP] kept last. The masks of all sentences are sorted by length and share batches.

    Args:
        predict: see the module's docstring.
        count: tokens wanted for each word.
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
        columns = np.array([position for _, _, position in batch])
        ids[np.arange(len(batch)), columns] = tokenizer.mask_id
        attention = (np.arange(ids.shape[1]) < lengths[:, None]).astype(np.int64)
        return predict(ids, segments, attention, columns, count + 1)

    lengths = [len(inputs[number][0]) for number, _, _ in jobs]
    start = 0
    while start < len(jobs):
        # Few sentences of very different lengths would mostly be padding in one batch.
        stop = start + 1
        while stop < min(start + batch_size, len(jobs)) and 8 * lengths[stop] > 7 * lengths[start]:
            stop += 1
        batch = jobs[start:stop]
        start = stop
        values, tokens = run(batch)
        # One token more than asked for comes back, unless the vocabulary holds no more.
        full = values.shape[1] > count
        for row, (number, slot, _) in enumerate(batch):
            best = tokens[row, :count]
            if exact and full and values[row, count - 1] - values[row, count] < _CLOSE:
                best = run([batch[row]])[1][0, :count]
            found[number][slot] = np.sort(best)
        on_batch(len(batch))
    return found


def _model_input(
    sentence: Sentence, tokenizer: BertTokenizer, max_positions: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return ids and segments, int64 [L], of [CLS] sentence [SEP] sentence [SEP], unmasked."""
    tokens = sentence.ids
    ids = np.concatenate(
        ([tokenizer.cls_id], tokens, [tokenizer.sep_id], tokens, [tokenizer.sep_id])
    )[:max_positions]
    ids[-1] = tokenizer.sep_id
    segments = (np.arange(len(ids)) >= len(tokens) + 2).astype(np.int64)
    return ids, segments


def share_out(
    likely: LikelyTokens,
    rank: int,
    world: int,
    gather: Callable[[Any], list[Any]],
    on_others: Callable[[int], object],
) -> LikelyTokens:
    """Wrap `likely` so that each of `world` processes computes a share of the sentences.

    Each of them is asked about the same sentences and returns all the answers.

    Args:
        gather: returns what every process hands it, by rank.
        on_others: told the number of passes that the others did.
    """

    def together(sentences: Sequence[Sentence]) -> list[np.ndarray]:
        # Dealt out by length: every process gets as much to do.
        order = sorted(range(len(sentences)), key=lambda i: -len(sentences[i].ids))
        own = likely([sentences[i] for i in order[rank::world]])
        found: list[np.ndarray] = [np.empty(0)] * len(sentences)
        for other, share in enumerate(gather(own)):
            for number, answer in zip(order[other::world], share, strict=True):
                found[number] = answer
        on_others(sum(map(len, found)) - sum(map(len, own)))
        return found

    return together if world > 1 else likely
