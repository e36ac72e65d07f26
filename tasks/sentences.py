"""Documents to sentences with Punkt (Kiss and Strunk, 2006), as nltk has it."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from transformer.errors import UserError

if TYPE_CHECKING:
    from nltk.tokenize.punkt import PunktParameters, PunktSentenceTokenizer

_MODEL_FILE = "abbrev_types.txt"
# nltk gives a match up after 5 s by the clock on the wall: a long paragraph on a busy machine, or a machine
# put to sleep, would end the run.
_SECONDS = 600.0
# Punkt wants white space after a full stop; Chinese and Japanese write none.
_CJK_END = re.compile(
    "(?<=[。！？])(?![。！？”’」』）])|(?<=[。！？][”’」』）])(?![。！？”’」』），、])"
)


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
                raise UserError(f"--punkt_dir {place}: is incomplete: {error}") from None
    raise UserError(
        f"--punkt_dir {folder}: holds no Punkt data for {language}; expected a folder with "
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
            "--download_punkt: the download failed; fetch punkt_tab elsewhere and name its folder "
            "with --punkt_dir, or leave the flag out to train Punkt on the corpus"
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
        pieces = splitter.tokenize(paragraph)
    if not paragraph.isascii():
        pieces = [piece for sentence in pieces for piece in _CJK_END.split(sentence)]
    return [folded for piece in pieces if (folded := " ".join(piece.split()))]


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
