"""Documents to sentences with Punkt (Kiss and Strunk, 2006), as nltk has it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from files.errors import UserError, setting

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

_MODEL_FILE = "abbrev_types.txt"
# nltk gives a match up after 5 s by the clock on the wall: a long paragraph on a busy machine, or a machine
# put to sleep, would end the run.
_SECONDS = 600.0
# Punkt knows . ? ! before white space. Other scripts end sentences with signs of their own, and Chinese and
# Japanese write no blanks. These have Unicode's property Sentence_Terminal, but for signs of English text
# (such as the interrobang) and those that stand for a comma; Tibetan's shad lacks it but does the same.
_ENDS = (
    "\u0589\u061d-\u061f\u06d4\u0700-\u0702\u07f9\u0837\u0839\u083d\u083e"  # Armenian to Samaritan
    "\u0964\u0965\u0f0d-\u0f11\u0f14\u104b\u1362\u1367\u1368\u166e\u1735\u1736"  # danda, shad, Burmese …
    "\u17d4\u17d5\u1803\u1809\u1944\u1945\u1aa8-\u1aab\u1b5a\u1b5b\u1b5f\u1b7d\u1b7e"  # Khmer …
    "\u1c3b\u1c3c\u1c7e\u1c7f\u2cf9-\u2cfb\u3002\ua4ff\ua60e\ua60f\ua6f3\ua6f7\ua876\ua877\ua8ce\ua8cf"
    "\ua92f\ua9c9\uaa5d-\uaa5f\uaaf0\uaaf1\uabeb\ufe52\ufe56\ufe57\uff01\uff0e\uff1f\uff61"
    "\U00010a56\U00010a57\U00011047\U00011048\U000110be-\U000110c1\U00011141-\U00011143\U000111c5\U000111c6"
    "\U000115c2\U000115c3\U00011641\U00011642\U00016a6e\U00016a6f\U00016af5\U0001bc9f\U0001da88"
)
_CLOSERS = "”’»›」』）】》〉〗〕)\\]"
_FOREIGN_END = re.compile(
    rf"[{_ENDS}](?:\s*[{_ENDS}]|[.!?])*(?:[{_CLOSERS}]|[\"'](?=\s|$))*"
    rf"(?![{_ENDS}{_CLOSERS}，、])(?!\s*\d+\s*[\u0964\u0965])(?!(?<=\d[\uff0e\ufe52])\d)"  # ॥ १ ॥, ３．１
)
_SENTENCE_END = re.compile(rf"[.!?…{_ENDS}][\"'{_CLOSERS}]*\s*$")


def find_punkt(language: str, folder: str | None = None) -> tuple[PunktParameters, str] | None:
    """Load Punkt's data for a language from where nltk looks, or from `folder` alone.

    `folder` may be nltk's data folder, or the `tokenizers` or `punkt_tab` in it.

    Returns:
        The parameters and where they were found; None if nltk has none.

    Raises:
        UserError: `folder` was given and holds none.
    """
    from nltk import data
    from nltk.tokenize.punkt import load_punkt_params

    if folder is None:
        try:
            pointer = data.find(f"tokenizers/punkt_tab/{language}/")
            return load_punkt_params(pointer), str(pointer)
        except LookupError:
            return None
    places = (f"tokenizers/punkt_tab/{language}", f"punkt_tab/{language}", language)
    for place in (Path(folder).resolve() / place for place in places):
        if (place / _MODEL_FILE).is_file():
            data.path.insert(0, str(place))  # nltk reads nothing outside its data folders
            try:
                return load_punkt_params(data.FileSystemPathPointer(str(place))), str(place)
            except (LookupError, ValueError) as error:
                raise UserError(f"{setting('punkt_dir')} {place}: is incomplete: {error}") from None
    raise UserError(
        f"{setting('punkt_dir')} {folder}: holds no Punkt data for {language}; expected a folder with "
        f"tokenizers/punkt_tab/{language}/{_MODEL_FILE}"
    )


def download_punkt() -> None:
    """Fetch nltk's `punkt_tab` data into nltk's own folder.

    Raises:
        UserError: the download failed.
    """
    import nltk

    if not nltk.download("punkt_tab", quiet=True):
        raise UserError(
            f"{setting('download_punkt')}: the download failed; fetch punkt_tab elsewhere and name its "
            f"folder with {setting('punkt_dir')}, or leave the flag out to train Punkt on the corpus"
        )


def train_punkt(texts: Iterable[str]) -> PunktParameters:
    """Learn abbreviations, collocations and sentence starters from the texts themselves."""
    from nltk.tokenize.punkt import PunktTrainer

    trainer = PunktTrainer()
    for text in texts:
        with _patience(text):
            trainer.train(text, finalize=False)
    trainer.finalize_training()
    return trainer.get_params()


def punkt_checksum(parameters: PunktParameters) -> str:
    """SHA-256, in hexadecimal, over all that Punkt has learned."""
    learned = (
        parameters.abbrev_types, parameters.collocations, parameters.sent_starters,
        parameters.ortho_context.items(),
    )  # fmt: skip
    return hashlib.sha256(repr([sorted(part) for part in learned]).encode()).hexdigest()


def make_splitter(parameters: PunktParameters) -> PunktSentenceTokenizer:
    """Make what `split_sentences` needs."""
    from nltk.tokenize.punkt import PunktSentenceTokenizer

    return PunktSentenceTokenizer(parameters)


def split_sentences(splitter: PunktSentenceTokenizer, paragraph: str) -> list[str]:
    """Split a paragraph into sentences, each with its white space folded to single blanks.

    Raises:
        UserError: it takes Punkt minutes; no text of a language does.
    """
    with _patience(paragraph):
        parts = splitter.tokenize(paragraph)
    if not paragraph.isascii() and _FOREIGN_END.search(paragraph):
        parts = [part for sentence in parts for part in _split_foreign(sentence)]
    return [folded for part in parts if (folded := " ".join(part.split()))]


def ends_sentence(line: str) -> bool:
    """Whether the last sign of a line ends a sentence, quotation marks and brackets left aside."""
    return _SENTENCE_END.search(line) is not None


def _split_foreign(sentence: str) -> Iterator[str]:
    """Split what Punkt took for one sentence after the sentence ends of other scripts."""
    start = 0
    for end in _FOREIGN_END.finditer(sentence):
        yield sentence[start : end.end()]
        start = end.end()
    yield sentence[start:]


@contextlib.contextmanager
def _patience(text: str) -> Iterator[None]:
    from nltk import redos

    redos.DEFAULT_TIMEOUT = _SECONDS
    try:
        yield
    except TimeoutError:
        raise UserError(
            f"a text of {len(text):,} characters that begins {text[:60]!r} takes more than {_SECONDS:g} s "
            "to be split into sentences; break it into lines, or drop it"
        ) from None
