"""Tokenised sequences as flat arrays: nothing is padded until a batch is made.

A store of n sequences is three arrays, in memory or memory-mapped from `PREFIX.tokens.npy`,
`PREFIX.offsets.npy` and `PREFIX.boundaries.npy`:

    tokens      [T]    uint16 (uint32 for vocabularies above 65,536)   all sequences, end to end
    offsets     [n+1]  int64    sequence i is tokens[offsets[i]:offsets[i+1]]
    boundaries  [n]    uint16   where its second segment begins; its length if it has none
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np

from files.atomic import atomic_open
from files.errors import UserError, setting

if TYPE_CHECKING:  # torch is imported by `collate` alone: preparing data need not wait for it
    import torch

    from transformer.tokenization import BertTokenizer

MAX_SEQUENCE = np.iinfo(np.uint16).max
LARGE = 1 << 22  # rows; a larger store is used without a look at each of them
_CHECKED_ROWS = 1 << 20  # at a time
_AGAIN = "the files are damaged, make them again"
_ENCODE_ROWS = 1 << 16  # rows tokenised at once: bounds what the int32 ids of a large set occupy


def token_dtype(vocab_size: int) -> np.dtype:
    """The smallest dtype that holds every id of a vocabulary: uint16, else uint32."""
    return np.dtype(np.uint16 if vocab_size <= 1 << 16 else np.uint32)


@dataclass(frozen=True)
class TokenStore:
    """Sequences with their special tokens: [CLS] a [SEP], or [CLS] a [SEP] b [SEP].

    Attributes:
        tokens, offsets, boundaries: see above.
        vocab_size: compare the ids of every batch with it; None where they are known to be lower.
        longest: tokens in the longest sequence; compared likewise.
        prefix: where the arrays came from, for the message.
    """

    tokens: np.ndarray
    offsets: np.ndarray
    boundaries: np.ndarray
    vocab_size: int | None = None
    longest: int | None = None
    prefix: str = ""

    def __len__(self) -> int:
        return len(self.boundaries)

    @property
    def lengths(self) -> np.ndarray:
        """Tokens in each sequence, int64 [n]."""
        return np.diff(self.offsets)

    def first(self, rows: int | None) -> TokenStore:
        """The first so many sequences; None for all."""
        if rows is None or rows >= len(self):
            return self
        return replace(self, offsets=self.offsets[: rows + 1], boundaries=self.boundaries[:rows])

    def take(self, rows: np.ndarray) -> TokenStore:
        """Some of the sequences, in this order, in memory."""
        starts, lengths = self.spans(rows)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        tokens = self.tokens[ranges(starts, lengths)]
        return replace(self, tokens=tokens, offsets=offsets, boundaries=self.boundaries[rows])

    def save(self, prefix: str | os.PathLike) -> None:
        """Write the three files of the store; each appears only when complete."""
        with TokenStoreWriter(prefix, self.tokens.dtype) as writer:
            writer.append(self.tokens, self.lengths, self.boundaries)

    @classmethod
    def open(cls, prefix: str | os.PathLike, mmap: bool = True) -> TokenStore:
        """Open a saved store.

        When it is memory-mapped, offsets and boundaries are read to see whether they fit; those of a
        store of more than `LARGE` rows are left to `check`, and nothing but headers is read.

        Raises:
            UserError: a file is missing or torn, or the three do not belong together.
        """
        tokens, offsets, boundaries = (
            load_array(path, mmap, "make it again") for path in _paths(prefix)
        )
        fits = (
            tokens.dtype in (np.uint16, np.uint32)
            and offsets.dtype == np.int64
            and boundaries.dtype == np.uint16
            and tokens.ndim == offsets.ndim == boundaries.ndim == 1
            and len(offsets) == len(boundaries) + 1
            and offsets[0] == 0
            and offsets[-1] == len(tokens)
        )
        if not fits:
            raise _mixed(prefix)
        store = cls(tokens, offsets, boundaries, prefix=os.fspath(prefix))
        if len(store) <= LARGE:
            store.check()
        return store

    def check(self) -> int:
        """Read all offsets and boundaries; return the longest row.

        Raises:
            UserError: they cannot be those of one store.
        """
        longest = 0
        for start in range(0, len(self), _CHECKED_ROWS):
            rows = slice(start, start + _CHECKED_ROWS)
            lengths = np.diff(self.offsets[start : start + _CHECKED_ROWS + 1])
            if lengths.min() <= 0 or (self.boundaries[rows] > lengths).any():
                raise _mixed(self.prefix)
            longest = max(longest, int(lengths.max()))
        return longest

    def spans(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the given rows begin, and how many tokens each has, both int64 [B].

        Raises:
            UserError: a row of a large store, which `open` did not look at, cannot be one.
        """
        starts = self.offsets[rows]
        lengths = self.offsets[rows + 1] - starts
        limit = len(self.tokens) if self.longest is None else self.longest
        bad = (starts < 0) | (starts > len(self.tokens) - lengths)
        bad |= (lengths <= 0) | (lengths > limit) | (self.boundaries[rows] > lengths)
        if bad.any():
            row = rows[bad.argmax()]
            raise UserError(
                f"{self.prefix}.offsets.npy, .boundaries.npy: sequence {row} is said to be tokens "
                f"{self.offsets[row]} to {self.offsets[row + 1]}, its second segment to begin at its "
                f"token {self.boundaries[row]}; expected 1 to {limit} tokens of {len(self.tokens)}; "
                f"{_AGAIN}"
            )
        return starts, lengths

    def collate(
        self, rows: np.ndarray, pad_to: int | None = None, pad_id: int = 0
    ) -> dict[str, torch.Tensor]:
        """Make a batch of the given rows.

        Args:
            rows: row numbers, integer [B], B > 0.
            pad_to: width of the batch; None takes the longest row's length.
            pad_id: the token that fills short rows.

        Returns:
            input_ids, token_type_ids and attention_mask, each int64 [B, L].

        Raises:
            UserError: an id is not in the vocabulary, or see `spans`.
            ValueError: a row is longer than `pad_to`.
        """
        import torch

        rows = np.asarray(rows)
        starts, lengths = self.spans(rows)
        longest = int(lengths.max())
        width = longest if pad_to is None else pad_to
        if longest > width:
            raise ValueError(f"a sequence of {longest} tokens does not fit into {width}")
        columns = np.arange(width)
        inside = columns < lengths[:, None]
        # The padding of the last row would read past the end of the store.
        places = np.minimum(starts[:, None] + columns, len(self.tokens) - 1)
        input_ids = np.where(inside, self.tokens[places].astype(np.int64), pad_id)
        if self.vocab_size is not None and input_ids.max() >= self.vocab_size:
            which = int(input_ids.max(axis=1).argmax())
            raise UserError(
                f"{self.prefix}.tokens.npy: sequence {rows[which]} holds the id "
                f"{input_ids[which].max()}, the vocabulary has {self.vocab_size} tokens; {_AGAIN}"
            )
        second = inside & (columns >= self.boundaries[rows].astype(np.int64)[:, None])
        return {
            "input_ids": torch.from_numpy(input_ids),
            "token_type_ids": torch.from_numpy(second.astype(np.int64)),
            "attention_mask": torch.from_numpy(inside.astype(np.int64)),
        }


