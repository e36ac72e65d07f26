"""Vocabularies: one token a line, and a token's id is the number of its line, from 0."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from files.atomic import atomic_open
from files.errors import UserError

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
# Unicode's White_Space, which `tokenizers` cuts from the end of a line. Python's differs by \x1c to \x1f.
WHITE_SPACE = "\t\n\v\f\r \x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(
    map(chr, range(0x2000, 0x200B))
)
# Share of tokens with an upper-case letter above which lowering the text is probably a mistake.
_CASED_SHARE = 0.01
# What marks the tokens of other tokenizers: their kind, the mark, whether it ends a token.
_FOREIGN_MARKS = (
    ("SentencePiece", "\u2581", False),
    ("byte-level BPE", "\u0120", False),
    ("BPE", "</w>", True),
    ("BPE", "@@", True),
)
_BRACKETED = re.compile(r"\[.*\]|<.*>", re.DOTALL)

_told: set[str] = set()


def read_tokens(vocab_file: str | os.PathLike) -> list[str]:
    """Read a vocabulary file as `transformers` does; the token with id i is entry i.

    White space at the end of a line does not belong to the token (a line of nothing else is kept as it
    is: no text gives it). Empty lines count, except at the end of the file. Of a token that stands in
    several lines the last one gives the id; both are said once.

    Raises:
        UserError: the file is missing, empty or not UTF-8, or has a carriage return within a line.
    """
    try:
        data = Path(vocab_file).read_bytes()
    except FileNotFoundError:
        raise UserError(f"{vocab_file}: no such file; expected a WordPiece vocabulary") from None
    except IsADirectoryError:
        raise UserError(f"{vocab_file}: is a folder; expected a vocabulary file") from None
    if not data.strip():
        raise UserError(f"{vocab_file}: is empty; expected a vocabulary, one token a line")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(f"{vocab_file}:{line}: is not UTF-8; convert the file to UTF-8") from None
    # Not splitlines(): U+2028 is a token of the Chinese vocabulary.
    lines = text.removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n").split("\n")
    tokens = [line.rstrip(WHITE_SPACE) or line for line in lines]
    _check_line_ends(vocab_file, tokens)
    _say_repeated(vocab_file, tokens)
    return tokens


def check_marks(path: str | os.PathLike, tokens: Sequence[str]) -> None:
    """Refuse a vocabulary whose tokens are marked as those of SentencePiece or byte-pair encoding are.

    Raises:
        UserError: one token in ten or more is, and none begins with ##.
    """
    if any(token.startswith("##") for token in tokens):
        return
    for kind, mark, at_end in _FOREIGN_MARKS:
        marked = [
            t
            for t in tokens
            if len(t) > len(mark) and (t.endswith if at_end else t.startswith)(mark)
        ]
        if len(marked) > 1 and 10 * len(marked) >= len(tokens):
            raise UserError(
                f"{path}: {len(marked):,} of its {len(tokens):,} tokens are marked as {kind}'s are "
                f"({marked[0]!r}), none as WordPiece's (##); expected a BERT vocabulary: take a model whose "
                "tokenizer is BERT's WordPiece"
            )


def _check_line_ends(vocab_file: str | os.PathLike, tokens: Sequence[str]) -> None:
    for line, token in enumerate(tokens, start=1):
        if "\r" in token.rstrip(WHITE_SPACE):
            raise UserError(
                f"{vocab_file}:{line}: has a carriage return within the line, which transformers 4 takes "
                "for the line's end and transformers 5 does not; expected one token a line, ended by \\n"
            )


def _say_repeated(vocab_file: str | os.PathLike, tokens: Sequence[str]) -> None:
    vocab = number(tokens)
    empty = [i for i, token in enumerate(tokens) if not token]
    repeated = [
        i for i, token in enumerate(tokens) if token.strip(WHITE_SPACE) and vocab[token] != i
    ]
    if repeated:
        token, more = tokens[repeated[0]], len(repeated) - 1
        say_once(
            f"note: {vocab_file}:{repeated[0] + 1}: {token!r} stands in line {vocab[token] + 1} again"
            f"{f' (and {more} more tokens twice)' if more else ''}; the last line gives the id, as in "
            "transformers"
        )
    if empty:
        say_once(
            f"note: {vocab_file}:{empty[0] + 1}: empty line ({len(empty)} in all); other tokens keep the ids "
            "of their lines, as in transformers"
        )


def say_once(message: str) -> None:
    """Print a line to standard error unless this process has printed it before."""
    if message not in _told:
        _told.add(message)
        print(message, file=sys.stderr)


def number(tokens: Sequence[str]) -> dict[str, int]:
    """Return the id of each token: the last place at which it stands."""
    return {token: i for i, token in enumerate(tokens)}


def reachable(tokens: Sequence[str]) -> list[str]:
    """Return the tokens with those that no text gives (blank or repeated later) as empty strings."""
    vocab = number(tokens)
    return [
        token if vocab[token] == i and token.strip(WHITE_SPACE) else ""
        for i, token in enumerate(tokens)
    ]


def fingerprint(tokens: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, of the tokens in the order of their ids; equal if all ids are."""
    lines = "\n".join(reachable(tokens)).rstrip("\n")
    return hashlib.sha256(lines.encode("utf-8")).hexdigest()


def is_uncased(vocab: Iterable[str]) -> bool:
    """Whether no token but the special ones (`[CLS]`, `<S>`) holds an upper-case letter."""
    return not any(map(_is_cased, vocab))


def contradiction(vocab: Mapping[str, int], do_lower_case: bool) -> str | None:
    """What in a vocabulary speaks against a casing; None if nothing does."""
    cased = sum(map(_is_cased, vocab))
    if do_lower_case and cased > _CASED_SHARE * len(vocab):
        return (
            f"{cased:,} of its {len(vocab):,} tokens hold an upper-case letter and are never used"
        )
    has_letters = any(token != token.upper() and not _BRACKETED.fullmatch(token) for token in vocab)
    if not do_lower_case and not cased and has_letters:
        return (
            "no token of its vocabulary holds an upper-case letter: words with one become unknown"
        )
    return None


def _is_cased(token: str) -> bool:
    return token != token.lower() and not _BRACKETED.fullmatch(token)


def write_vocabulary(path: Path, tokens: Iterable[str]) -> None:
    """Write a vocabulary file, one token a line."""
    with atomic_open(path) as file:
        file.writelines(f"{token}\n" for token in tokens)
