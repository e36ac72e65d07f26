"""Turn a plain text corpus into the sentence pairs of general distillation.

    python pregenerate_training_data.py --train_corpus wiki_for_bert.txt \\
        --bert_model models/bert-base-uncased --do_lower_case --epochs_to_generate 3 \\
        --output_dir data/json_wiki

The corpus has one sentence a line and a blank line between documents (prepare_data.py writes it).
Each epoch pairs the sentences again, as in BERT's pre-training; with the default --masked_lm_prob 0
nothing is masked, as TinyBERT's general distillation wants it. The documents are tokenised once,
into memory-mapped files: neither memory nor --num_workers limits the corpus, and the result does
not depend on them. corpus/epochs.py tells what is written. Tokenising, the longest part, can be
shared among jobs: --shard 1/8 … --shard 8/8, then --merge_shards 8, which makes the pairs.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from cli.data_flags import add_shard_flags, check_shard_flags
from cli.help import script_parser
from cli.plan import add_dry_run_flag, say_untouched
from cli.pregeneration import (
    check_contents,
    check_documents,
    check_temp_dir,
    finished_epochs,
    foresee,
    kept_documents,
    make_recipe,
    origin_of,
    output_folder,
    write_one,
)
from corpus.documents import Documents, check_corpus_text, join_shards, tokenize_shard
from corpus.epoch_writing import remove_epochs
from corpus.sentence_pairs import MIN_SEQ_LEN, Examples, PairRecipe, make_examples
from corpus.text_files import is_compressed
from corpus.token_store import MAX_SEQUENCE
from files.atomic import check_writable, find_input
from files.checksums import joint_checksum
from files.errors import UserError, run_script
from files.locks import sole_writer
from files.parallel import ordered_map
from files.progress import progress_bar
from files.shards import check_shard, finish_shard, finished_shards, remove_shards
from transformer.tokenization import BertTokenizer


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; a value that cannot work is a UserError."""
    parser = script_parser(__doc__)
    paths = parser.add_argument_group("inputs and output")
    paths.add_argument("--train_corpus", required=True, help="one sentence a line, UTF-8")
    paths.add_argument("--output_dir", required=True, help="folder to write; must be empty")
    paths.add_argument(
        "--bert_model", "--model", required=True, help="model folder whose vocabulary to use"
    )
    paths.add_argument("--overwrite", action="store_true", help="replace epochs in --output_dir")
    paths.add_argument(
        "--resume",
        action="store_true",
        help="keep the epochs that a run of the same command had finished",
    )
    paths.add_argument(
        "--temp_dir",
        help="for the tokenised corpus, 2 bytes a token (default: --output_dir)",
    )
    paths.add_argument(
        "--format",
        choices=("flat", "json"),
        default="flat",
        help="flat: memory-mapped arrays; json: the published format, six times the size",
    )

    pairs = parser.add_argument_group("pairs")
    pairs.add_argument(
        "--epochs_to_generate", type=int, default=3, help="number of epochs (pairings) to make"
    )
    pairs.add_argument(
        "--max_seq_len", type=int, default=128, help="maximum number of tokens in a sequence"
    )
    pairs.add_argument(
        "--short_seq_prob",
        type=float,
        default=0.1,
        help="fraction of documents cut to a random shorter length",
    )
    pairs.add_argument(
        "--one_seq",
        action="store_true",
        help="the second text always continues the first; none is drawn from another document",
    )
    pairs.add_argument(
        "--do_lower_case",
        action="store_true",
        help="lower-case the text; without it the model folder decides",
    )
    pairs.add_argument("--seed", type=int, default=42, help="random seed")

    masking = parser.add_argument_group("masking")
    masking.add_argument(
        "--masked_lm_prob", type=float, default=0.0, help="fraction of tokens masked"
    )
    masking.add_argument(
        "--max_predictions_per_seq",
        type=int,
        default=20,
        help="maximum number of masked tokens in a sequence",
    )
    masking.add_argument(
        "--do_whole_word_mask", action="store_true", help="mask all tokens of a word or none"
    )

    runtime = parser.add_argument_group("running")
    runtime.add_argument("--num_workers", type=int, default=1, help="processes that make pairs")
    add_dry_run_flag(runtime)
    add_shard_flags(runtime)
    ignored = parser.add_argument_group("accepted and ignored")
    ignored.add_argument(
        "--reduce_memory", action="store_true", help="documents are always kept on disk"
    )
    ignored.add_argument(
        "--data_url", default="", help="ignored; it served the authors' private cloud"
    )

    args = parser.parse_args(argv)
    check_shard_flags(args)
    for flag, low, high in (
        ("max_seq_len", MIN_SEQ_LEN, MAX_SEQUENCE),
        ("epochs_to_generate", 1, 10**6),
        ("num_workers", 1, 10**4),
        ("max_predictions_per_seq", 1, MAX_SEQUENCE),
        ("short_seq_prob", 0, 1),
        ("masked_lm_prob", 0, 1),
    ):
        if not low <= getattr(args, flag) <= high:
            value = getattr(args, flag)
            raise UserError(f"--{flag} {value}: expected a value from {low} to {high}")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if args.data_url:
        print("note: --data_url is ignored: it named a private cloud", file=sys.stderr)
    if args.do_whole_word_mask and args.masked_lm_prob == 0:
        print("note: nothing is masked at --masked_lm_prob 0, words or tokens", file=sys.stderr)
    corpus = find_input(args.train_corpus, "a text file, one sentence a line")
    if corpus.is_file() and (warning := check_corpus_text(corpus)):
        print(f"warning: {warning}", file=sys.stderr)
    tokenizer = BertTokenizer.from_pretrained(args.bert_model, args.do_lower_case or None)
    recipe = make_recipe(args, tokenizer)

    job: dict[str, Any] = {}
    if args.shard or args.merge_shards:
        if is_compressed(corpus):
            raise UserError(f"{corpus}: one compressed file cannot be sharded; unpack it first")
        job = make_job(args, corpus, tokenizer)
    flags = {name: getattr(args, name) for name in RECIPE if name != "epochs_to_generate"}
    made_from = origin_of(corpus, tokenizer, flags)
    if args.dry_run:
        dry_run(args, corpus, tokenizer, recipe, made_from, job)
        return 0
    if args.shard:
        write_shard(args, corpus, tokenizer, job)
        return 0
    with output_folder(args) as folder:
        done = finished_epochs(args, folder, made_from)
        if done == args.epochs_to_generate:
            return 0
        join = None
        if args.merge_shards:
            shards = finished_shards(shard_name(folder), args.merge_shards, job)
            join = partial(join_shards, shards, tokenizer, corpus=corpus)
        with kept_documents(args, corpus, tokenizer, folder, join) as documents:
            check_documents(args, corpus, documents)
            remove_epochs(folder, keep=done)
            make_part = partial(make_block, documents, recipe)
            num_blocks = len(documents.blocks) - 1
            epochs = range(done, args.epochs_to_generate)
            todo = [(epoch, block) for epoch in epochs for block in range(num_blocks)]
            with contextlib.closing(ordered_map(make_part, todo, args.num_workers)) as parts:
                for epoch in epochs:
                    chunks = islice(parts, num_blocks)
                    write(args, folder, epoch, chunks, tokenizer, documents, made_from)
        if args.merge_shards:
            remove_shards(shard_name(folder), args.merge_shards)
    print(f"{folder}: {args.epochs_to_generate} epoch{'s' * (args.epochs_to_generate > 1)}")
    return 0


