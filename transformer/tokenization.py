"""BERT's tokenizer: the published classes, with the work done by the `tokenizers` library.

Text is cleaned of control characters, CJK characters are set apart, accents are stripped and
letters lowered (uncased vocabularies only), words are split at white space and punctuation, and
each word is cut into the longest pieces that the vocabulary holds (WordPiece).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import logging
import os
import re
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from transformer.download import find_model_file
from transformer.errors import UserError
from transformer.file_utils import VOCAB_NAME, atomic_open
from transformer.known_words import WORDS_KEPT, KnownWords

TOKENIZER_CONFIG_NAME = "tokenizer_config.json"
CONFIG_KEYS = ("do_lower_case", "strip_accents", "tokenize_chinese_chars")
SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Encodings hold far more than their ids, so this many texts are encoded at a time.
TEXTS_PER_BLOCK = 4096

logger = logging.getLogger(__name__)


def load_vocab(vocab_file: str | os.PathLike) -> dict[str, int]:
    """Read a vocabulary file, one piece a line, into a dictionary piece -> id.

    Raises:
        UserError: the file is missing, empty or not UTF-8, holds a piece twice or an empty line,
            or lacks one of the five special pieces.
    """
    try:
        data = Path(vocab_file).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{vocab_file}: no such file; expected a WordPiece vocabulary") from None
    except IsADirectoryError:
        raise UserError(f"{vocab_file}: is a folder; expected a vocabulary file") from None
    if not data.strip():
        raise UserError(f"{vocab_file}: is empty; expected a vocabulary, one piece a line")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{vocab_file}:{line}: is not UTF-8; convert the file to UTF-8") from None
    # Not splitlines(): U+2028 is a piece of the Chinese vocabulary.
    pieces = text.removeprefix("\ufeff").replace("\r\n", "\n").removesuffix("\n").split("\n")
    vocab: dict[str, int] = {}
    for number, piece in enumerate(pieces, start=1):
        if not piece:
            raise UserError(f"{vocab_file}:{number}: empty line; expected one piece a line")
        if vocab.setdefault(piece, number - 1) != number - 1:
            raise UserError(
                f"{vocab_file}:{number}: {piece!r} stands already in line {vocab[piece] + 1}; "
                "expected each piece once"
            )
    missing = [token for token in SPECIAL_TOKENS if token not in vocab]
    if missing:
        raise UserError(
            f"{vocab_file}: lacks {' '.join(missing)}; expected a BERT vocabulary, "
            f"which holds {' '.join(SPECIAL_TOKENS)}"
        )
    return vocab


def is_uncased(vocab: Iterable[str]) -> bool:
    """Whether no piece but the special ones (`[CLS]`, `<S>`) holds an upper-case letter."""
    special = re.compile(r"\[.*\]|<.*>", re.DOTALL)
    return not any(piece != piece.lower() and not special.fullmatch(piece) for piece in vocab)


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
        self._normalizer = _bert_normalizer(do_lower_case, strip_accents, tokenize_chinese_chars)
        self._pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        self._kept = re.compile("|".join(map(re.escape, self.never_split)) or "(?!)")

    def tokenize(self, text: str) -> list[str]:
        """Return the words and punctuation marks of `text`, in order."""
        text = _without_surrogates(text)
        words, end = [], 0
        for match in self._kept.finditer(text):
            words += [*self._split(text[end : match.start()]), match.group()]
            end = match.end()
        return words + self._split(text[end:])

    def _split(self, text: str) -> list[str]:
        clean = self._normalizer.normalize_str(text)
        return [word for word, _ in self._pre_tokenizer.pre_tokenize_str(clean)]


class WordpieceTokenizer:
    """Cuts words into the longest pieces of a vocabulary, from the left.

    Args:
        vocab: piece -> id; pieces inside a word begin with `##`.
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
        """Return the pieces of the words of `text`, which are separated by white space."""
        words = _without_surrogates(text).split()
        return [piece.value for word in words for piece in self._model.tokenize(word)]


