"""The words of a sentence, and which of them data augmentation may replace, and by what tokens."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from transformer.tokenization import BasicTokenizer, BertTokenizer

# The published list, contractions included although no word here holds an apostrophe.
STOP_WORDS = frozenset(
    """
    i me my myself we our ours ourselves you you're you've you'll you'd your yours yourself
    yourselves he him his himself she she's her hers herself it it's its itself they them their
    theirs themselves this that that'll these those am is are was were be been being have has had
    having do does did doing a an the and but if or because as until while of at by for with about
    against between into through during before after above below to from up down in out on off over
    under again further then once here there all any both each few more most other some such no nor
    not only own same so than too very s t can will just don don't should should've now d ll m o re
    ve y ain aren aren't couldn couldn't didn didn't doesn doesn't hadn hadn't hasn hasn't haven
    haven't isn isn't ma mightn mightn't mustn mustn't needn needn't shan shan't shouldn shouldn't
    wasn wasn't weren weren't won won't wouldn wouldn't 's 're
    """.split()  # noqa: SIM905
)

_LETTERS = re.compile(r"[a-z]+")
_BRACKETED = re.compile(r"\[\w+\]")


@dataclass(frozen=True)
class Sentence:
    """A sentence as the augmentation sees it.

    Attributes:
        words: words and punctuation marks.
        ids: int64 [P], the tokens of all words, without special tokens.
        masked: (index in `words`, position of its token counted from [CLS]) of the words the
            language model is asked about.
        compound: indices of the words of several tokens, which the word vectors are asked about.
        beyond: words left alone because the model has no position for them.
    """

    words: list[str]
    ids: np.ndarray
    masked: list[tuple[int, int]]
    compound: list[int]
    beyond: int


class SentenceSplitter:
    """Cuts sentences into words and tokens, each distinct word once.

    Args:
        max_positions: positions of the language model; the last one is [SEP]'s.
    """

    def __init__(self, tokenizer: BertTokenizer, max_positions: int):
        self._basic = BasicTokenizer(
            tokenizer.do_lower_case,
            tokenizer.special_tokens,
            strip_accents=tokenizer.strip_accents,
            tokenize_chinese_chars=tokenizer.tokenize_chinese_chars,
        )
        self._tokenizer = tokenizer
        self._max_positions = max_positions
        self._tokens: dict[str, tuple[int, ...]] = {}

    def __call__(self, text: str) -> Sentence:
        words = self._basic.tokenize(text)
        ids: list[int] = []
        masked, compound, beyond = [], [], 0
        for index, word in enumerate(words):
            tokens = self._tokens_of(word)
            if is_replaceable(word):
                if len(tokens) > 1:
                    compound.append(index)
                elif len(ids) + 1 < self._max_positions - 1:
                    masked.append((index, len(ids) + 1))
                else:
                    beyond += 1
            ids.extend(tokens)
        return Sentence(words, np.array(ids, dtype=np.int64), masked, compound, beyond)

    def _tokens_of(self, word: str) -> tuple[int, ...]:
        tokens = self._tokens.get(word)
        if tokens is None:
            tokens = tuple(self._tokenizer.encode_flat([word])[0].tolist())
            self._tokens[word] = tokens
        return tokens


def is_replaceable(word: str) -> bool:
    """Whether a word consists of the letters a to z, in either case, and is not a stop word."""
    lower = word.lower()
    return _LETTERS.fullmatch(lower) is not None and lower not in STOP_WORDS


def replacement_tokens(tokenizer: BertTokenizer) -> np.ndarray:
    """Which tokens may replace a word, bool [V]: whole words, nothing special, no spaces."""
    special = set(tokenizer.special_tokens)
    return np.array(
        [
            not token.startswith("##")
            and not _BRACKETED.fullmatch(token)
            and token not in special
            and token.split() == [token]
            and tokenizer.vocab[token] == i
            for i, token in enumerate(tokenizer.ids_to_tokens)
        ]
    )
