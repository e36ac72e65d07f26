"""Data augmentation: variants of the training sentences, for task distillation (algorithm 1).

    python data_augmentation.py --pretrained_bert_model models/bert-base-uncased \\
        --glove_embs data/glove.840B.300d.txt --glue_dir data/glue_data --task_name RTE

Writes train_aug.tsv beside the task's train.tsv: every row, and after it the row with one sentence
rewritten. A word of one token is replaced by what the masked language model finds likely in its
place, a word of several tokens by its neighbours among the word vectors. For a seed the output is
the same whatever the batch size (--bf16 excepted), the number of processes (start it with torchrun)
or of shards (--shard 1/8 … --shard 8/8, then --merge_shards 8). What a killed or stopped run has done
is kept beside the output; the same command with --resume continues from there.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cli.augmentation import language_model, say_counts, time_of_augmenting, write_augmented
from cli.data_flags import add_shard_flags, check_shard_flags
from cli.help import script_parser
from cli.plan import add_dry_run_flag, say_untouched
from cli.precision import add_bf16_flags, computed_on, precision_from
from cli.task import add_task_file_flag, chosen_task
from cli.training import check_vocabulary
from distillation.distributed import Runtime, start_runtime
from distillation.forecast import duration
from files.atomic import check_writable, find_input
from files.checksums import joint_checksum
from files.errors import UserError, run_script
from files.locks import sole_writer
from files.progress import progress_bar
from files.resumable import unfinished
from files.shards import Shard, check_shard, finish_shard, finished_shards, merge_files
from tasks.augmentation import PAIR_MODES, Augmenter, Counts, survey
from tasks.glue import find_task
from tasks.likely_tokens import likely_tokens, share_out
from tasks.sentence_words import Sentence, SentenceSplitter, replacement_tokens
from tasks.task import Task, read_split, split_path
from tasks.word_vectors import nearest_words, read_word_vectors
from transformer.modeling import BertForMaskedLM
from transformer.tokenization import BertTokenizer
from transformer.weights import weights_checksum

# Published code; paper, section 4.2, where M is called K. N None: the task's own.
PRESETS = {"code": {"N": None, "M": 15, "p": 0.4}, "paper": {"N": 20, "M": 15, "p": 0.4}}
BATCHES_PER_WINDOW = 64  # the masks of so many batches are sorted by length together


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--pretrained_bert_model",
        "--model",
        required=True,
        help="BERT with its masked-language-model head: folder, hub name or address",
    )
    group.add_argument(
        "--glove_embs", required=True, metavar="FILE", help="word vectors in GloVe's text format"
    )
    group.add_argument("--glue_dir", help="folder that holds the task's folder")
    group.add_argument("--task_name", help="a GLUE task, in upper or lower case: RTE, sst-2 …")
    group.add_argument(
        "--data_dir",
        help="the task's folder itself, such as glue_data/RTE, in place of the published --glue_dir and "
        "--task_name; a name that is not a task's needs --task_name",
    )
    add_task_file_flag(group)
    group.add_argument(
        "--do_lower_case",
        action="store_true",
        help="lower-case the text; without it the model's tokenizer or vocabulary decides",
    )
    group.add_argument("--cache_dir", help="where fetched models are kept")

    group = parser.add_argument_group("method")
    for flag, kind, meaning in (
        ("--N", int, "variants drawn for each sentence"),
        ("--M", int, "candidates for each word"),
        ("--p", float, "probability that a word is replaced"),
    ):
        group.add_argument(flag, type=kind, help=f"{meaning} (default: --preset's)")
    group.add_argument(
        "--preset",
        choices=PRESETS,
        default="code",
        help="what N, M and p are when not given. code: N by task, 10 (MNLI, QQP), "
        "20 (SST-2, QNLI) or 30; paper: N 20; both: M 15, p 0.4",
    )
    group.add_argument(
        "--pair_mode",
        choices=PAIR_MODES,
        default="independent",
        help="pair tasks. independent: vary one sentence, the other as it is; legacy: vary "
        "the second beside the last variant of the first, as the published code does",
    )
    group.add_argument(
        "--glove_limit",
        type=int,
        default=100_000,
        help="use only the first N word vectors",
    )
    group.add_argument("--seed", type=int, default=42, help="random seed")

    group = parser.add_argument_group("running")
    group.add_argument(
        "--batch_size",
        type=int,
        default=64,
        help="masked sequences computed at once; changes speed and memory, not the output",
    )
    add_bf16_flags(group, "bfloat16: faster; candidates of nearly equal score may differ")
    add_dry_run_flag(group)
    add_shard_flags(group)
    group.add_argument(
        "--resume",
        action="store_true",
        help="resume where a stopped run of the same command left off",
    )
    group.add_argument("--no_cuda", action="store_true", help="stay on the CPU")

    args = parser.parse_args(argv)
    if not args.task_file and not args.data_dir and not (args.glue_dir and args.task_name):
        parser.error("expected --glue_dir and --task_name, --data_dir or --task_file")
    for name, value in PRESETS[args.preset].items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    for flag in ("N", "M", "glove_limit", "batch_size"):
        value = getattr(args, flag)
        if value is not None and value < 1:
            raise UserError(f"--{flag} {value}: expected 1 or more")
    if not 0 <= args.p <= 1:
        raise UserError(f"--p {args.p}: expected a probability from 0 to 1")
    check_shard_flags(args)
    return args


def main(argv: list[str] | None = None) -> int:
    args = parse_args(argv)
    task, folder = find_data(args)
    train, output = split_path(task, folder, "train"), folder / task.files()["train_aug"]
    if output.is_dir():
        raise UserError(f"{output}: is a folder; expected a file to write, or nothing")
    job: dict[str, Any] = {"input_checksum": joint_checksum([train]), "N": args.N or task.augment_n}
    if task.definition is not None:
        job["task"] = task.key
    job |= {name: getattr(args, name) for name in ("M", "p", "seed", "pair_mode", "bf16")}
    if args.dry_run:
        check_writable(folder, "data_dir" if args.data_dir else "glue_dir")
    if args.merge_shards and args.dry_run:
        finished_shards(output, args.merge_shards, job)
        say_untouched(output)
        return 0
    if args.merge_shards:
        with sole_writer(output):
            shards = merge_files(output, args.merge_shards, job)
        rows = sum(facts["rows_written"] for facts in shards)
        print(f"{output}: {rows} rows out of {args.merge_shards} shards")
        return 0
    runtime = start_runtime(args.no_cuda)
    job["bf16"] = precision_from(args, runtime) == "bf16"
    path = args.shard.path(output) if args.shard else output
    writes = runtime.is_main and not args.dry_run
    with sole_writer(path) if writes else contextlib.nullcontext():
        written = augment(args, task, folder, path, job, runtime)
        if args.shard and writes:
            finish_shard(output, args.shard, job, {"rows_written": written})
    return 0


def find_data(args: argparse.Namespace) -> tuple[Task, Path]:
    """The task, and its folder.

    Raises:
        UserError: there is no such folder or task, or the flags contradict each other.
    """
    if not args.data_dir and not args.task_file:
        task = find_task(args.task_name)
        folder = Path(args.glue_dir) / task.folder
        return task, find_input(folder, f"the {task.folder} folder of GLUE")
    task, folder = chosen_task(args, guess=True)
    if args.task_file and args.glue_dir:
        raise UserError("--task_file and --glue_dir: give one of them")
    if args.glue_dir and (Path(args.glue_dir) / task.folder).resolve() != folder.resolve():
        raise UserError(
            f"--data_dir {args.data_dir} and --glue_dir {args.glue_dir}: two places of the {task.folder} "
            "data; give one of them"
        )
    return task, folder


def augment(
    args: argparse.Namespace,
    task: Task,
    folder: Path,
    path: Path,
    job: dict[str, Any],
    runtime: Runtime,
) -> int:
    """Write the augmented rows, or a shard of them; return how many there are.

    Args:
        job: what determines the rows; what is known of the model and the vectors only is added.
    """
    examples = read_split(task, folder, "train")
    sides = [examples.text_a] + ([examples.text_b] if task.pair else [])
    shard = args.shard or Shard(1, 1)
    own = shard.part(len(examples))
    glove = find_input(args.glove_embs, "word vectors in GloVe's text format")

    tokenizer = BertTokenizer.from_pretrained(
        args.pretrained_bert_model, args.do_lower_case or None, args.cache_dir
    )
    tokenizer.require_mask()
    model = BertForMaskedLM.from_pretrained(args.pretrained_bert_model, cache_dir=args.cache_dir)
    check_vocabulary(tokenizer, model.config, args.pretrained_bert_model, args.cache_dir)
    job |= {"vocabulary_checksum": tokenizer.vocab_hash, "do_lower_case": tokenizer.do_lower_case}
    job |= {"tokenizer": tokenizer.describe()}
    job |= {"model_checksum": weights_checksum(model.state_dict(), model.MAY_INIT)}
    allowed = replacement_tokens(tokenizer)
    predict = language_model(model.to(runtime.device), allowed, job["bf16"])
    max_positions = model.config.max_length
    splitter = SentenceSplitter(tokenizer, max_positions)

    vectors = read_word_vectors(glove, args.glove_limit)
    job |= {"glove_checksum": vectors.checksum()}
    with contextlib.ExitStack() as stack:
        file = None
        if runtime.is_main and not args.dry_run:
            if args.shard:
                check_shard(folder / task.files()["train_aug"], shard, job)
            made_from = {**job, "shard": f"{shard.index}/{shard.count}"}
            file = stack.enter_context(unfinished(path, made_from, args.resume))
        past = runtime.gather(file and file.facts)[0] or {}
        numbers = range(past.get("row", own.start), own.stop)
        texts = dict.fromkeys(side[number] for side in sides for number in numbers)
        passes, compounds = survey(texts, splitter)
        neighbours = nearest_words(vectors, compounds, args.M)
        if runtime.is_main:
            print(
                f"{task.folder}: {len(numbers)} rows, N={job['N']} M={args.M} p={args.p:g} "
                f"seed={args.seed}; {len(vectors.words):,} word vectors ({vectors.skipped} skipped), "
                f"for {len(neighbours):,} of the {len(compounds):,} words of several tokens; "
                f"{passes:,} words to mask"
            )
        quiet = passes == 0 or not runtime.is_main or args.dry_run
        progress = stack.enter_context(progress_bar(passes, "word", "augmenting", disable=quiet))

        def likely(sentences: Sequence[Sentence]) -> list[np.ndarray]:
            return likely_tokens(
                sentences, predict, tokenizer, min(args.M, int(allowed.sum())), args.batch_size,
                max_positions, exact=not job["bf16"], on_batch=progress.update,
            )  # fmt: skip

        together = share_out(likely, runtime.rank, runtime.world, runtime.gather, progress.update)
        counts = Counts(**past.get("counts", {}))
        augmenter = Augmenter(
            splitter, tokenizer.ids_to_tokens, together, neighbours,
            job["N"] if runtime.is_main else 0, args.p, args.seed,
            window=BATCHES_PER_WINDOW * args.batch_size * runtime.world, counts=counts,
        )  # fmt: skip
        if args.dry_run:
            seconds = time_of_augmenting(
                augmenter, sides, numbers, passes, args.batch_size * runtime.world
            )
            if runtime.is_main:
                where = computed_on(runtime.device, "bf16" if job["bf16"] else "fp32")
                print(f"expected: about {duration(seconds)} on {where}", file=sys.stderr)
                say_untouched(path)
            return 0
        variants = augmenter.variants(sides, numbers)
        if file is None:
            for _ in variants:
                pass
            return 0
        written = write_augmented(
            file, task, folder, shard.index == 1, numbers, variants, past.get("written", 0), counts,
            args.pair_mode,
        )  # fmt: skip
    distinct = len({side[number] for side in sides for number in own})
    say_counts(counts, path, len(own), written, distinct, max_positions)
    return written


if __name__ == "__main__":
    run_script(main)