class BertTokenizer:
    """Text to pieces to ids, end to end.

    The strings of `never_split` that the vocabulary holds are found wherever they stand in the
    text, before anything else is done to it, and become one piece each: `[MASK]` in a text is the
    mask token, as in `transformers`.

    Args:
        vocab_file: one piece a line; a piece's id is its line, from 0.
        do_lower_case: None takes the casing from `tokenizer_config.json` beside the vocabulary,
            else from the vocabulary: uncased if no piece holds an upper-case letter.
        max_len: `convert_tokens_to_ids` warns above this number of ids.
        do_basic_tokenize: False leaves out all before WordPiece but the split at white space.
        strip_accents, tokenize_chinese_chars: None as in `tokenizer_config.json`, else as in BERT.

    Raises:
        UserError: the vocabulary or its configuration is no good (see `load_vocab`).
    """

    def __init__(
        self,
        vocab_file: str | os.PathLike,
        do_lower_case: bool | None = None,
        max_len: int | None = None,
        do_basic_tokenize: bool = True,
        never_split: Iterable[str] = SPECIAL_TOKENS,
        strip_accents: bool | None = None,
        tokenize_chinese_chars: bool | None = None,
    ):
        never_split = tuple(never_split)
        self.vocab = load_vocab(vocab_file)
        config = _read_config(Path(vocab_file).parent / TOKENIZER_CONFIG_NAME)
        do_lower_case, strip_accents, tokenize_chinese_chars = (
            config.get(key) if value is None else value
            for key, value in zip(
                CONFIG_KEYS, (do_lower_case, strip_accents, tokenize_chinese_chars), strict=True
            )
        )
        if do_lower_case is None:
            do_lower_case = is_uncased(self.vocab)
        self.do_lower_case: bool = do_lower_case
        self.strip_accents: bool | None = strip_accents
        self.tokenize_chinese_chars: bool = tokenize_chinese_chars is not False
        self.max_len: int = int(1e12) if max_len is None else max_len
        self.ids_to_tokens: list[str] = list(self.vocab)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id = (
            self.vocab[token] for token in SPECIAL_TOKENS
        )
        self._tokenizer = Tokenizer(models.WordPiece(self.vocab, unk_token="[UNK]"))
        if do_basic_tokenize:
            self._tokenizer.normalizer = _bert_normalizer(
                do_lower_case, strip_accents, self.tokenize_chinese_chars
            )
            self._tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        else:
            self._tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        self._tokenizer.add_special_tokens(
            [AddedToken(token, normalized=False) for token in never_split if token in self.vocab]
        )
        spaced = any(len(token.split()) != 1 for token in never_split)
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

        The casing is printed when it was inferred. An explicit `do_lower_case` is obeyed, with one
        warning line if the tokenizer's configuration or the vocabulary says otherwise.
        """
        source = Path(folder_or_name_or_url)
        if source.is_file():
            vocab_file, config_file = source, source.with_name(TOKENIZER_CONFIG_NAME)
        else:
            vocab_file, config_file = (
                find_model_file(folder_or_name_or_url, name, cache_dir, required=name == VOCAB_NAME)
                for name in (VOCAB_NAME, TOKENIZER_CONFIG_NAME)
            )
        config = _read_config(config_file)
        tokenizer = cls(
            vocab_file,
            config.get("do_lower_case") if do_lower_case is None else do_lower_case,
            **{key: config.get(key) for key in CONFIG_KEYS[1:]} | options,
        )
        told, explicit = config.get("do_lower_case"), do_lower_case is not None
        _say_casing(folder_or_name_or_url, tokenizer, told, explicit)
        return tokenizer

    def __len__(self) -> int:
        return len(self.vocab)

    @property
    def vocab_hash(self) -> str:
        """SHA-256, in hexadecimal, of the pieces in the order of their ids."""
        return hashlib.sha256("\n".join(self.ids_to_tokens).encode("utf-8")).hexdigest()

    def tokenize(self, text: str) -> list[str]:
        """Return the pieces of `text`, without `[CLS]` and `[SEP]`."""
        text = _without_surrogates(text)
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

    def _encode_texts(self, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """The ids of all texts, int32 [T], and the length of each, int64 [n]; by the library."""
        try:
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        except TypeError:  # a lone surrogate somewhere; rare, so not looked for beforehand
            texts = list(map(_without_surrogates, texts))
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        lengths = np.fromiter(map(len, encodings), np.int64, len(encodings))
        flat = itertools.chain.from_iterable(encoding.ids for encoding in encodings)
        return np.fromiter(flat, np.int32, int(lengths.sum())), lengths

    def convert_tokens_to_ids(self, tokens: Iterable[str]) -> list[int]:
        """Return the id of each piece; `KeyError` for one that the vocabulary lacks."""
        ids = [self.vocab[token] for token in tokens]
        if len(ids) > self.max_len:
            logger.warning("%d ids are more than the model's %d positions", len(ids), self.max_len)
        return ids

    def convert_ids_to_tokens(self, ids: Iterable[int]) -> list[str]:
        """Return the piece of each id; `IndexError` for one outside the vocabulary."""
        ids = list(ids)
        if any(index < 0 for index in ids):
            raise IndexError("negative token id")
        return [self.ids_to_tokens[index] for index in ids]

    def save_vocabulary(self, folder: str | os.PathLike) -> str:
        """Write `folder`/vocab.txt, or the file named, and return its path."""
        path = Path(folder)
        path = path / VOCAB_NAME if path.is_dir() or not path.suffix else path
        with atomic_open(path) as file:
            file.writelines(f"{token}\n" for token in self.ids_to_tokens)
        return str(path)

    def save_pretrained(self, folder: str | os.PathLike) -> None:
        """Write the vocabulary and the configuration that `transformers` reads."""
        config = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.do_lower_case,
            "strip_accents": self.strip_accents,
            "tokenize_chinese_chars": self.tokenize_chinese_chars,
            "model_max_length": min(self.max_len, 512),
        }
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.save_vocabulary(folder)
        with atomic_open(Path(folder) / TOKENIZER_CONFIG_NAME) as file:
            json.dump(config, file, indent=2)
            file.write("\n")


def _bert_normalizer(
    do_lower_case: bool, strip_accents: bool | None, tokenize_chinese_chars: bool
) -> normalizers.Normalizer:
    return normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=tokenize_chinese_chars,
        strip_accents=strip_accents,
        lowercase=do_lower_case,
    )


def _without_surrogates(text: str) -> str:
    """Join surrogate pairs and replace lone ones (JSON can hold both): they are no Unicode text."""
    if text.isascii():
        return text
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _read_config(path: Path | None) -> dict:
    """Return the contents of a tokenizer_config.json, {} where there is none."""
    if path is None or not path.exists():
        return {}
    try:
        config = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error}); mend or remove it") from None
    if not isinstance(config, dict):
        raise UserError(f"{path}: expected a JSON object, found {type(config).__name__}")
    for key in CONFIG_KEYS:
        if not isinstance(config.get(key), bool | None):
            raise UserError(f"{path}: {key} is {config[key]!r}; expected true, false or null")
    return config


def _say_casing(
    source: str | os.PathLike, tokenizer: BertTokenizer, told: bool | None, explicit: bool
) -> None:
    """Tell the casing if nobody asked for it, or if another one was to be expected."""
    used = "uncased" if tokenizer.do_lower_case else "cased"
    expected = is_uncased(tokenizer.vocab) if told is None else told
    origin = "its vocabulary" if told is None else TOKENIZER_CONFIG_NAME
    if not explicit:
        print(f"note: {source}: {used}, as {origin} says", file=sys.stderr)
    elif expected != tokenizer.do_lower_case:
        other = "uncased" if expected else "cased"
        print(f"warning: {source}: {used} as asked for, but {origin} is {other}", file=sys.stderr)
