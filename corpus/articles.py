"""What prepare_data.py reads: WikiExtractor's output, JSON, plain text."""

from __future__ import annotations

import html
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from html.entities import html5
from itertools import islice
from pathlib import Path
from typing import IO, Any

from corpus.json_records import read_records
from corpus.line_breaks import Wrapping, find_wrapping
from corpus.sentences import make_splitter, split_sentences
from corpus.text_files import Block, read_blocks, read_format, sample_lines
from corpus.wikiextractor import check_dump
from files.errors import UserError, setting

_EXTRACTED = re.compile(r"wiki_\d+(\.\w+)?")  # files of WikiExtractor's
_ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|#\d+|#[xX][\da-fA-F]+);")
_ANY_ENTITY = re.compile(r"&(?:#\d+|#[xX][\da-fA-F]+|[A-Za-z][\dA-Za-z]*);")
_UNESCAPED = re.compile(rf"[<>]|&(?!{_ENTITY.pattern[1:]})")
_SAMPLE_BYTES = 1 << 20


@dataclass(frozen=True)
class Reading:
    """How the text of files is read.

    Attributes:
        kind: "json" (one record a line), "records" (JSON on any lines), "text" or "dump".
        text_field: the name of a record's text.
        entities: "unescape" (those of HTML become the characters they stand for), "extracted" (the
            same, but not in a text that WikiExtractor cannot have escaped) or "keep".
        wrapping: how lines were wrapped that are to be joined.
    """

    kind: str
    text_field: str = "text"
    entities: str = "keep"
    wrapping: Wrapping | None = None

    def blocks(self, path: Path, size: int, within: range | None = None) -> Iterator[Block]:
        """Read a file, or the lines that begin in some of its bytes, as blocks of records or lines."""
        if self.kind == "records":
            return read_records(path, size)
        joins = self.wrapping.joins_bytes if self.wrapping and self.kind == "text" else None
        return read_blocks(path, size, within, joins)

    def paragraphs(self, lines: list[str]) -> list[str]:
        """Join the lines that were wrapped."""
        return self.wrapping.join(lines) if self.wrapping else lines

    def plain(self, text: str) -> str:
        """Unescape a text that is to be unescaped, once."""
        if self.entities == "keep" or "&" not in text:
            return text
        if self.entities == "unescape":
            return _ANY_ENTITY.sub(_character, text)
        return text if _UNESCAPED.search(text) else _ENTITY.sub(_character, text)


def _character(entity: re.Match[str]) -> str:
    """What an entity stands for; one that HTML does not know stays (`&copying;` begins as `&copy` does)."""
    name = entity.group()
    return html.unescape(name) if name[1] == "#" or name[1:] in html5 else name


@dataclass
class Prepared:
    """The documents of one block, as bytes: one sentence a line, no line feed at the end.

    Plain text may be cut inside a document: `continues` says that the first document belongs to
    the one before it if the block before was `unfinished`.
    """

    documents: list[bytes] = field(default_factory=list)
    continues: bool = False
    unfinished: bool = False
    sentences: int = 0
    words: int = 0
    empty: int = 0
    title_only: int = 0


