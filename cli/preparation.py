"""What prepare_data.py foresees of its work with --dry_run."""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cli.plan import of_size, print_facts
from corpus.articles import Reading, find_files, prepare_block
from corpus.text_files import open_binary, read_some, unpacked_size
from corpus.wikiextractor import extract_dump
from distillation.forecast import duration
from files.errors import UserError

DUMP_SAMPLE_BYTES = 1 << 24  # unpacked
SAMPLE_SECONDS = 3.0
_PAGE_END = b"</page>"


def foresee(
    args: argparse.Namespace,
    source: Path,
    kind: str,
    files: list[Path],
    share: float,
    look_at: Callable[[str, list[Path]], tuple[Reading, Any]],
    workers_for: Callable[[int], int],
    block_bytes: int,
) -> None:
    """Do a small part of the work, in a temporary folder, and say what the whole will take.

    Args:
        share: of the files that is to be done.
        look_at: says how the files of a kind are read, and gives Punkt's parameters for them.
        workers_for: how many processes split so many bytes.
    """
    size = (
        share
        * sum(map(os.path.getsize, files))
        * unpacked_size(files[0])
        / os.path.getsize(files[0])
    )
    facts = {"input": f"{source}: {of_size(size)} of {WHAT[kind]}"}
    expected = []
    with contextlib.ExitStack() as stack:
        if kind == "dump":
            scratch = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            part = first_pages(source, scratch / "part.xml")
            start = time.perf_counter()
            extract_dump(part, scratch / "text", args.num_workers, not args.no_templates)
            factor = size / part.stat().st_size
            seconds = factor * (time.perf_counter() - start)
            expected.append((seconds, "to extract the dump"))
            facts["extracted"] = f"its first {of_size(part.stat().st_size)}"
            kind, files = find_files(scratch / "text")
            size = factor * sum(map(os.path.getsize, files))
        start = time.perf_counter()
        reading, parameters = look_at(kind, files)
        learning = time.perf_counter() - start
        start = time.perf_counter()
        read = sentences = written = 0
        blocks = (block for path in files for block in reading.blocks(path, block_bytes))
        for block in blocks:
            prepared = prepare_block(reading, parameters, block)
            read += len(block.data)
            sentences += prepared.sentences
            written += sum(map(len, prepared.documents))
            if time.perf_counter() - start > SAMPLE_SECONDS:
                break
        seconds = (time.perf_counter() - start) * size / read
    if not sentences and read >= size:
        raise UserError(f"{source}: holds no text; expected articles or documents")
    count = workers_for(int(size))
    expected.append((learning + seconds / count, "to find the sentences"))
    facts["measured"] = f"{of_size(read)} of text: {sentences:,} sentences"
    facts["output"] = (
        f"{args.output}: about {sentences * size / read:,.0f} sentences, {of_size(written * size / read)}"
    )
    parts = ", ".join(f"{duration(seconds)} {what}" for seconds, what in expected)
    total = duration(sum(seconds for seconds, _ in expected))
    facts["expected"] = f"about {total} in {count} process{'es' * (count > 1)}: {parts}"
    print_facts("preparation of a corpus", facts)


WHAT = {
    "dump": "MediaWiki XML",
    "json": "JSON lines",
    "records": "JSON",
    "text": "plain text",
}


def first_pages(dump: Path, path: Path) -> Path:
    """Write a small dump, plain, of the whole pages at the beginning of a large one."""
    with open_binary(dump) as file:
        data = read_some(file, DUMP_SAMPLE_BYTES, dump)
        end = data.rfind(_PAGE_END)
        if end >= 0 and len(data) == DUMP_SAMPLE_BYTES:
            data = data[: end + len(_PAGE_END)] + b"\n</mediawiki>\n"
    path.write_bytes(data)
    return path
