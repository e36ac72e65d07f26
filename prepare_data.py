"""Turn Wikipedia, or any other text, into the plain corpus that pregenerate_training_data.py reads.

    python prepare_data.py
    python prepare_data.py --input data/enwiki-20251101-pages-articles-multistream.xml.bz2
    python prepare_data.py --input books.txt --output corpus.txt --num_workers 8

Reads what WikiExtractor --json wrote (a folder), a raw dump (through the wikiextractor program),
JSON lines with a "text" each, or plain text with a blank line between documents; files may be
compressed with bzip2 or gzip. Writes one sentence a line, a blank line between documents. Articles
without text (redirects) or with nothing but their title are dropped. Sentences are found by Punkt,
with nltk's data where that is installed, else with what Punkt learns from the corpus itself. The
output does not depend on the number of workers.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from functools import partial
from itertools import islice
from pathlib import Path

from tasks.articles import Prepared, block_text, find_files, joined, prepare_block
from tasks.parallel import ordered_map
from tasks.sentences import download_punkt, find_punkt, train_punkt
from tasks.text_files import Block, read_blocks
from tasks.wikiextractor import extract_dump
from transformer.errors import UserError, run_script
from transformer.file_utils import atomic_open, find_input
from transformer.progress import progress_bar

BLOCK_BYTES = 1 << 19
PUNKT_SAMPLE_BYTES = 1 << 21  # Punkt learns from this much, taken evenly from the whole corpus
SAMPLE_BLOCK_BYTES = 1 << 16
WORKER_BYTES = 1 << 22  # a process takes as long to start as some megabytes take to split


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a value that cannot work is a UserError."""
    parser = argparse.ArgumentParser(
        description=__doc__.split("\n")[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    paths = parser.add_argument_group("paths")
    paths.add_argument(
        "--input",
        default="data/extracted_wiki",
        help="WikiExtractor's folder, a dump, JSON lines or plain text",
    )
    paths.add_argument("--output", default="wiki_for_bert.txt", help="file to write")
    paths.add_argument("--temp_dir", help="where a dump is extracted; None: the folder of --output")
    sentences = parser.add_argument_group("sentences")
    sentences.add_argument("--language", default="english", help="of nltk's Punkt data")
    sentences.add_argument("--punkt_dir", help="folder with nltk's punkt_tab data")
    sentences.add_argument(
        "--download_punkt", action="store_true", help="fetch nltk's punkt_tab data first"
    )
    runtime = parser.add_argument_group("runtime")
    runtime.add_argument(
        "--num_workers", type=int, default=os.cpu_count() or 1, help="most processes to use"
    )
    runtime.add_argument(
        "--no_templates",
        action="store_true",
        help="a dump's templates are not expanded: much faster, some text is lost",
    )
    args = parser.parse_args(argv)
    if args.num_workers < 1:
        raise UserError(f"--num_workers {args.num_workers}: expected 1 or more")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    source = find_input(
        args.input, "a folder written by WikiExtractor --json, a dump, JSON lines or plain text"
    )
    output = Path(args.output)
    if output.is_dir():
        raise UserError(f"--output {output}: is a folder; expected the name of a file")
    kind, files = find_files(source)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(
        prefix=".extracted-", dir=args.temp_dir or output.parent
    ) as scratch:
        if kind == "dump":
            extract_dump(source, scratch, args.num_workers, templates=not args.no_templates)
            kind, files = find_files(Path(scratch))
        parameters = choose_punkt(args, kind, files)
        write_corpus(args, kind, files, parameters, output)
    return 0


def choose_punkt(args: argparse.Namespace, kind: str, files: list[Path]):
    """Load Punkt's data or train it, and say which."""
    if args.download_punkt:
        download_punkt()
    found = find_punkt(args.language, args.punkt_dir)
    if found is not None:
        parameters, place = found
        print(f"sentences: Punkt with the data in {place}")
        return parameters
    print(
        f"sentences: nltk has no Punkt data for {args.language} here; training Punkt on up to "
        f"{PUNKT_SAMPLE_BYTES >> 20} MB of the corpus (--punkt_dir or --download_punkt for data)",
        flush=True,
    )
    total = sum(path.stat().st_size for path in files)
    step = max(1, total // PUNKT_SAMPLE_BYTES)
    blocks = (block for path in files for block in read_blocks(path, SAMPLE_BLOCK_BYTES))
    sample = islice(blocks, 0, None, step)
    return train_punkt(
        block_text(kind, block)
        for block in islice(sample, PUNKT_SAMPLE_BYTES // SAMPLE_BLOCK_BYTES)
    )


def write_corpus(
    args: argparse.Namespace, kind: str, files: list[Path], parameters, output: Path
) -> None:
    """Write the corpus and say what it holds."""
    counts = {"documents": 0, "sentences": 0, "words": 0, "empty": 0, "title_only": 0}

    def counted(results: Iterator[Prepared]) -> Iterator[Prepared]:
        for result in results:
            for name in ("sentences", "words", "empty", "title_only"):
                counts[name] += getattr(result, name)
            yield result

    def count_document() -> None:
        counts["documents"] += 1

    def blocks(bar) -> Iterator[Block]:
        for path in files:
            for block in read_blocks(path, BLOCK_BYTES):
                yield block
                bar.update(len(block.data))

    total = sum(path.stat().st_size for path in files)
    workers = min(args.num_workers, 1 + total // WORKER_BYTES)
    work = partial(prepare_block, kind, parameters)
    with progress_bar(total, "B", "splitting") as bar, atomic_open(output, "wb") as file:
        with contextlib.closing(ordered_map(work, blocks(bar), workers)) as results:
            for piece in joined(counted(results), count_document):
                file.write(piece)
        if not counts["documents"]:
            raise UserError(f"{args.input}: holds no text; expected articles or documents")
    print(
        f"{output}: {counts['documents']:,} documents, {counts['sentences']:,} sentences, "
        f"{counts['words']:,} words; dropped: {counts['empty']:,} without text, "
        f"{counts['title_only']:,} with a title only"
    )


if __name__ == "__main__":
    run_script(main)
