"""The published format of pregenerated data: one JSON object a line, tokens instead of ids.

{"tokens": [...], "segment_ids": [...], "is_random_next": false, "masked_lm_positions": [...],
"masked_lm_labels": [...]}
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

import numpy as np

from corpus.sentence_pairs import Examples, Masks
from corpus.token_store import token_dtype
from files.atomic import atomic_open
from files.errors import UserError

if TYPE_CHECKING:
    from transformer.tokenization import BertTokenizer

_LINES = 1000  # read at a time
_KEYS = {
    "tokens": list,
    "segment_ids": list,
    "is_random_next": int,
    "masked_lm_positions": list,
    "masked_lm_labels": list,
}


def write_json(path: str | os.PathLike, parts: Iterable[Examples], vocabulary: list[str]) -> int:
    """Write examples to a file, `vocabulary` being the tokens by id; return their number."""
    num_examples = 0
    with atomic_open(path) as file:
        for part in parts:
            file.writelines(json.dumps(example) + "\n" for example in _spell_out(part, vocabulary))
            num_examples += len(part.lengths)
    return num_examples


def read_json(path: str | os.PathLike, tokenizer: BertTokenizer) -> Iterator[Examples]:
    """Read a file piece by piece.

    Raises:
        UserError: file and line of what is not JSON, not an example, or not in the vocabulary.
    """
    dtype, vocab = token_dtype(len(tokenizer)), tokenizer.vocab
    with open(path, "rb") as file:
        lines = enumerate(file, start=1)
        while block := list(islice(lines, _LINES)):
            examples = [_parse(line, f"{path}:{number}") for number, line in block]
            tokens, labels = [], []
            for (number, _), example in zip(block, examples, strict=True):
                try:
                    tokens.append([vocab[token] for token in example["tokens"]])
                    labels.append([vocab[token] for token in example["masked_lm_labels"]])
                except (KeyError, TypeError) as error:
                    raise UserError(
                        f"{path}:{number}: {error} is not in the model's vocabulary "
                        f"({len(tokenizer)} tokens); the data was made with another one"
                    ) from None
            segments = [example["segment_ids"] for example in examples]
            positions = [example["masked_lm_positions"] for example in examples]
            yield Examples(
                tokens=_join(tokens, dtype),
                lengths=np.array([len(row) for row in tokens], np.int64),
                boundaries=np.array([(row + [1]).index(1) for row in segments], np.int64),
                is_random_next=np.array([bool(e["is_random_next"]) for e in examples], np.uint8),
                masks=Masks(
                    _join(positions, np.uint16),
                    _join(labels, dtype),
                    np.cumsum([0, *(len(row) for row in positions)]),
                ),
            )


def _parse(line: bytes, place: str) -> dict:
    try:
        example = json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(
            f"{place}: is not JSON; the file is torn, run pregenerate_training_data.py again"
        ) from None
    if not isinstance(example, dict) or not all(
        isinstance(example.get(key), kind) for key, kind in _KEYS.items()
    ):
        raise UserError(f"{place}: expected a JSON object with {', '.join(_KEYS)}")
    size, places = len(example["tokens"]), example["masked_lm_positions"]
    if (
        not 0 < size == len(example["segment_ids"])
        or len(places) != len(example["masked_lm_labels"])
        or not all(isinstance(place, int) and 0 <= place < size for place in places)
    ):
        raise UserError(f"{place}: tokens, segment_ids and masked places do not fit each other")
    return example


def _spell_out(part: Examples, vocabulary: list[str]) -> Iterator[dict]:
    ends = np.cumsum(part.lengths).tolist()
    rows = zip(ends, part.lengths.tolist(), part.boundaries.tolist(), strict=True)
    for row, (end, length, boundary) in enumerate(rows):
        positions, labels = [], []
        if part.masks is not None:
            places = slice(*part.masks.offsets[row : row + 2])
            positions = part.masks.positions[places].tolist()
            labels = [vocabulary[token] for token in part.masks.labels[places].tolist()]
        yield {
            "tokens": [vocabulary[token] for token in part.tokens[end - length : end].tolist()],
            "segment_ids": [0] * boundary + [1] * (length - boundary),
            "is_random_next": bool(part.is_random_next[row]),
            "masked_lm_positions": positions,
            "masked_lm_labels": labels,
        }


def _join(lists: list[list[int]], dtype: np.dtype | type) -> np.ndarray:
    return np.array([value for values in lists for value in values], dtype)