class TokenStoreWriter:
    """Write a store piece by piece in constant memory.

    As a context manager it closes the store at the end of the block, and leaves nothing behind if
    the block ends with an error.
    """

    def __init__(self, prefix: str | os.PathLike, dtype: np.dtype | type) -> None:
        self._paths = _paths(prefix)
        self._dtypes = (np.dtype(dtype), np.dtype(np.int64), np.dtype(np.uint16))
        self._counts = [0, 0, 0]
        self._files: list = [None, None, None]
        with contextlib.ExitStack() as stack:
            # The stack renames in reverse: the offsets, which are entered first, appear last.
            for which in (1, 0, 2):
                file = stack.enter_context(atomic_open(self._paths[which], "wb"))
                self._files[which] = file
                write_array_header(file, self._dtypes[which], 0)
            self._write(1, np.zeros(1))
            self._stack = stack.pop_all()

    def append(self, tokens: np.ndarray, lengths: np.ndarray, boundaries: np.ndarray) -> None:
        """Add sequences.

        Args:
            tokens: the sequences end to end, integer [sum(lengths)].
            lengths: tokens in each, integer [k], each at most 65,535.
            boundaries: where the second segment begins, integer [k].
        """
        lengths = np.asarray(lengths, dtype=np.int64)
        if lengths.sum() != len(tokens) or len(lengths) != len(boundaries):
            raise ValueError("tokens, lengths and boundaries describe different sequences")
        if len(lengths) == 0:
            return
        if lengths.max() > MAX_SEQUENCE:
            raise ValueError(f"a sequence has {lengths.max()} tokens, a store holds {MAX_SEQUENCE}")
        before = self._counts[0]
        self._write(0, tokens)
        self._write(1, before + np.cumsum(lengths))
        self._write(2, boundaries)

    def close(self) -> None:
        """Finish the three files and let them appear under their names."""
        with self._stack:
            for file, dtype, count in zip(self._files, self._dtypes, self._counts, strict=True):
                file.seek(0)
                write_array_header(file, dtype, count)
            # Between two renames a reader must find no store rather than halves of two.
            self._paths[1].unlink(missing_ok=True)

    def __enter__(self) -> TokenStoreWriter:
        return self

    def __exit__(self, kind, error, trace) -> None:
        if kind is None:
            self.close()
        else:
            self._stack.__exit__(kind, error, trace)

    def _write(self, which: int, values: np.ndarray) -> None:
        data = np.ascontiguousarray(values, dtype=self._dtypes[which])
        self._files[which].write(data.data)
        self._counts[which] += len(data)


