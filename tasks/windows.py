"""Questions as a model reads them: `[CLS] question [SEP] part of the text [SEP]`, windows over long texts.

A set of n windows over texts of T tokens is a token store and two arrays, in memory or memory-mapped from
`PREFIX.windows.npy` and `PREFIX.spans.npy`:

    windows  [n, 6]  int32  question; first token of the text in `spans`; from which of its tokens to which no
                            other window surrounds them better; positions of the answer's first and last
    spans    [T, 2]  int32  first character of each token of the texts, and the one behind its last

Positions are counted in a window from [CLS], which is 0; an answer at 0 is none.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from corpus.token_store import TokenStore, load_array, ranges, token_dtype
from files.atomic import atomic_open
from files.errors import UserError, setting
from tasks.squad import Questions
from transformer.tokenization import BertTokenizer

_FAR = np.int64(1) << 32  # above every place in a text
STRIDE_MODES = ("step", "hf")


@dataclass(frozen=True)
class Windows:
    """See above. `store`'s second segment is the part of the text."""

    store: TokenStore
    windows: np.ndarray
    spans: np.ndarray

    def __len__(self) -> int:
        return len(self.store)

    @property
    def question(self) -> np.ndarray:
        """Which question a window is of, int32 [n]."""
        return self.windows[:, 0]

    @property
    def labels(self) -> np.ndarray:
        """Positions of the answer's first and last token, int64 [n, 2]; 0 where it is not in the window."""
        return self.windows[:, 4:].astype(np.int64)

    def take(self, rows: np.ndarray) -> Windows:
        """Some of the windows, in memory."""
        return Windows(self.store.take(rows), np.asarray(self.windows)[rows], self.spans)

    def save(self, prefix: str | os.PathLike) -> None:
        """Write the files of the windows; each appears only when complete."""
        self.store.save(prefix)
        for name, array in (("spans", self.spans), ("windows", self.windows)):
            with atomic_open(f"{os.fspath(prefix)}.{name}.npy", "wb") as file:
                np.save(file, array)

    @classmethod
    def open(cls, prefix: str | os.PathLike) -> Windows:
        """Map saved windows.

        Raises:
            UserError: a file is missing or torn, or they do not belong together.
        """
        store, prefix = TokenStore.open(prefix), os.fspath(prefix)
        windows, spans = (
            load_array(f"{prefix}.{name}.npy", True, "make it again")
            for name in ("windows", "spans")
        )
        if windows.shape != (len(store), 6) or spans.ndim != 2 or spans.shape[1] != 2:
            raise UserError(f"{prefix}.windows.npy: does not belong with the files beside it")
        return cls(store, windows, spans)


class Cut(NamedTuple):
    """How texts are cut into windows.

    Attributes:
        length: tokens of a window at most.
        stride: tokens between the beginnings of two windows (`step`), or shared by them (`hf`).
        question: tokens of a question at most.
        mode: which of the two `stride` is.
    """

    length: int = 384
    stride: int = 128
    question: int = 64
    mode: str = "step"


