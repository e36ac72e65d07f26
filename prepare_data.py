"""Turn Wikipedia, or any other text, into the plain corpus that pregenerate_training_data.py reads.

    python prepare_data.py
    python prepare_data.py --input data/enwiki-20251101-pages-articles-multistream.xml.bz2
    python prepare_data.py --input books.txt --output corpus.txt --num_workers 8

Reads what WikiExtractor --json wrote (a folder), a raw dump (through the wikiextractor program),
JSON with a "text" in each object (one object a line, an array, or objects over several lines), or
plain text with a blank line between documents; files may be compressed with bzip2, gzip or xz. Writes
one sentence a line, a blank line between documents. Articles without text (redirects) or with nothing
but their title are dropped. WikiExtractor's entities (&amp;) are unescaped; where plain text is wrapped
at a width, lines within paragraphs are joined. Sentences are found by Punkt, with nltk's data where that
is installed, else with what Punkt learns from the corpus itself. The output does not depend on the
number of workers, nor of shards (--shard 1/8 … --shard 8/8, then --merge_shards 8). What a killed or
stopped run has done is kept beside the output; the same command with --resume continues from there.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

from cli.data_flags import add_shard_flags, check_shard_flags
from cli.help import script_parser
from cli.plan import add_dry_run_flag, say_untouched
from cli.preparation import foresee
from corpus.articles import (
    Prepared,
    Reading,
    block_text,
    choose_reading,
    find_files,
    join_shards,
    joined,
    prepare_block,
)
from corpus.sentences import download_punkt, find_punkt, punkt_checksum, train_punkt
from corpus.text_files import Block, is_compressed, shard_of_files
from corpus.wikiextractor import extract_dump
from files.atomic import atomic_open, check_no_input, check_writable, find_input
from files.checksums import content_key, joint_checksum
from files.errors import UserError, run_script
from files.kept_work import facts_of_done, identity, kept_folder, mark_done
from files.locks import sole_writer
from files.parallel import ordered_map
from files.progress import progress_bar
from files.resumable import unfinished
from files.shards import check_shard, finish_shard, finished_shards, remove_shards

BLOCK_BYTES = 1 << 19
PUNKT_SAMPLE_BYTES = 1 << 21  # Punkt learns from this much, taken evenly from the whole corpus
SAMPLE_BLOCK_BYTES = 1 << 16
TEXT_FLAGS = ("text_field", "entities", "keep_line_breaks")
FORM = (
    3  # of the output: raised where the same input gives another one, which no stopped run may mix
)
COUNTED = ("sentences", "words", "empty", "title_only")
WORKER_BYTES = 1 << 22  # a process takes as long to start as some megabytes take to split


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a value that cannot work is a UserError."""
    parser = script_parser(__doc__)
    paths = parser.add_argument_group("inputs and output")
    paths.add_argument(
        "--input",
        default="data/extracted_wiki",
        help="WikiExtractor's folder, a dump, JSON or plain text",
    )
    paths.add_argument("--output", default="wiki_for_bert.txt", help="file to write")
    paths.add_argument(
        "--resume",
        action="store_true",
        help="resume where a stopped run of the same command left off",
    )
    paths.add_argument(
        "--temp_dir", help="where a dump is extracted (default: the folder of --output)"
    )
    text = parser.add_argument_group("text")
    text.add_argument("--text_field", default="text", help="name of the text in a JSON object")
    text.add_argument(
        "--entities",
        choices=("auto", "unescape", "keep"),
        default="auto",
        help="HTML's, such as &amp;. auto: unescape, once, what WikiExtractor has escaped; unescape: all "
        "that HTML has, once",
    )
    text.add_argument(
        "--keep_line_breaks",
        action="store_true",
        help="each line end ends a sentence, also where the text is wrapped at a width",
    )
    sentences = parser.add_argument_group("sentences")
    sentences.add_argument(
        "--language", default="english", help="which of nltk's Punkt data to use"
    )
    sentences.add_argument("--punkt_dir", help="folder with nltk's punkt_tab data")
    sentences.add_argument(
        "--download_punkt", action="store_true", help="fetch nltk's punkt_tab data first"
    )
    runtime = parser.add_argument_group("running")
    runtime.add_argument(
        "--num_workers",
        type=int,
        default=os.cpu_count() or 1,
        help="maximum number of processes (default: one per core)",
    )
    runtime.add_argument(
        "--no_templates",
        action="store_true",
        help="a dump's templates are not expanded: much faster, some text is lost",
    )
    add_dry_run_flag(runtime)
    add_shard_flags(runtime)
    args = parser.parse_args(argv)
    check_shard_flags(args)
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
    check_no_input("output", output, files)
    if args.temp_dir and not Path(args.temp_dir).is_dir():
        raise UserError(f"--temp_dir {args.temp_dir}: no such folder; make it first")
    if args.punkt_dir:  # wanted after a dump's extraction, which takes hours
        find_punkt(args.language, args.punkt_dir)
    if not args.dry_run:
        output.parent.mkdir(parents=True, exist_ok=True)
    if args.shard or args.merge_shards:
        if kind == "dump":
            raise UserError(f"{source}: is a dump; extract it first, then shard the folder's files")
        if len(files) == 1 and is_compressed(files[0]):
            raise UserError(f"{source}: one compressed file cannot be sharded; unpack it first")
        if kind == "records":
            raise UserError(
                f"{source}: JSON on several lines, or an array, cannot be sharded; write one object a line"
            )
        job = {"input_checksum": joint_checksum(files), "language": args.language}
        job |= {name: getattr(args, name) for name in TEXT_FLAGS}
        if args.merge_shards and args.dry_run:
            finished_shards(output, args.merge_shards, job)
            say_untouched(output)
            return 0
        if args.merge_shards:
            with sole_writer(output):
                merge(args, output, job)
            return 0
    if args.dry_run:
        check_writable(output.parent, "output")
        share = 1 / args.shard.count if args.shard else 1
        foresee(
            args, source, kind, files, share, partial(look_at, args), partial(processes, args),
            BLOCK_BYTES,
        )  # fmt: skip
        say_untouched(output)
        return 0
    if args.shard:
        write_shard(args, kind, files, output, job)
    else:
        write_whole(args, source, kind, files, output)
    return 0