def encode_pairs(
    tokenizer: BertTokenizer,
    text_a: Sequence[str],
    text_b: Sequence[str] | None,
    max_length: int,
) -> TokenStore:
    """Tokenise sentences, or pairs of them, into a store.

    A pair is `[CLS] a [SEP] b [SEP]`, or as the tokenizer's family has it `<s> a </s></s> b </s>`.

    A pair that is too long loses tokens from the end of its longer side, one at a time, from the
    second where both are equal, as in the original; the result is computed without the loop. A pair
    whose second text has no tokens is stored as a single sentence.

    Raises:
        UserError: `max_length` leaves no room for a token, or exceeds what a store holds.
    """
    if not 3 <= max_length <= MAX_SEQUENCE:
        raise UserError(
            f"{setting('max_seq_length')} {max_length}: expected a value from 3 to {MAX_SEQUENCE}"
        )
    dtype = token_dtype(len(tokenizer))
    tokens, lengths, boundaries = [], [], []
    for start in range(0, len(text_a), _ENCODE_ROWS):
        rows = slice(start, start + _ENCODE_ROWS)
        ids_a, offsets_a = tokenizer.encode_flat(text_a[rows])
        if text_b is None:
            ids_b, offsets_b = ids_a[:0], np.zeros_like(offsets_a)
        else:
            ids_b, offsets_b = tokenizer.encode_flat(text_b[rows])
        between = tokenizer.separators
        keep_a, keep_b = keep_longest_first(
            np.diff(offsets_a), np.diff(offsets_b), max_length, between
        )
        boundary = keep_a + 1 + np.where(keep_b > 0, between, 1)
        length = boundary + keep_b + (keep_b > 0)
        begin = np.cumsum(length) - length
        # Whatever is not written below is a separator.
        flat = np.full(int(length.sum()), tokenizer.sep_id, dtype=dtype)
        flat[begin] = tokenizer.cls_id
        flat[ranges(begin + 1, keep_a)] = ids_a[ranges(offsets_a[:-1], keep_a)]
        flat[ranges(begin + boundary, keep_b)] = ids_b[ranges(offsets_b[:-1], keep_b)]
        tokens.append(flat)
        lengths.append(length)
        boundaries.append(boundary.astype(np.uint16))
    if not tokens:
        return TokenStore(np.zeros(0, dtype), np.zeros(1, np.int64), np.zeros(0, np.uint16))
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(lengths))]).astype(np.int64)
    return TokenStore(np.concatenate(tokens), offsets, np.concatenate(boundaries))


def keep_longest_first(
    length_a: np.ndarray, length_b: np.ndarray, max_length: int, between: int = 1
) -> tuple[np.ndarray, ...]:
    """Tokens each side keeps once the longer has been shortened until both fit.

    Args:
        between: separators between the two.
    """
    room = max_length - 2 - between * (length_b > 0)
    return (
        np.minimum(length_a, np.maximum((room + 1) // 2, room - length_b)),
        np.minimum(length_b, np.maximum(room // 2, room - length_a)),
    )


def ranges(starts: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """starts[0], starts[0]+1, … (counts[0] of them), starts[1], …, int64 [sum(counts)]."""
    before = np.cumsum(counts) - counts
    return np.repeat(starts - before, counts) + np.arange(int(counts.sum()))


def _mixed(prefix: str | os.PathLike) -> UserError:
    return UserError(
        f"{prefix}.tokens.npy: does not belong with its .offsets.npy and .boundaries.npy; "
        "expected three files of one run, make them again"
    )


def _paths(prefix: str | os.PathLike) -> tuple[Path, Path, Path]:
    prefix = os.fspath(prefix)
    return tuple(Path(f"{prefix}.{name}.npy") for name in ("tokens", "offsets", "boundaries"))


def write_array_header(file: IO[bytes], dtype: np.dtype, count: int) -> None:
    """Write a one-dimensional .npy header; a later one with the final count fits over it."""
    # numpy leaves room in the header for the count to grow.
    header = {"descr": dtype.str, "fortran_order": False, "shape": (count,)}
    np.lib.format.write_array_header_1_0(file, header)


def load_array(path: str | os.PathLike, mmap: bool, advice: str) -> np.ndarray:
    """Read or map an .npy file.

    Raises:
        UserError: it is missing, or no whole array; `advice` says what to do.
    """
    try:
        return np.load(path, mmap_mode="r" if mmap else None, allow_pickle=False)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; expected an array, {advice}") from None
    except Exception as error:  # numpy raises many kinds on a torn header; each is the file's fault
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise UserError(f"{path}: not a complete .npy array ({error}); {advice}") from None
