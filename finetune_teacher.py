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
import sys
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch

from cli.classification import freeze_unused, train_split_name
from cli.flags import (
    add_drop_flags,
    add_feature_cache_flag,
    add_head_flag,
    add_model_flags,
    add_training_flags,
)
from cli.help import script_parser
from cli.plan import show_plan
from cli.settings import (
    advising_drops,
    batching_from,
    dropped_parts,
    mention_ignored_flags,
    settings_from,
)
from cli.task import add_task_file_flag, chosen_task
from cli.training import (
    Training,
    check_length,
    check_start,
    check_vocabulary,
    load_tokenizer,
    run_training,
)
from corpus.batches import StoreBatches
from distillation.checkpoint import ModelSaver
from distillation.distributed import Runtime, start_runtime
from distillation.objectives import label_training
from distillation.records import RunRecord
from distillation.run_log import scores_text
from distillation.state import TrainingSettings
from files.errors import run_script
from tasks.classifiers import (
    data_facts,
    load_classifier,
    load_dev,
    new_classifier,
    task_facts,
    weakness,
)
from tasks.evaluation import evaluate
from tasks.feature_cache import cached_split, feature_cache
from tasks.task import Task
from transformer.loading import read_config
from transformer.precision import autocast

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
        fine_tune(args, settings, task, data_dir, runtime, cache, chosen)
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


def fine_tune(
    args: argparse.Namespace,
    settings: TrainingSettings,
    task: Task,
    data_dir: Path,
    runtime: Runtime,
    cache: Path,
    chosen: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Train on the labels; the training data are kept in the folder `cache`, `chosen` is for the plan."""
    config = read_config(args.bert_model, args.cache_dir)
    tokenizer = load_tokenizer(args, args.bert_model, args.vocab_model)
    check_vocabulary(tokenizer, config, args.bert_model, args.cache_dir)
    check_length(config, args.max_seq_length, args.bert_model)
    torch.manual_seed(args.seed)
    if args.from_scratch:
        model = new_classifier(task, config, args.head)
    else:
        fresh = ("classifier.", "bert.pooler.")
        with advising_drops():
            model = load_classifier(
                task,
                args.bert_model,
                fresh,
                args.cache_dir,
                drop=dropped_parts(args),
                head=args.head,
            )
    # In evaluation mode, fresh weights included: it is scored before it is trained.
    model.to(runtime.device).requires_grad_(True).eval()
    freeze_unused(model, "fit_dense", "fit_denses")

    name = train_split_name(task, data_dir, args.aug_train)
    with runtime.one_after_another():
        train, _ = cached_split(cache, task, data_dir, name, tokenizer, args.max_seq_length)
    dev = load_dev(task, data_dir, tokenizer, args.max_seq_length)
    source = StoreBatches(
        [train.store],
        columns={"labels": train.labels},
        **batching_from(args, args.max_seq_length),
    )
    scorer = partial(
        evaluate, task, model, dev, args.eval_batch_size, runtime.device,
        autocast(settings.precision, runtime.device),
    )  # fmt: skip
    facts = {
        "data": f"{len(train.store):,} rows of {name}.tsv",
        "head": model.config.classifier_head,
        **chosen,
    }
    show_plan(f"fine-tuning on {task.folder}", facts, args, model, source, settings, runtime)
    before = None
    if runtime.is_main:
        before = scorer()
        print(f"before training: {scores_text(before)}", file=sys.stderr)

    record = RunRecord(
        "finetune",
        vars(args),
        **task_facts(task),
        student=args.bert_model,
        teacher=None,
        output_dir=args.output_dir,
        data=data_facts(task, data_dir, {name: train, **dev}),
        main_metric=task.main_metric,
        metrics_before=before,
    )
    first_dev = next(iter(dev))
    keepers = []

    def open_run(folder: Path) -> ModelSaver:
        keepers.append(ModelSaver(model, folder, scorer, lambda m: m[first_dev][task.main_metric]))
        return keepers[-1]

    run_training(
        Training(
            args, record, model, tokenizer, label_training, source, settings, runtime, open_run
        )
    )
    for keeper in keepers:
        if runtime.is_main and (weak := weakness(task, keeper.best, dev)):
            print(
                f"warning: {args.output_dir}: learned nothing: {weak}. Another --learning_rate, "
                "--optimizer or more epochs may help; task_distill.py refuses such a teacher",
                file=sys.stderr,
            )


if __name__ == "__main__":
    run_script(main)