def write_shard(
    args: argparse.Namespace, kind: str, files: list[Path], output: Path, job: dict[str, Any]
) -> None:
    """Write a shard of the corpus, for --merge_shards."""
    reading, parameters = look_at(args, kind, files)
    job = {**job, "punkt_checksum": punkt_checksum(parameters)}
    part, path = shard_of_files(files, *args.shard), args.shard.path(output)
    made_from = {"input_checksum": content_key(identity(files))}
    made_from["shard"] = f"{args.shard.index}/{args.shard.count}"
    with sole_writer(path):
        check_shard(output, args.shard, job)
        facts = write_corpus(args, reading, part, parameters, path, made_from)
        finish_shard(output, args.shard, job, facts)


def write_whole(
    args: argparse.Namespace, source: Path, kind: str, files: list[Path], output: Path
) -> None:
    """Write the corpus, after the extraction of a dump."""
    with sole_writer(output), contextlib.ExitStack() as stack:
        made_from = {"input_checksum": content_key(identity(files))}
        made_from["no_templates"] = args.no_templates
        if kind == "dump":
            made_here = {**made_from, "output": str(output.resolve())}
            parent = args.temp_dir or output.parent
            folder = stack.enter_context(kept_folder(parent, ".extracted-", made_here, sole=False))
            if facts_of_done(folder) is None:
                extract_dump(source, folder, args.num_workers, templates=not args.no_templates)
                mark_done(folder, made_here)
            else:
                print(f"note: {source} was extracted by a run that was stopped", file=sys.stderr)
            kind, files = find_files(folder)
        reading, parameters = look_at(args, kind, files)
        whole = [(path, None) for path in files]
        write_corpus(args, reading, whole, parameters, output, made_from)


