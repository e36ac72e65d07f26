"""From scores of tokens to answers: the best span of every window, exactly, and the best of every question.

A span begins at a token of the text that its window surrounds best, ends at one of the text that is not
before it, and has at most so many tokens. Its score is that of its first token as a beginning plus that of
its last one as an end. Nothing loops over spans.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from corpus.token_store import ranges
from tasks.squad import Questions
from tasks.windows import Windows


class Band(NamedTuple):
    """The scores of the windows' texts, one after the other with gaps as wide as a span between.

    Attributes:
        starts, ends: float64 [G], -inf where none may begin or end.
        at: where each window's text stands, int64 [n]; token: its first in the store's arrays.
    """

    starts: np.ndarray
    ends: np.ndarray
    at: np.ndarray
    token: np.ndarray


def band(scores: np.ndarray, windows: Windows, longest: int) -> Band:
    """Lay the scores out, float32 [T, 2] in the order of the store's tokens, for spans of up to `longest`."""
    store = windows.store
    boundary = store.boundaries.astype(np.int64)
    size = store.lengths - boundary - 1
    token = store.offsets[:-1] + boundary
    room = size + longest  # the gap makes windows independent, and none is empty
    at = np.cumsum(room) - room
    starts, ends = (np.full(int(room.sum()) + longest, -np.inf) for _ in range(2))
    ends[ranges(at, size)] = scores[ranges(token, size), 1]
    best = windows.windows[:, 2:4].astype(np.int64)
    count = np.maximum(best[:, 1] - best[:, 0], 0)
    starts[ranges(at + best[:, 0], count)] = scores[ranges(token + best[:, 0], count), 0]
    return Band(starts, ends, at, token)


def best_spans(scores: np.ndarray, windows: Windows, longest: int) -> tuple[np.ndarray, np.ndarray]:
    """The best span of each window: its score, float64 [n], -inf if it has none, and where it is.

    Of equal ones the first, and of those the shortest.

    Returns:
        The scores, and first and last token of the span in the window's text, int64 [n, 2].
    """
    laid = band(scores, windows, longest)
    value = _best_from(laid, longest)
    best = np.maximum.reduceat(value, laid.at)
    sizes = np.diff(np.append(laid.at, len(value)))
    hits = np.flatnonzero(value == np.repeat(best, sizes))
    window = np.searchsorted(laid.at, hits, "right") - 1
    _, first_hit = np.unique(window, return_index=True)
    begin = hits[first_hit]
    reach = laid.ends[begin[:, None] + np.arange(longest)]
    end = begin + reach.argmax(1)
    return best, np.column_stack([begin, end]) - laid.at[:, None]


def _best_from(laid: Band, longest: int) -> np.ndarray:
    """The best score of a span from each place, float64 [G - longest]: its own and the best end in reach."""
    reach, width = laid.ends, 1
    while 2 * width <= longest:  # the highest of the next 2, 4, 8 … places
        reach = np.maximum(reach[: len(reach) - width], reach[width:])
        width *= 2
    count = len(laid.ends) - longest
    reach = np.maximum(reach[:count], reach[longest - width : longest - width + count])
    return laid.starts[:count] + reach


class Answers(NamedTuple):
    """What a model answers.

    Attributes:
        texts: of the best span of each question; "" where there is none.
        scores: of those spans, float64 [q].
        null: score of there being no answer, float64 [q].
        characters: where they stand in the text, int64 [q, 2].
    """

    texts: list[str]
    scores: np.ndarray
    null: np.ndarray
    characters: np.ndarray

    def given(self, threshold: float) -> list[str]:
        """The texts, with "" where no answer scores higher by more than `threshold` (SQuAD 2.0)."""
        none = self.null - self.scores > threshold
        return ["" if no else text for text, no in zip(self.texts, none, strict=True)]


def answer(
    scores: np.ndarray, windows: Windows, questions: Questions, longest: int = 30
) -> Answers:
    """The best span over all windows of each question.

    Args:
        scores: float32 [T, 2], in the order of the store's tokens.
        longest: tokens of an answer at most.
    """
    values, where = best_spans(scores, windows, longest)
    question, count = windows.question, len(questions)
    best = np.full(count, -np.inf)
    np.maximum.at(best, question, values)
    rows = np.flatnonzero(values == best[question])
    winners, first = np.unique(question[rows], return_index=True)
    rows = rows[first]  # the first window of each question that has the best span
    null = np.full(count, np.inf)
    np.minimum.at(null, question, scores[windows.store.offsets[:-1]].sum(1, dtype=np.float64))
    texts, characters = [""] * count, np.zeros((count, 2), np.int64)
    there = best[winners] > -np.inf
    begins = windows.windows[rows, 1] + where[rows].T
    for i, first_token, last in zip(winners[there], *begins[:, there], strict=True):
        characters[i], texts[i] = slice_of(questions, i, windows.spans, first_token, last)
    return Answers(texts, best, null, characters)