def dry_run(
    args: argparse.Namespace,
    corpus: Path,
    tokenizer: BertTokenizer,
    recipe: PairRecipe,
    made_from: Mapping[str, Any],
    job: Mapping[str, Any],
) -> None:
    """Look at what the run looks at, and measure a small part of it."""
    folder, done = Path(args.output_dir), 0
    check_writable(folder)
    check_temp_dir(args)
    if not args.shard:
        check_contents(args, folder)
        done = finished_epochs(args, folder, made_from)
    if args.merge_shards:
        finished_shards(shard_name(folder), args.merge_shards, job)

    def write_part(place: Path, parts: Iterator[Examples], documents: Documents) -> dict[str, Any]:
        return write_one(args, place, 0, parts, tokenizer, documents, made_from)

    if done < args.epochs_to_generate:
        foresee(args, corpus, tokenizer, recipe, write_part, done)
    say_untouched(folder)


# What makes the examples: shards of one job agree on it.
RECIPE = (
    "epochs_to_generate", "max_seq_len", "short_seq_prob", "one_seq", "seed", "masked_lm_prob",
    "max_predictions_per_seq", "do_whole_word_mask", "format",
)  # fmt: skip


def make_job(args: argparse.Namespace, corpus: Path, tokenizer: BertTokenizer) -> dict[str, Any]:
    """Collect what all shards must have in common."""
    own = {"vocabulary_checksum": tokenizer.vocab_hash, "do_lower_case": tokenizer.do_lower_case}
    own["tokenizer"] = tokenizer.describe()
    recipe = {name: getattr(args, name) for name in RECIPE}
    return {"input_checksum": joint_checksum([corpus]), **own, **recipe}


def shard_name(folder: Path) -> Path:
    """What the shards' files in an --output_dir are named after."""
    return folder / "documents"


def write_shard(
    args: argparse.Namespace, corpus: Path, tokenizer: BertTokenizer, job: Mapping[str, Any]
) -> None:
    """Tokenise a shard of the corpus into --output_dir, for --merge_shards."""
    folder = Path(args.output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    path = args.shard.path(shard_name(folder))
    part = args.shard.part(corpus.stat().st_size)
    with sole_writer(path):
        check_shard(shard_name(folder), args.shard, job)
        with progress_bar(len(part), "B", "tokenizing") as bar:
            counts = tokenize_shard(corpus, part, tokenizer, path, bar.update)
        finish_shard(shard_name(folder), args.shard, job, counts)
    print(f"{path}: {counts['sentences']:,} sentences, {counts['tokens']:,} tokens")


def make_block(documents: Documents, recipe: PairRecipe, item: tuple[int, int]) -> Examples:
    """Make the examples of one (epoch, block); runs in the workers."""
    return make_examples(documents, recipe, *item)


def write(
    args: argparse.Namespace,
    folder: Path,
    epoch: int,
    parts: Iterator[Examples],
    tokenizer: BertTokenizer,
    documents: Documents,
    made_from: Mapping[str, Any],
) -> None:
    """Write one epoch with a progress bar and say what it holds."""
    start = time.perf_counter()
    num_tokens = 0
    with progress_bar(None, "tok", f"epoch {epoch}") as bar:

        def counted() -> Iterator[Examples]:
            nonlocal num_tokens
            for part in parts:
                yield part
                bar.update(len(part.tokens))
                num_tokens += len(part.tokens)

        metrics = write_one(args, folder, epoch, counted(), tokenizer, documents, made_from)
    print(
        f"epoch {epoch}: {metrics['num_training_examples']:,} examples, {num_tokens:,} tokens; "
        f"{num_tokens / (time.perf_counter() - start):,.0f} tokens/s"
    )


if __name__ == "__main__":
    run_script(main)