def find_files(source: Path) -> tuple[str, list[Path]]:
    """Tell what a path holds: ("json" | "records" | "text" | "dump", its files in a fixed order).

    A folder holds WikiExtractor's `wiki_*` files, at any depth. A single file tells by its first
    characters.

    Raises:
        UserError: the folder has no such file, or the file is empty, or of a format that is not read.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("wiki_*") if path.is_file())
        if not files:
            raise UserError(
                f"{source}: holds no file wiki_*; expected the output folder of "
                "wikiextractor, made in its JSON format"
            )
        return "json", files
    kind = _KINDS[read_format(source)]
    if kind == "dump":
        check_dump(source)
    return kind, [source]


def choose_reading(
    kind: str, files: list[Path], text_field: str, entities: str, keep_line_breaks: bool
) -> tuple[Reading, list[str]]:
    """Decide how files are read by what stands in some of their text.

    The decision depends on the files alone: it is the same for every shard of them.

    Args:
        entities: "unescape", "keep", or "auto": unescape what WikiExtractor has written.

    Returns:
        The reading, and lines that say what was decided by the look of the text.
    """
    notes: list[str] = []
    if kind == "text":
        samples, extracted = sample_lines(files), False
    else:
        samples, ours = _sample_records(kind, files, text_field)
        extracted = ours or _EXTRACTED.fullmatch(files[0].name) is not None
    if entities == "auto" and extracted:
        entities = "extracted"
        notes.append(
            f"entities: unescaped, as WikiExtractor escapes them ({setting('entities')} keep leaves them)"
        )
    elif entities == "auto":
        entities = "keep"
        if any(_ENTITY.search(line) for lines in samples for line in lines):
            notes.append(
                "entities: the text holds some, such as &amp;, and is not WikiExtractor's: they stay "
                f"({setting('entities')} unescape)"
            )
    wrapping = None if keep_line_breaks else find_wrapping(samples)
    if wrapping:
        notes.append(
            f"line breaks: the text is wrapped at {wrapping.width} characters; lines within paragraphs "
            f"are joined ({setting('keep_line_breaks')} leaves them)"
        )
    return Reading(kind, text_field, entities, wrapping), notes


def _sample_records(kind: str, files: list[Path], text_field: str) -> tuple[list[list[str]], bool]:
    """Lines of texts from places all over the files, and whether the records have WikiExtractor's fields."""
    plain = Reading(kind, text_field)
    samples, ours = [], True
    some = files[:: max(1, len(files) // 16)]
    for path in some:
        blocks = plain.blocks(path, 1 << 16)
        for block in islice(blocks, max(1, _SAMPLE_BYTES // len(some) >> 16)):
            for number, line in enumerate(block.lines(), start=block.first_line):
                if line.strip():
                    record = _parse(line, block.place(number))
                    ours &= isinstance(record, dict) and {"id", "url", "title", "text"} <= {*record}
                    text = record.get(text_field) if isinstance(record, dict) else record
                    samples.append(text.split("\n") if isinstance(text, str) else [])
    return samples, ours and bool(samples)


_KINDS = {"json lines": "json", "doc": "json", "json": "records", "dump": "dump", "text": "text"}


def prepare_block(reading: Reading, parameters, block: Block) -> Prepared:
    """Split a block into sentences; runs in the workers."""
    splitter = make_splitter(parameters)
    prepared = Prepared()
    documents = (
        _paragraph_runs(reading, block, prepared)
        if reading.kind == "text"
        else _articles(reading, block)
    )
    for title, paragraphs in documents:
        sentences = [s for paragraph in paragraphs for s in split_sentences(splitter, paragraph)]
        if not sentences:
            prepared.empty += 1
        elif title is not None and sentences == split_sentences(splitter, title):
            prepared.title_only += 1
        else:
            # JSON may hold half of a surrogate pair, which is not text.
            prepared.documents.append("\n".join(sentences).encode("utf-8", "replace"))
            prepared.sentences += len(sentences)
            # Blanks are single here.
            prepared.words += sum(sentence.count(" ") + 1 for sentence in sentences)
    return prepared


def block_text(reading: Reading, block: Block) -> str:
    """The text of a block, without splitting: what Punkt learns from."""
    if reading.kind == "text":
        return "\n".join(_lines(reading, block))
    return "\n".join(line for _, paragraphs in _articles(reading, block) for line in paragraphs)


def _articles(reading: Reading, block: Block) -> Iterator[tuple[str | None, list[str]]]:
    name = reading.text_field
    for number, line in enumerate(block.lines(), start=block.first_line):
        if not line.strip():
            continue
        record = _parse(line, block.place(number))
        article = {name: record} if isinstance(record, str) else record
        if not isinstance(article, dict) or not isinstance(article.get(name), str):
            keys = [*islice(article, 8)] if isinstance(article, dict) else []
            found = f"; it has {', '.join(map(repr, keys))}" if keys else ""
            raise UserError(
                f'{block.place(number)}: expected a JSON object with a string under "{name}"'
                f"{found} ({setting('text_field')} names the field of the text)"
            )
        title = article.get("title") if name != "title" else None
        title = reading.plain(title) if isinstance(title, str) else None
        yield title, reading.paragraphs(reading.plain(article[name]).split("\n"))


def _parse(line: str, place: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        hint = "run WikiExtractor with --json" if line.startswith("<doc") else "correct or drop it"
        raise UserError(
            f"{place}: is not JSON; expected one object with a text a line, {hint}"
        ) from None


def _lines(reading: Reading, block: Block) -> list[str]:
    return [reading.plain(line) for line in reading.paragraphs(block.lines())]


def _paragraph_runs(
    reading: Reading, block: Block, prepared: Prepared
) -> Iterator[tuple[None, list[str]]]:
    lines = _lines(reading, block)
    prepared.continues = bool(lines[0].strip())
    prepared.unfinished = bool(lines[-1].strip())
    run: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            run.append(line)
        elif run:
            yield None, run
            run = []


def join_shards(file: IO[bytes], shards: Iterable[tuple[Path, dict[str, Any]]]) -> int:
    """Put shards together that `joined` wrote without an end; return the number of documents.

    Args:
        shards: (file, {"documents", "blocks", "continues" (its first), "unfinished" (its last)}).
    """
    open_document = started = False
    documents = 0
    for path, facts in shards:
        if facts["documents"]:
            continued = open_document and facts["continues"]
            documents += facts["documents"] - continued
            file.write(b"\n" if continued else b"\n\n" if started else b"")
            with open(path, "rb") as part:
                shutil.copyfileobj(part, file, 1 << 20)
            started = True
        if facts["blocks"]:
            open_document = facts["unfinished"]
    if started:
        file.write(b"\n")
    return documents


def joined(
    results: Iterable[Prepared],
    on_document: Callable[[], None],
    end: bytes = b"\n",
    started: bool = False,
    open_document: bool = False,
) -> Iterator[bytes]:
    """Put blocks together: documents end to end, a blank line between them, `end` after the last.

    Args:
        started, open_document: whether blocks before these held a document, and left it unfinished.
    """
    for result in results:
        for number, document in enumerate(result.documents):
            continued = number == 0 and result.continues and open_document
            if not continued:
                on_document()
            yield (b"\n" if continued else b"\n\n" if started else b"") + document
            started = True
        open_document = result.unfinished
    if started:
        yield end
