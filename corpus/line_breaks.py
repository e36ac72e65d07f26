"""Plain text that was wrapped at a width (books of Project Gutenberg, mail): which line ends belong to it.

A line that was wrapped is full: the first word of the next line would not have fitted. Verses, lists and
headings end before that, so their line ends stay, also in the middle of wrapped prose.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from corpus.sentences import ends_sentence

NARROWEST, WIDEST = 20, 200  # characters at which text is wrapped
_NARROWEST_UNSPACED = 10  # of Chinese and Japanese, which are twice as wide
_ENOUGH = 8  # line ends from which on their own shape is evidence enough
# Scripts without blanks between words: a line of theirs may end anywhere.
_UNSPACED = (
    "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff"  # Thai, Lao, Tibetan, Burmese, Khmer
    "\u2e80-\u312f\u3400-\u9fff\uf900-\ufaff\uff00-\uff60\U00020000-\U0003ffff"  # Chinese, Japanese
)
_UNSPACED_CHAR = re.compile(f"[{_UNSPACED}]")
_FIRST_WORD = re.compile(rf"[^\s{_UNSPACED}]+|.")
_BULLET = re.compile(r"\s*(?:[-*•‣◦·–—]|\d{1,2}[.)]|\([a-z\d]{1,3}\))\s+(?=\S)")
_INDENT = re.compile(r"\s*")
_WORD = re.compile(r"[^\W\d_]+(?:-[^\W\d_]+)*")
_CUT_WORD = re.compile(r"[^\W\d_][-\u00ad]$")
_SUSPENDED = re.compile(r"(?:and|or|to|und|oder|bis|et|ou|y|o)\b")  # "pre- and post-war"
_SOFT_HYPHEN = "\u00ad"


class Wrapping(NamedTuple):
    """How a text was wrapped.

    Attributes:
        width: the longest lines have so many characters.
        words: lower-cased words of the text, by which a hyphen at a line's end is judged.
    """

    width: int
    words: frozenset[str] = frozenset()

    def joins(self, line: str, following: str) -> bool:
        """Whether the end of `line` was made by wrapping, `following` being the next line."""
        line, word = line.rstrip(), _FIRST_WORD.match(following.strip())
        if not line or not word or len(line) > self.width * 5 // 4 or _BULLET.match(following):
            return False
        begins = (_BULLET.match(line) or _INDENT.match(line)).end()
        if _INDENT.match(following).end() > begins:  # the first line of a paragraph
            return False
        if _CUT_WORD.search(line) and following.strip()[0].islower():
            return True  # words are cut where lines are of different lengths, too
        # Not every program fills lines to the last word that fits.
        return len(line) + 1 + word.end() > self.width - self.width // 7

    def joins_bytes(self, line: bytes, following: bytes) -> bool:
        """The same of lines as they stand in a UTF-8 file."""
        return self.joins(line.decode("utf-8", "replace"), following.decode("utf-8", "replace"))

    def join(self, lines: Sequence[str]) -> list[str]:
        """Join the lines that were one before the text was wrapped."""
        joined: list[list[str]] = []
        for number, line in enumerate(lines):
            if number and self.joins(lines[number - 1], line):
                joined[-1][-1], glue = self._end(joined[-1][-1].rstrip(), line.lstrip())
                joined[-1] += [glue, line.lstrip()]
            else:
                joined.append([line])
        return ["".join(parts) for parts in joined]

    def _end(self, left: str, right: str) -> tuple[str, str]:
        """How the left of two parts ends, and what comes between it and the right one."""
        if left.endswith(_SOFT_HYPHEN):
            return left[:-1], ""
        if left.endswith("-") and left[-2:-1].strip():
            if _SUSPENDED.match(right):
                return left, " "
            first, second = _WORD.search(left[:-1][-60:][::-1]), _WORD.match(right)
            whole = first and second and not first.start() and first.group()[::-1] + second.group()
            if whole and whole.lower() in self.words:
                return left[:-1], ""
            return left, ""
        dash = left.endswith("—") and left[-2:-1].strip() or right.startswith("—")
        unspaced = _UNSPACED_CHAR.match(left[-1]) or _UNSPACED_CHAR.match(right)
        return left, "" if dash or unspaced else " "


def find_wrapping(samples: Sequence[Sequence[str]]) -> Wrapping | None:
    """Tell from runs of consecutive lines whether, and how, a text was wrapped.

    It was if most line ends within paragraphs come where the next word would not have fitted, few of them
    after the end of a sentence, and if enough of the next lines begin with a small letter, where there are
    such letters.
    """
    pairs = [
        (line, following)
        for lines in samples
        for line, following in zip(lines, lines[1:], strict=False)
        if line.strip() and following.strip()
    ]
    if len(pairs) < 2:
        return None
    lengths = sorted(len(line.rstrip()) for line, _ in pairs)
    width = lengths[(len(lengths) * 49 + 49) // 50 - 1]  # a few lines may be longer
    unspaced = sum(bool(_UNSPACED_CHAR.match(line.rstrip()[-1])) for line, _ in pairs)
    narrowest = _NARROWEST_UNSPACED if unspaced > 0.5 * len(pairs) else NARROWEST
    if not narrowest <= width <= WIDEST:
        return None
    full = [pair for pair in pairs if Wrapping(width).joins(*pair)]
    open_ended = [following.strip() for line, following in full if not ends_sentence(line)]
    cased = [text for text in open_ended if text[0].lower() != text[0].upper()]
    lower = sum(text[0].islower() for text in cased)
    wrapped = (
        len(full) >= (0.6 if cased else 0.8) * len(pairs)
        and len(open_ended) >= 0.6 * len(full)
        and sum(text[0].isalpha() for text in open_ended) >= 0.5 * len(open_ended)
        and lower >= 0.3 * len(cased)  # of verses next to none; German nouns have capitals
    )
    if wrapped and len(pairs) < _ENOUGH:  # so few may be full by chance: paragraphs end otherwise
        last = [
            line
            for lines in samples
            for line, following in zip(lines, [*lines[1:], ""], strict=True)
            if line.strip() and not following.strip()
        ]
        wrapped = sum(map(ends_sentence, last)) > 0.5 * len(last)
    if not wrapped:
        return None
    words: set[str] = set()
    if any(line.rstrip().endswith("-") for line, _ in pairs):
        words.update(*(_WORD.findall(line.lower()) for lines in samples for line in lines))
    return Wrapping(width, frozenset(words))
