"""What prepare_data.py reads: WikiExtractor's output, JSON lines, plain text."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from tasks.sentences import make_splitter, split_sentences
from tasks.text_files import Block, open_binary, read_some
from transformer.errors import UserError


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
    """Tell what a path holds: ("json" | "text" | "dump", its files in a fixed order).

    A folder holds WikiExtractor's `wiki_*` files, at any depth. A single file tells by its first
    character.

    Raises:
        UserError: the folder has no such file, or the file is empty.
    """
    if source.is_dir():
        files = sorted(path for path in source.rglob("wiki_*") if path.is_file())
        if not files:
            raise UserError(
                f"{source}: holds no file wiki_*; expected the output folder of "
                "`python -m wikiextractor.WikiExtractor DUMP --json -o FOLDER`"
            )
        return "json", files
    with open_binary(source) as file:
        head = read_some(file, 4096, source).removeprefix(b"\xef\xbb\xbf").lstrip()
    if not head:
        raise UserError(f"{source}: is empty; expected text, JSON lines or a Wikipedia dump")
    if head.startswith((b"<mediawiki", b"<?xml")):
        return "dump", [source]
    return ("json" if head.startswith((b"{", b"<doc ")) else "text"), [source]


def prepare_block(kind: str, parameters, block: Block) -> Prepared:
    """Split a block of a "json" or "text" file into sentences; runs in the workers."""
    splitter = make_splitter(parameters)
    prepared = Prepared()
    documents = _articles(block) if kind == "json" else _paragraph_runs(block, prepared)
    for title, paragraphs in documents:
        sentences = [s for paragraph in paragraphs for s in split_sentences(splitter, paragraph)]
        if not sentences:
            prepared.empty += 1
        elif title is not None and sentences == split_sentences(splitter, title):
            prepared.title_only += 1
        else:
            # JSON may hold half of a surrogate pair, which is no text.
            prepared.documents.append("\n".join(sentences).encode("utf-8", "replace"))
            prepared.sentences += len(sentences)
            # Blanks are single here.
            prepared.words += sum(sentence.count(" ") + 1 for sentence in sentences)
    return prepared


def block_text(kind: str, block: Block) -> str:
    """The text of a block, without splitting: what Punkt learns from."""
    if kind == "text":
        return "\n".join(block.lines())
    return "\n".join(line for _, paragraphs in _articles(block) for line in paragraphs)


def _articles(block: Block) -> Iterator[tuple[str | None, list[str]]]:
    for number, line in enumerate(block.lines(), start=block.first_line):
        if not line.strip():
            continue
        place = f"{block.path}:{number}"
        try:
            article = json.loads(line)
        except (ValueError, RecursionError):
            hint = "run WikiExtractor with --json" if line.startswith("<doc") else "mend or drop it"
            raise UserError(
                f"{place}: is not JSON; expected one object with a text a line, {hint}"
            ) from None
        if not isinstance(article, dict) or not isinstance(article.get("text"), str):
            raise UserError(f'{place}: expected a JSON object with a string under "text"')
        title = article.get("title")
        yield title if isinstance(title, str) else None, article["text"].split("\n")


def _paragraph_runs(block: Block, prepared: Prepared) -> Iterator[tuple[None, list[str]]]:
    lines = block.lines()
    prepared.continues = bool(lines[0].strip())
    prepared.unfinished = bool(lines[-1].strip())
    run: list[str] = []
    for line in [*lines, ""]:
        if line.strip():
            run.append(line)
        elif run:
            yield None, run
            run = []


def join_shares(file: IO[bytes], shares: Iterable[tuple[Path, dict[str, Any]]]) -> int:
    """Put shares together that `joined` wrote without an end; return the number of documents.

    Args:
        shares: (file, {"documents", "blocks", "continues" (its first), "unfinished" (its last)}).
    """
    open_document = started = False
    documents = 0
    for path, facts in shares:
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
