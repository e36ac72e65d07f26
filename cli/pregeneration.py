"""What pregenerate_training_data.py keeps of a stopped run, where it writes, what it foresees."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from cli.plan import folder_bytes, of_size, print_facts
from corpus.documents import Documents, tokenize_corpus
from corpus.epoch_writing import write_epoch, write_json_epoch
from corpus.epochs import epoch_origin
from corpus.sentence_pairs import Examples, PairRecipe, make_examples
from corpus.text_files import unpacked_size
from distillation.forecast import duration
from files.atomic import check_writable, contents
from files.checksums import content_key
from files.errors import UserError
from files.kept_work import differences, facts_of_done, identity, kept_folder, mark_done
from files.locks import sole_writer
from files.progress import progress_bar
from transformer.tokenization import BertTokenizer

SAMPLE_READS = 3  # of two megabytes


@contextlib.contextmanager
def output_folder(args: argparse.Namespace) -> Iterator[Path]:
    """Make --output_dir, or check that it may be written; remove it again if nothing came of it."""
    folder = Path(args.output_dir)
    check_writable(folder)
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with sole_writer(folder):
            check_contents(args, folder)
            yield folder
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()  # fails, as it should, unless it is empty


def check_contents(args: argparse.Namespace, folder: Path) -> None:
    """Refuse a folder that holds something, unless that may be resumed or replaced."""
    present = contents(folder)
    if args.merge_shards:
        present = [name for name in present if not name.startswith("documents.shard-")]
    if present and not (args.overwrite or args.resume):
        raise UserError(
            f"--output_dir {folder}: is not empty; name another folder, --resume to keep the "
            "epochs that this command has finished, or --overwrite to replace the epochs in it"
        )


def origin_of(corpus: Path, tokenizer: BertTokenizer, flags: Mapping[str, Any]) -> dict[str, Any]:
    """All that an epoch is made from, but its number: names and plain values."""
    return {
        "corpus_checksum": content_key(identity([corpus])),
        "vocabulary_checksum": tokenizer.vocab_hash,
        "do_lower_case": tokenizer.do_lower_case,
        "tokenizer": tokenizer.describe(),
        **flags,
    }


def finished_epochs(args: argparse.Namespace, folder: Path, made_from: Mapping[str, Any]) -> int:
    """How many epochs, from the first, a stopped run of this command has left; 0 without --resume.

    Raises:
        UserError: the next one is of another command, and may not be replaced.
    """
    done = 0
    while args.resume and done < args.epochs_to_generate:
        found = epoch_origin(folder, done)
        differs = differences(found, made_from) if found is not None else ""
        if differs and not args.overwrite:
            raise UserError(
                f"--output_dir {folder}: epoch {done} was made by another command or of another corpus "
                f"({differs}); give the flags it was made with, or --overwrite to replace it"
            )
        if found is None or differs:
            break
        done += 1
    if done:
        print(f"{folder}: {done} of {args.epochs_to_generate} epochs are finished", flush=True)
    return done


@contextlib.contextmanager
def kept_documents(
    args: argparse.Namespace,
    corpus: Path,
    tokenizer: BertTokenizer,
    folder: Path,
    join: Callable[[Path], Documents] | None,
) -> Iterator[Documents]:
    """Tokenise the corpus, or join its shards, or take what a run that was stopped had made.

    Args:
        join: puts shards together in a folder; None tokenises.
    """
    parent = Path(args.temp_dir or folder)
    check_temp_dir(args)
    made_from = origin_of(corpus, tokenizer, {"output_dir": str(folder.resolve())})
    sole = parent == folder
    with kept_folder(parent, ".documents-", made_from, sole, args.overwrite) as scratch:
        facts = facts_of_done(scratch)
        if facts is None:
            documents = join(scratch) if join else tokenize(corpus, tokenizer, scratch)
            mark_done(scratch, made_from, **documents.facts())
        else:
            print(f"note: {corpus} was tokenised by a run that was stopped", file=sys.stderr)
            documents = Documents.kept(scratch, facts)
        yield documents


def check_temp_dir(args: argparse.Namespace) -> None:
    """Refuse a --temp_dir that is not there."""
    if args.temp_dir and not Path(args.temp_dir).is_dir():
        raise UserError(f"--temp_dir {args.temp_dir}: no such folder; make it first")


def check_documents(args: argparse.Namespace, corpus: Path, documents: Documents) -> None:
    """Refuse a corpus without another document to draw second texts from."""
    if documents.num_documents == 1 and not args.one_seq:
        raise UserError(
            f"{corpus}: is a single document, but half the second texts come from another "
            "one; put blank lines between documents, or use --one_seq"
        )


def foresee(
    args: argparse.Namespace,
    corpus: Path,
    tokenizer: BertTokenizer,
    recipe: PairRecipe,
    write_part: Callable[[Path, Iterator[Examples], Documents], Mapping[str, Any]],
    done: int,
) -> None:
    """Do the first megabytes of the corpus, in a temporary folder, and say what the whole will take.

    Args:
        write_part: writes examples into a folder as an epoch; returns its metrics.
        done: epochs that are finished.
    """
    size = unpacked_size(corpus)
    own = len(args.shard.part(size)) if args.shard else size
    read = 0

    def count(num_bytes: int) -> None:
        nonlocal read
        read += num_bytes

    with tempfile.TemporaryDirectory() as name:
        scratch, start = Path(name), time.perf_counter()
        documents = tokenize_corpus(corpus, tokenizer, scratch, count, reads=SAMPLE_READS)
        tokenized, kept = time.perf_counter(), folder_bytes(scratch)
        if read == size:
            check_documents(args, corpus, documents)
        # Of a long document its beginning may be all there is here.
        recipe = replace(recipe, one_seq=recipe.one_seq or documents.num_documents == 1)
        blocks = range(len(documents.blocks) - 1)
        made = (make_examples(documents, recipe, 0, block) for block in blocks)
        (scratch / "epoch").mkdir()
        rows = write_part(scratch / "epoch", made, documents)["num_training_examples"]
        paired, written = time.perf_counter(), folder_bytes(scratch / "epoch")
        # The facts of an epoch take as much of a small corpus as of a large one.
        noted = sum(path.stat().st_size for path in (scratch / "epoch").glob("*_metrics.json"))

    factor, epochs = own / read, args.epochs_to_generate - done
    expected = (written - noted) * factor + noted
    tokenizing = (tokenized - start) * factor
    pairs = (paired - tokenized) * factor * epochs / min(args.num_workers, os.cpu_count() or 1)
    facts = {
        "corpus": f"{corpus}: {of_size(size)} of text, about {documents.num_tokens * size / read:,.0f} "
        f"tokens",
        "measured": f"its first {of_size(read)}",
    }
    if args.shard:
        facts["shard"] = f"{args.shard.index} of {args.shard.count}, {of_size(own)} of the text"
        facts["expected"] = f"about {duration(tokenizing)} to tokenise it, {of_size(kept * factor)}"
    else:
        tokenizing *= not args.merge_shards  # the shards are
        facts["epochs"] = (
            f"{epochs} of about {rows * factor:,.0f} sequences and {of_size(expected)} each, "
            f"and {of_size(kept * factor)} on the way"
        )
        facts["expected"] = (
            f"about {duration(tokenizing + pairs)}: {duration(tokenizing)} to tokenise, "
            f"{duration(pairs)} for the pairs"
        )
    print_facts("pregeneration", facts)


def tokenize(corpus: Path, tokenizer: BertTokenizer, folder: Path) -> Documents:
    """Tokenise the corpus with a progress bar and say what it holds."""
    start = time.perf_counter()
    size = corpus.stat().st_size if corpus.is_file() else None
    with progress_bar(size, "B", "tokenizing") as bar:
        documents = tokenize_corpus(corpus, tokenizer, folder, bar.update)
    rate = documents.num_tokens / (time.perf_counter() - start)
    print(
        f"corpus: {documents.num_documents:,} documents, {documents.num_sentences:,} sentences, "
        f"{documents.num_tokens:,} tokens; {rate:,.0f} tokens/s"
    )
    return documents


def write_one(
    args: argparse.Namespace,
    folder: Path,
    epoch: int,
    parts: Iterator[Examples],
    tokenizer: BertTokenizer,
    documents: Documents,
    made_from: Mapping[str, Any],
) -> dict[str, Any]:
    """Write one epoch in the chosen format; return its metrics."""
    if args.format == "json":
        vocabulary = tokenizer.ids_to_tokens
        return write_json_epoch(folder, epoch, parts, vocabulary, args.max_seq_len, made_from)
    facts = {
        "max_seq_len": args.max_seq_len,
        "vocab_hash": tokenizer.vocab_hash,
        "vocab_size": len(tokenizer),
        "do_lower_case": tokenizer.do_lower_case,
        "masked_lm_prob": args.masked_lm_prob,
        "short_seq_prob": args.short_seq_prob,
        "one_seq": args.one_seq,
        "seed": args.seed,
        "documents": documents.num_documents,
        "made_from": made_from,
    }
    masked = args.masked_lm_prob > 0
    return write_epoch(folder, epoch, parts, documents.dtype, masked, facts)


def make_recipe(args: argparse.Namespace, tokenizer: BertTokenizer) -> PairRecipe:
    """Collect what determines the examples, besides the documents."""
    continuation = None
    if args.do_whole_word_mask:
        continuation = np.array([token.startswith("##") for token in tokenizer.ids_to_tokens])
    return PairRecipe(
        max_seq_len=args.max_seq_len,
        short_seq_prob=args.short_seq_prob,
        one_seq=args.one_seq,
        seed=args.seed,
        cls_id=tokenizer.cls_id,
        sep_id=tokenizer.sep_id,
        mask_id=tokenizer.require_mask() if args.masked_lm_prob > 0 else tokenizer.unk_id,
        vocab_size=len(tokenizer),
        masked_lm_prob=args.masked_lm_prob,
        max_predictions_per_seq=args.max_predictions_per_seq,
        continuation=continuation,
    )