def make_windows(questions: Questions, tokenizer: BertTokenizer, cut: Cut) -> Windows:
    """Tokenise each text once, and cut it into windows for each of its questions.

    Where an answer begins or ends inside a token, the whole token is taken.

    Raises:
        UserError: a window has no room for the text, or windows would leave tokens out.
    """
    ids, offsets, spans = tokenizer.encode_spans(questions.contexts)
    asked, asked_at = tokenizer.encode_flat([text.strip() for text in questions.texts])
    asking = np.minimum(np.diff(asked_at), cut.question)
    texts = np.diff(offsets)[questions.context_of]
    room = cut.length - asking - tokenizer.separators - 2
    step = room - cut.stride if cut.mode == "hf" else np.full_like(room, cut.stride)
    _check_room(questions, cut, asking, room, np.where(texts > room, step, 1))
    counts = 1 + np.maximum(-(-(texts - room) // np.maximum(step, 1)), 0)
    question = np.repeat(np.arange(len(questions)), counts)
    first = ranges(np.zeros_like(counts), counts) * step[question]
    size = np.minimum(texts[question] - first, room[question])
    begin = offsets[questions.context_of[question]] + first

    boundary = asking[question] + 1 + tokenizer.separators
    length = boundary + size + 1
    at = np.cumsum(length) - length
    # Whatever is not written below is a separator.
    flat = np.full(int(length.sum()), tokenizer.sep_id, token_dtype(len(tokenizer)))
    flat[at] = tokenizer.cls_id
    flat[ranges(at + 1, asking[question])] = asked[ranges(asked_at[question], asking[question])]
    flat[ranges(at + boundary, size)] = ids[ranges(begin, size)]
    store = TokenStore(flat, np.concatenate([[0], np.cumsum(length)]), boundary.astype(np.uint16))
    best = _best_surrounded(question, first, size, counts)
    where = _answer_tokens(questions, offsets, spans)[question] - first[:, None]
    inside = (where[:, 0] >= 0) & (where[:, 1] < size) & (where[:, 1] >= where[:, 0])
    labels = np.where(inside[:, None], where + boundary[:, None], 0)
    columns = np.column_stack([question, begin, best, labels]).astype(np.int32)
    return Windows(store, columns, spans)


def _check_room(
    questions: Questions, cut: Cut, asking: np.ndarray, room: np.ndarray, step: np.ndarray
) -> None:
    longest = int(asking.argmax())
    told = f"the question {questions.ids[longest]} of {asking[longest]} tokens"
    if room[longest] < 1:
        raise UserError(
            f"{setting('max_seq_length')} {cut.length}: leaves no room for the text beside {told}; raise it, "
            f"or lower {setting('max_query_length')}"
        )
    if (step > room).any():
        raise UserError(
            f"{setting('doc_stride')} {cut.stride}: windows hold {room[longest]} tokens of a text beside "
            f"{told}, and would leave tokens out between them; lower it to at most {room.min()}"
        )
    if (step < 1).any():
        raise UserError(
            f"{setting('doc_stride')} {cut.stride}: windows that share so many tokens have room for "
            f"{room.min()}; expected less"
        )


def _best_surrounded(
    question: np.ndarray, first: np.ndarray, size: np.ndarray, counts: np.ndarray
) -> np.ndarray:
    """The tokens of each window's text that it surrounds best: from, to (not included), int64 [n, 2].

    A token of several windows counts in the one with most context on its shorter side, plus 0.01 · tokens
    of the window; of equal ones in the first.
    """
    best = np.column_stack([np.zeros_like(size), size])
    several = np.flatnonzero(counts[question] > 1)
    if not len(several):
        return best
    window = np.repeat(several, size[several])
    place = ranges(np.zeros_like(several), size[several])
    score = np.minimum(place, size[window] - 1 - place) + 0.01 * size[window]
    token = question[window] * _FAR + first[window] + place
    order = np.lexsort((window, -score, token))
    wins = order[np.unique(token[order], return_index=True)[1]]
    best[several] = np.column_stack([size[several], np.zeros_like(several)])
    np.minimum.at(best[:, 0], window[wins], place[wins])
    np.maximum.at(best[:, 1], window[wins], place[wins] + 1)
    return best


def _answer_tokens(questions: Questions, offsets: np.ndarray, spans: np.ndarray) -> np.ndarray:
    """First and last token of each question's first answer in its text, int64 [n, 2]; -1 where none."""
    found = np.full((len(questions), 2), -1, np.int64)
    known = [i for i, starts in enumerate(questions.starts) if starts and starts[0] >= 0]
    if not known:
        return found
    known = np.array(known)
    starts = np.array([questions.starts[i][0] for i in known])
    ends = starts + np.array([len(questions.answers[i][0]) for i in known])
    of = questions.context_of[known].astype(np.int64)
    far = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * _FAR
    first = np.searchsorted(far + spans[:, 1], of * _FAR + starts, "right")
    last = np.searchsorted(far + spans[:, 0], of * _FAR + ends, "left") - 1
    found[known] = np.column_stack([first, last]) - offsets[of][:, None]
    found[found[:, 1] < found[:, 0]] = -1
    return found