def processes(args: argparse.Namespace, size: int) -> int:
    """How many processes split so many bytes."""
    return min(args.num_workers, 1 + size // WORKER_BYTES)


def merge(args: argparse.Namespace, output: Path, job: dict[str, Any]) -> None:
    """Put finished shards together."""
    shards = finished_shards(output, args.merge_shards, job)
    with atomic_open(output, "wb") as file:
        documents = join_shards(file, shards)
        if not documents:
            raise UserError(f"{args.input}: holds no text; expected articles or documents")
    remove_shards(output, args.merge_shards)
    counts = {name: sum(facts[name] for _, facts in shards) for name in COUNTED}
    say_counts(output, counts | {"documents": documents})


def look_at(args: argparse.Namespace, kind: str, files: list[Path]):
    """Decide how the text is read and how its sentences are found: the reading, Punkt's parameters."""
    reading, notes = choose_reading(
        kind, files, args.text_field, args.entities, args.keep_line_breaks
    )
    for note in notes:
        print(note)
    return reading, choose_punkt(args, reading, files)


def choose_punkt(args: argparse.Namespace, reading: Reading, files: list[Path]):
    """Load Punkt's data or train it, and say which."""
    if args.download_punkt and not args.dry_run:
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
    blocks = (block for path in files for block in reading.blocks(path, SAMPLE_BLOCK_BYTES))
    sample = islice(blocks, 0, None, step)
    return train_punkt(
        block_text(reading, block)
        for block in islice(sample, PUNKT_SAMPLE_BYTES // SAMPLE_BLOCK_BYTES)
    )


def write_corpus(
    args: argparse.Namespace,
    reading: Reading,
    parts: Sequence[tuple[Path, range | None]],
    parameters,
    output: Path,
    made_from: Mapping[str, Any],
) -> dict[str, Any]:
    """Write the corpus, or a shard of it without an end, and say what it holds.

    Args:
        made_from: what tells `parts` from others: names and plain values.
    """
    made_from = {**made_from, **{name: getattr(args, name) for name in TEXT_FLAGS}}
    made_from |= {"punkt_checksum": punkt_checksum(parameters), "nltk": metadata.version("nltk")}
    made_from["block_bytes"] = BLOCK_BYTES
    total = sum(os.path.getsize(path) if within is None else len(within) for path, within in parts)
    workers = processes(args, total)
    work = partial(prepare_block, reading, parameters)
    with (
        unfinished(output, made_from, args.resume) as file,
        progress_bar(total, "B", "splitting") as bar,
    ):
        counts = file.facts or dict.fromkeys(("documents", "blocks", *COUNTED), 0) | {
            "continues": False,
            "unfinished": False,
        }

        def blocks() -> Iterator[Block]:
            done = counts["blocks"]
            for path, within in parts:
                for block in reading.blocks(path, BLOCK_BYTES, within):
                    if done:
                        done -= 1
                    else:
                        yield block
                    bar.update(len(block.data))

        def counted(results: Iterator[Prepared]) -> Iterator[Prepared]:
            for result in results:
                if not counts["blocks"]:
                    counts["continues"] = result.continues
                counts["blocks"] += 1
                counts["unfinished"] = result.unfinished
                for name in COUNTED:
                    counts[name] += getattr(result, name)
                yield result
                file.mark(dict(counts))  # who asks for the next block has written this one

        def count_document() -> None:
            counts["documents"] += 1

        with contextlib.closing(ordered_map(work, blocks(), workers)) as results:
            for chunk in joined(
                counted(results), count_document, b"" if args.shard else b"\n",
                started=counts["documents"] > 0, open_document=counts["unfinished"],
            ):  # fmt: skip
                file.write(chunk)
        if not counts["documents"] and not args.shard:
            raise UserError(f"{args.input}: holds no text; expected articles or documents")
    say_counts(output, counts)
    return counts


def say_counts(output: Path, counts: Mapping[str, int]) -> None:
    """Tell what a corpus holds."""
    print(
        f"{output}: {counts['documents']:,} documents, {counts['sentences']:,} sentences, "
        f"{counts['words']:,} words; dropped: {counts['empty']:,} without text, "
        f"{counts['title_only']:,} with a title only"
    )


if __name__ == "__main__":
    run_script(main)
