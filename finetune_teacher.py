"""Fine-tune BERT on the labels of a GLUE task: a teacher, or a student that has none.

    python finetune_teacher.py --data_dir data/glue_data/RTE --bert_model models/bert-base-uncased-rte \\
        --output_dir models/final_rte_teacher --num_train_epochs 5 --train_batch_size 32 --learning_rate 2e-5

The dev set is scored before training and after every epoch; the best model is kept. With --from_scratch
the model starts from fresh weights: the baseline that distillation is compared with.

Published commands train on RTE, SST-2, CoLA and MRPC, with BertAdam. Other tasks, and data in folders of
other names, are learned with AdamW, which learns them better (docs/optimizers.md).
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from cli.classification import train_split_name
from cli.finetuning import TaskData, fine_tune
from cli.flags import (
    add_drop_flags,
    add_feature_cache_flag,
    add_head_flag,
    add_model_flags,
    add_training_flags,
)
from cli.help import script_parser
from cli.settings import mention_ignored_flags, settings_from
from cli.task import add_task_file_flag, chosen_task
from cli.training import check_start
from distillation.distributed import start_runtime
from files.errors import run_script
from tasks.classifiers import data_facts, load_dev
from tasks.feature_cache import cached_split, feature_cache
from tasks.task import Task, split_path
from transformer.tokenization import BertTokenizer

# The tasks, by their folders, that published command lines fine-tune a teacher on.
PUBLISHED = ("RTE", "SST-2", "CoLA", "MRPC")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--data_dir", help="the task's folder, e.g. glue_data/RTE")
    group.add_argument("--task_name", help="a GLUE task (default: as --data_dir is called)")
    add_task_file_flag(group)
    group.add_argument(
        "--bert_model",
        "--model",
        required=True,
        help="where to start: folder, hub name or address",
    )
    group.add_argument("--output_dir", required=True, help="folder for the fine-tuned model")
    group.add_argument(
        "--vocab_model", help="folder to take the vocabulary from, if --bert_model has none"
    )
    group.add_argument(
        "--from_scratch",
        action="store_true",
        help="start from fresh weights: --bert_model needs a config.json alone",
    )
    group.add_argument("--aug_train", action="store_true", help="train on train_aug.tsv")
    add_head_flag(group)
    add_drop_flags(group)
    add_model_flags(group)
    add_feature_cache_flag(group)
    add_training_flags(parser, learning_rate=2e-5, eval_step=None)
    parser.set_defaults(optimizer=None)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    task, data_dir = chosen_task(args, guess=True)
    chosen = choose_optimizer(args, task, data_dir)
    runtime = start_runtime(args.no_cuda, args.local_rank)
    settings = settings_from(args, "warmup_linear", runtime)
    mention_ignored_flags(args)
    check_start(args, settings, runtime, data_dir)
    with feature_cache(args.feature_cache, args.output_dir) as cache:
        name = train_split_name(task, data_dir, args.aug_train)

        def load(tokenizer: BertTokenizer) -> TaskData:
            with runtime.one_after_another():
                train, _ = cached_split(cache, task, data_dir, name, tokenizer, args.max_seq_length)
            dev = load_dev(task, data_dir, tokenizer, args.max_seq_length)
            facts = data_facts(task, data_dir, {name: train, **dev})
            return TaskData(split_path(task, data_dir, name).name, train, dev, facts)

        fine_tune(args, settings, task, load, runtime, chosen)
    return 0


def choose_optimizer(args: argparse.Namespace, task: Task, data_dir: Path) -> dict[str, str]:
    """Set `--optimizer` where it was not given; return what the plan says of it."""
    if args.optimizer is not None:
        return {}
    if task.folder in PUBLISHED and data_dir.resolve().name.lower() == task.folder.lower():
        args.optimizer = "bertadam"
        return {}
    args.optimizer = "adamw"
    return {"default": "adamw, as no published command trains on this data (--optimizer bertadam)"}


if __name__ == "__main__":
    run_script(main)
