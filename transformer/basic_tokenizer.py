"""BERT's tokenizer in its two published halves, and how the `tokenizers` library encodes many texts.

The halves: words and punctuation, and the tokens of a word.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence

import numpy as np
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from transformer.vocabulary import SPECIAL_TOKENS

# Encodings hold far more than their ids, so this many texts are encoded at a time.
TEXTS_PER_BLOCK = 4096


class BasicTokenizer:
    """Cleans text and splits it into words and punctuation marks.

    Args:
        do_lower_case: lower the letters and, unless `strip_accents` says otherwise, strip accents.
        never_split: strings kept whole and unchanged wherever they occur.
        strip_accents: None for "as `do_lower_case`".
        tokenize_chinese_chars: set CJK characters apart, one by one.
    """

    def __init__(
        self,
        do_lower_case: bool = True,
        never_split: Iterable[str] = SPECIAL_TOKENS,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool = True,
    ):
        self.do_lower_case = do_lower_case
        self.never_split = tuple(never_split)
        self._normalizer = bert_normalizer(do_lower_case, strip_accents, tokenize_chinese_chars)
        self._pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._kept = re.compile("|".join(map(re.escape, self.never_split)) or "(?!)")

    def tokenize(self, text: str) -> list[str]:
        """Return the words and punctuation marks of `text`, in order."""
        text = without_surrogates(text)
        words, end = [], 0
        for match in self._kept.finditer(text):
            words += [*self._split(text[end : match.start()]), match.group()]
            end = match.end()
        return words + self._split(text[end:])

    def _split(self, text: str) -> list[str]:
        clean = self._normalizer.normalize_str(text)
        return [word for word, _ in self._pre_tokenizer.pre_tokenize_str(clean)]


class WordpieceTokenizer:
    """Cuts words into the longest tokens of a vocabulary, from the left.

    Args:
        vocab: token -> id; tokens inside a word begin with `##`.
        unk_token: stands for a word that cannot be cut, or has more than `max_input_chars_per_word`
            characters.
    """

    def __init__(
        self, vocab: dict[str, int], unk_token: str = "[UNK]", max_input_chars_per_word: int = 100
    ):
        self.vocab = vocab
        self.unk_token = unk_token
        self.max_input_chars_per_word = max_input_chars_per_word
        self._model = models.WordPiece(
            vocab if unk_token in vocab else {**vocab, unk_token: len(vocab)},
            unk_token=unk_token,
            max_input_chars_per_word=max_input_chars_per_word,
        )

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of the words of `text`, which are separated by white space."""
        words = without_surrogates(text).split()
        return [token.value for word in words for token in self._model.tokenize(word)]


def bert_normalizer(
    do_lower_case: bool, strip_accents: bool | None, tokenize_chinese_chars: bool
) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=do_lower_case,
    )


def without_surrogates(text: str) -> str:
    """Join surrogate pairs and replace lone ones (JSON can hold both): they are not Unicode text."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def encode_spans(
    library: Tokenizer, texts: Sequence[str], spans: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Encode many texts on all cores, and say which characters each token is.

    Returns:
        ids: int32 [T], the ids of all texts one after the other, without special tokens.
        offsets: int64 [n + 1]; text i is `ids[offsets[i]:offsets[i + 1]]`.
        spans: int32 [T, 2], the first character of its text that a token covers, and the one behind its
            last; empty unless asked for.
    """
    encode = library.encode_batch if spans else library.encode_batch_fast
    ids, lengths, found = [], [np.zeros(1, np.int64)], []
    for start in range(0, len(texts), TEXTS_PER_BLOCK):
        block = list(texts[start : start + TEXTS_PER_BLOCK])
        try:
            encodings = encode(block, add_special_tokens=False)
        except TypeError:  # a lone surrogate somewhere; rare, so not looked for beforehand
            encodings = encode(list(map(without_surrogates, block)), add_special_tokens=False)
        lengths.append(np.fromiter(map(len, encodings), np.int64, len(encodings)))
        count = int(lengths[-1].sum())
        flat = itertools.chain.from_iterable(encoding.ids for encoding in encodings)
        ids.append(np.fromiter(flat, np.int32, count))
        if spans:
            ends = (end for e in encodings for pair in e.offsets for end in pair)
            found.append(np.fromiter(ends, np.int32, 2 * count).reshape(count, 2))
    return (
        np.concatenate(ids) if ids else np.empty(0, np.int32),
        np.cumsum(np.concatenate(lengths)),
        np.concatenate(found) if found else np.empty((0, 2), np.int32),
    )