def slice_of(
    questions: Questions, question: int, spans: np.ndarray, first: int, last: int
) -> tuple[tuple[int, int], str]:
    """The characters of a question's text from one token to another, white space at both ends left out."""
    begin, end = int(spans[first, 0]), int(spans[last, 1])
    text = questions.context(question)[begin:end]
    kept = text.strip()
    begin += len(text) - len(text.lstrip()) if kept else 0
    return (begin, begin + len(kept)), kept


def best_answers(
    scores: np.ndarray,
    windows: Windows,
    questions: Questions,
    count: int = 20,
    longest: int = 30,
    negative: bool = False,
) -> list[list[dict[str, Any]]]:
    """The `count` best answers of each question that differ in their text, best first.

    Args:
        negative: have the answer "" among them, with the score of there being none.

    Returns:
        Of each question: {text, probability, start_logit, end_logit}, the probabilities being softmaxes
        over the listed scores.
    """
    laid = band(scores, windows, longest)
    value = _best_from(laid, longest)
    room = np.diff(np.append(laid.at, len(value)))
    # A place's best span scores no less than its others: the best spans begin at the best places.
    order = np.lexsort((np.arange(len(value)), -value, np.repeat(np.arange(len(room)), room)))
    start = np.cumsum(room) - room
    sizes = windows.store.lengths - windows.store.boundaries - 1
    lists: list[list[dict[str, Any]]] = [[] for _ in range(len(questions))]
    by_question = np.argsort(windows.question, kind="stable")
    edges = np.searchsorted(windows.question[by_question], np.arange(len(questions) + 1))
    for i in range(len(questions)):
        own = by_question[edges[i] : edges[i + 1]]
        nulls = scores[windows.store.offsets[own]].astype(np.float64)
        lists[i] = _best_of(
            laid, own, [order[start[w] :][: sizes[w]] for w in own], windows, questions, i, count, longest
        )  # fmt: skip
        if negative and len(nulls):
            least = nulls[nulls.sum(1).argmin()]
            lists[i].append({"text": "", "start_logit": least[0], "end_logit": least[1]})
            lists[i].sort(key=lambda told: -(told["start_logit"] + told["end_logit"]))
        if not lists[i]:
            lists[i] = [{"text": "", "start_logit": 0.0, "end_logit": 0.0}]
        summed = np.array([told["start_logit"] + told["end_logit"] for told in lists[i]])
        odds = np.exp(summed - summed.max())
        for told, probability in zip(lists[i], odds / odds.sum(), strict=True):
            told["start_logit"], told["end_logit"] = (
                float(told["start_logit"]), float(told["end_logit"]),
            )  # fmt: skip
            told["probability"] = float(probability)
    return lists


def _best_of(
    laid: Band,
    own: np.ndarray,
    places: list[np.ndarray],
    windows: Windows,
    questions: Questions,
    question: int,
    count: int,
    longest: int,
) -> list[dict[str, Any]]:
    """The best answers of one question; `places` are those of its windows, the best first."""
    wanted = count
    while True:
        begin = np.concatenate([some[:wanted] for some in places])
        window = np.repeat(own, [min(wanted, len(some)) for some in places])
        value = laid.starts[begin][:, None] + laid.ends[begin[:, None] + np.arange(longest)]
        spans = np.argsort(-value, axis=None, kind="stable")
        spans = spans[value.ravel()[spans] > -np.inf]
        found: dict[str, dict[str, Any]] = {}
        for rank, span in enumerate(spans):
            if rank >= wanted and any(len(some) > wanted for some in places):
                break  # below the best span of a place that was left out, perhaps
            row, wide = divmod(int(span), longest)
            first = windows.windows[window[row], 1] + begin[row] - laid.at[window[row]]
            _, text = slice_of(questions, question, windows.spans, first, first + wide)
            if text not in found:
                found[text] = {
                    "text": text,
                    "start_logit": laid.starts[begin[row]],
                    "end_logit": laid.ends[begin[row] + wide],
                }
                if len(found) == count:
                    return list(found.values())
        if wanted >= max(map(len, places), default=0):
            return list(found.values())
        wanted *= 4
