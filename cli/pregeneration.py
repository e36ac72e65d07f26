"""What pregenerate_training_data.py keeps of a run that was stopped, and where it may write."""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tasks.corpus import epoch_key
from tasks.documents import Documents, tokenize_corpus
from tasks.kept_work import content_key, facts_of_done, identity, kept_folder, mark_done
from transformer.errors import UserError
from transformer.file_utils import contents
from transformer.locks import sole_writer
from transformer.progress import progress_bar
from transformer.tokenization import BertTokenizer


@contextlib.contextmanager
def output_folder(args: argparse.Namespace) -> Iterator[Path]:
    """Make --output_dir, or check that it may be written; remove it again if nothing came of it."""
    folder = Path(args.output_dir)
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--output_dir {folder}: is a file; expected a folder")
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with sole_writer(folder):
            present = contents(folder)
            if args.merge_shards:
                present = [name for name in present if not name.startswith("documents.shard-")]
            if present and not (args.overwrite or args.resume):
                raise UserError(
                    f"--output_dir {folder}: is not empty; name another folder, --resume to keep the "
                    "epochs that this command has finished, or --overwrite to replace the epochs in it"
                )
            yield folder
    finally:
        with contextlib.suppress(OSError):
            for path in missing:
                path.rmdir()  # fails, as it should, unless it is empty


def key_of(corpus: Path, tokenizer: BertTokenizer, flags: Mapping[str, Any]) -> str:
    """A name for all that an epoch is made from, but its number."""
    return content_key(
        identity([corpus]), tokenizer.vocab_hash, tokenizer.do_lower_case, dict(flags)
    )


def finished_epochs(args: argparse.Namespace, folder: Path, key: str) -> int:
    """How many epochs, from the first, a stopped run of this command has left; 0 without --resume.

    Raises:
        UserError: the next one is of another command, and may not be replaced.
    """
    done = 0
    while args.resume and done < args.epochs_to_generate:
        found = epoch_key(folder, done)
        if found is not None and found != key and not args.overwrite:
            raise UserError(
                f"--output_dir {folder}: epoch {done} was made by another command or of another corpus; "
                "--overwrite replaces it"
            )
        if found != key:
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
    """Tokenise the corpus, or join its shares, or take what a run that was stopped had made.

    Args:
        join: puts shares together in a folder; None tokenises.
    """
    parent = Path(args.temp_dir or folder)
    if not parent.is_dir():
        raise UserError(f"--temp_dir {parent}: no such folder; make it first")
    key = content_key(
        identity([corpus]), tokenizer.vocab_hash, tokenizer.do_lower_case, str(folder.resolve())
    )
    with kept_folder(parent, ".documents-", key, sole=parent == folder) as scratch:
        facts = facts_of_done(scratch)
        if facts is None:
            documents = join(scratch) if join else tokenize(corpus, tokenizer, scratch)
            mark_done(scratch, **documents.facts())
        else:
            print(f"note: {corpus} was tokenised by a run that was stopped", file=sys.stderr)
            documents = Documents.kept(scratch, facts)
        yield documents


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
