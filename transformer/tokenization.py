"""BERT's tokenizer: the published classes, with the work done by the `tokenizers` library.
`transformer.tokenizer_files` reads what the files of a tokenizer say.

Text is cleaned of control characters, CJK characters are set apart, accents are stripped and
letters lowered (uncased vocabularies only), words are split at white space and punctuation, and
each word is cut into the longest tokens that the vocabulary holds (WordPiece).
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import (
    AddedToken,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    processors,
)

from files.errors import UserError, setting
from transformer.basic_tokenizer import (
    TEXTS_PER_BLOCK,
    BasicTokenizer,
    WordpieceTokenizer,
    bert_normalizer,
    encode_spans,
    without_surrogates,
)
from transformer.byte_bpe import ByteBPETokenizer, find_byte_bpe
from transformer.file_utils import VOCAB_NAME
from transformer.known_words import WORDS_KEPT, KnownWords
from transformer.tokenizer_files import (
    CONFIG_KEYS,
    Added,
    TokenizerSettings,
    files_beside,
    find_tokenizer,
    read_settings,
    write_settings,
)
from transformer.vocabulary import (
    SPECIAL_TOKENS,
    contradiction,
    fingerprint,
    is_uncased,
    number,
    reachable,
    read_tokens,
    write_vocabulary,
)

__all__ = [
    "SPECIAL_TOKENS",
    "BasicTokenizer",
    "BertTokenizer",
    "WordpieceTokenizer",
    "is_uncased",
    "load_vocab",
    "open_tokenizer",
]

logger = logging.getLogger(__name__)


def load_vocab(vocab_file: str | os.PathLike) -> dict[str, int]:
    """Read a vocabulary file, one token a line, into a dictionary token -> id (see `read_tokens`)."""
    return number(read_tokens(vocab_file))


def open_tokenizer(
    source: str | os.PathLike,
    do_lower_case: bool | None = None,
    cache_dir: str | os.PathLike | None = None,
    quiet: bool = False,
) -> BertTokenizer | ByteBPETokenizer:
    """Load a model's tokenizer, of whichever kind: WordPiece, or RoBERTa's byte-level BPE.

    `quiet` leaves the line on the casing out (see `BertTokenizer.from_pretrained`).

    Raises:
        UserError: it has none, or byte-level BPE was to be lower-cased.
    """
    files = None if Path(source).is_file() else find_byte_bpe(source, cache_dir)
    if files is None and quiet:
        return BertTokenizer(find_tokenizer(source, cache_dir), do_lower_case)
    if files is None:
        return BertTokenizer.from_pretrained(source, do_lower_case, cache_dir)
    if do_lower_case:
        raise UserError(f"{source}: its tokenizer is byte-level BPE, which lowers no letters")
    return ByteBPETokenizer(files)


class BertTokenizer:
    """Text to tokens to ids, end to end.

    Special and added tokens are found wherever they stand in the text, before anything else is done to
    it, and become one token each: `[MASK]` in a text is the mask token, as in `transformers`.

    Args:
        vocab_file: vocab.txt or tokenizer.json, or the files of `find_tokenizer`. The files beside a
            vocab.txt are read with it.
        do_lower_case: None takes the casing from the files, else from the vocabulary: uncased if no
            token holds an upper-case letter.
        max_len: `convert_tokens_to_ids` warns above this number of ids.
        do_basic_tokenize: False leaves out all before WordPiece but the split at white space.
        never_split: tokens to be found in the text; None for the special ones.
        strip_accents, tokenize_chinese_chars: None as the files say, else as in BERT.

    Raises:
        UserError: the files are not valid, or are those of another kind of tokenizer.
    """

    separators = 1  # between the two texts of a pair

    def __init__(
        self,
        vocab_file: str | os.PathLike | Mapping[str, Path],
        do_lower_case: bool | None = None,
        max_len: int | None = None,
        do_basic_tokenize: bool = True,
        never_split: Iterable[str] | None = None,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool | None = None,
    ):
        files = vocab_file if isinstance(vocab_file, Mapping) else files_beside(vocab_file)
        read = read_settings(files)
        self.casing_from, self.told_casing = read.casing_from, read.do_lower_case
        self.max_len: int = int(1e12) if max_len is None else max_len
        if do_lower_case is None:
            do_lower_case = read.do_lower_case
        if do_lower_case is None:
            do_lower_case = is_uncased(read.tokens)
        if tokenize_chinese_chars is None:
            tokenize_chinese_chars = read.tokenize_chinese_chars is not False
        added = read.added
        if never_split is not None:
            vocab, kept = number(read.tokens), tuple(never_split)
            others = {i: t for i, t in added.items() if t.content not in read.names.values()}
            added = others | {vocab[token]: Added(token) for token in kept if token in vocab}
        self.settings: TokenizerSettings = replace(
            read,
            added=dict(sorted(added.items())),
            do_lower_case=do_lower_case,
            strip_accents=read.strip_accents if strip_accents is None else strip_accents,
            tokenize_chinese_chars=tokenize_chinese_chars,
        )
        beyond = [t.content for i, t in sorted(added.items()) if i >= len(read.tokens)]
        self.ids_to_tokens: list[str] = [*read.tokens, *beyond]
        self.vocab: dict[str, int] = number(self.ids_to_tokens)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (
            self.vocab[name] for name in list(read.names.values())[:4]
        )
        self.vocab_file: Path = files.get(VOCAB_NAME) or next(iter(files.values()))
        self._tokenizer = _library_tokenizer(self.settings, do_basic_tokenize)
        spaced = any(token.content.split() != [token.content] for token in added.values())
        self._words = KnownWords(self._encode_texts, self.vocab, 0 if spaced else WORDS_KEPT)

    @classmethod
    def from_pretrained(
        cls,
        folder_or_name_or_url: str | os.PathLike,
        do_lower_case: bool | None = None,
        cache_dir: str | os.PathLike | None = None,
        **options,
    ) -> BertTokenizer:
        """Load the tokenizer of a model: its folder, vocabulary file, hub name or address.

        The casing is printed when it was not asked for. One warning line says what of the tokenizer's
        files or vocabulary speaks against the casing in use.
        """
        tokenizer = cls(find_tokenizer(folder_or_name_or_url, cache_dir), do_lower_case, **options)
        _say_casing(folder_or_name_or_url, tokenizer, do_lower_case is not None)
        return tokenizer

    @property
    def do_lower_case(self) -> bool:
        return bool(self.settings.do_lower_case)

    @property
    def strip_accents(self) -> bool | None:
        return self.settings.strip_accents

    @property
    def tokenize_chinese_chars(self) -> bool:
        return bool(self.settings.tokenize_chinese_chars)

    @property
    def unk_token(self) -> str:
        return self.settings.names["unk_token"]

    @property
    def special_tokens(self) -> tuple[str, ...]:
        """The special tokens, [PAD] to [MASK] first, as they are called here."""
        others = (token.content for token in self.settings.added.values() if token.special)
        return tuple(dict.fromkeys([*self.settings.names.values(), *others]))

    @property
    def mask_id(self) -> int:
        """The id of [MASK]; see `require_mask`."""
        return self.require_mask()

    def require_mask(self) -> int:
        """Return the id of [MASK], which only learning or proposing words needs.

        Raises:
            UserError: the vocabulary has none.
        """
        name = self.settings.names["mask_token"]
        if name not in self.vocab:
            raise UserError(
                f"{self.vocab_file}: lacks {name}, which masks words; expected it in the vocabulary of a "
                "model that learns or proposes words"
            )
        return self.vocab[name]

    def describe(self) -> dict[str, Any]:
        """What besides the vocabulary decides the ids of a text, as JSON holds it."""
        return {
            **{key: getattr(self, key) for key in CONFIG_KEYS},
            "special": self.settings.names,
            "added": [[i, *token] for i, token in self.settings.added.items()],
        }

    def __len__(self) -> int:
        """How many ids there are, with those of empty and repeated lines."""
        return len(self.ids_to_tokens)

    @property
    def vocab_hash(self) -> str:
        """SHA-256, in hexadecimal, of the tokens in the order of their ids."""
        return fingerprint(self.ids_to_tokens)

    def tokenize(self, text: str) -> list[str]:
        """Return the tokens of `text`, without `[CLS]` and `[SEP]`."""
        text = without_surrogates(text)
        return self._tokenizer.encode(text, add_special_tokens=False).tokens

    def encode_flat(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Encode many texts on all cores.

        Returns:
            ids: int32 [T], the ids of all texts one after the other, without special tokens.
            offsets: int64 [n + 1]; text i is `ids[offsets[i]:offsets[i + 1]]`.
        """
        ids, lengths = [], [np.zeros(1, np.int64)]
        for start in range(0, len(texts), TEXTS_PER_BLOCK):
            block_ids, block_lengths = self._words.encode(texts[start : start + TEXTS_PER_BLOCK])
            ids.append(block_ids)
            lengths.append(block_lengths)
        flat_ids = np.concatenate(ids) if ids else np.empty(0, dtype=np.int32)
        return flat_ids, np.cumsum(np.concatenate(lengths))

    def encode_spans(self, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """See `encode_spans`."""
        return encode_spans(self._tokenizer, texts)

    def _encode_texts(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, int32 [T], and the length of each, int64 [n]; by the library."""
        ids, offsets, _ = encode_spans(self._tokenizer, texts, spans=False)
        return ids, np.diff(offsets)

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each token; `KeyError` for one that the vocabulary lacks."""
        ids = [self.vocab[token] for token in tokens]
        if len(ids) > self.max_len:
            logger.warning("%d ids are more than the model's %d positions", len(ids), self.max_len)
        return ids

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the token of each id; `IndexError` for one outside the vocabulary."""
        ids = list(ids)
        if any(index < 0 for index in ids):
            raise IndexError("negative token id")
        return [self.ids_to_tokens[index] for index in ids]

    def save_vocabulary(self, folder: str | os.PathLike) -> str:
        """Write `folder`/vocab.txt, or the file named, and return its path."""
        path = Path(folder)
        path = path / VOCAB_NAME if path.is_dir() or not path.suffix else path
        write_vocabulary(path, self.settings.tokens)
        return str(path)

    def save_pretrained(self, folder: str | os.PathLike, positions: int) -> None:
        """Write vocab.txt, tokenizer.json and tokenizer_config.json, as `transformers` reads them.

        Args:
            positions: the model's `max_length`.
        """
        backend = json.loads(self._tokenizer.to_str())
        write_settings(Path(folder), self.settings, backend, positions)


def _library_tokenizer(settings: TokenizerSettings, do_basic_tokenize: bool) -> Tokenizer:
    """The same, as the `tokenizers` library holds it."""
    # Every line counts, so that added tokens get the ids behind them; no token holds a line break.
    filled = (token or f"\n{i}" for i, token in enumerate(reachable(settings.tokens)))
    unknown, cls, sep = (settings.names[f"{role}_token"] for role in ("unk", "cls", "sep"))
    library = Tokenizer(models.WordPiece(number(list(filled)), unk_token=unknown))
    if do_basic_tokenize:
        library.normalizer = bert_normalizer(
            bool(settings.do_lower_case),
            settings.strip_accents,
            bool(settings.tokenize_chinese_chars),
        )
        library.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        library.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    library.add_tokens([AddedToken(**token._asdict()) for token in settings.added.values()])
    ids = {token.content: i for i, token in settings.added.items()} | number(settings.tokens)
    library.post_processor = processors.TemplateProcessing(
        single=f"{cls}:0 $A:0 {sep}:0",
        pair=f"{cls}:0 $A:0 {sep}:0 $B:1 {sep}:1",
        special_tokens=[(cls, ids[cls]), (sep, ids[sep])],
    )
    library.decoder = decoders.WordPiece()
    return library


def _say_casing(source: str | os.PathLike, tokenizer: BertTokenizer, explicit: bool) -> None:
    """Tell the casing if nobody asked for it, and what speaks against the one that is used."""
    used = "uncased" if tokenizer.do_lower_case else "cased"
    origin = tokenizer.casing_from
    told = tokenizer.told_casing
    against = contradiction(tokenizer.vocab, tokenizer.do_lower_case)
    if explicit:
        if told is not None and told != tokenizer.do_lower_case:
            against = f"{origin} says {'uncased' if told else 'cased'}"
        if against:
            print(f"warning: {source}: {used} as asked for, but {against}", file=sys.stderr)
    elif origin is None or not against:
        print(f"note: {source}: {used}, as {origin or 'its vocabulary'} says", file=sys.stderr)
    else:
        advice = (
            'say "do_lower_case": false there if the model is cased'
            if tokenizer.do_lower_case
            else f"{setting('do_lower_case')} lowers them"
        )
        print(
            f"warning: {source}: {used}, as {origin} says, but {against}; {advice}", file=sys.stderr
        )
