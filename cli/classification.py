"""What task_distill.py and finetune_teacher.py share: a GLUE task's data and a classifier for it."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from cli.answering import shortened
from cli.length_search import Subject, search_lengths
from cli.settings import advising_drops, dropped_parts
from cli.squad import lengths_from
from cli.training import (
    check_length,
    check_vocabulary,
    describe_model,
    load_tokenizer,
    write_results,
)
from distillation.records import RunRecord, write_record
from files.atomic import check_writable
from files.errors import UserError
from tasks.classifiers import (
    data_facts,
    load_classifier,
    load_dev,
    load_split,
    new_classifier,
    task_facts,
    weakness,
)
from tasks.evaluation import evaluate, predict_logits, predictions_of
from tasks.features import Split
from tasks.submissions import submission_name, write_predictions
from tasks.task import Task, dev_splits, split_path
from transformer.lengths import LengthConfig
from transformer.loading import read_config
from transformer.modeling import TinyBertForSequenceClassification
from transformer.precision import autocast
from transformer.tokenization import BertTokenizer


def train_split_name(task: Task, data_dir: str | os.PathLike, augmented: bool) -> str:
    """`train_aug` or `train`.

    Raises:
        UserError: the augmented file is not there; it says how to make it.
    """
    if not augmented:
        return "train"
    try:
        split_path(task, data_dir, "train_aug")
    except UserError as error:
        raise UserError(f"{error}, or leave out --aug_train") from None
    return "train_aug"


def score_teacher(
    task: Task,
    teacher: TinyBertForSequenceClassification,
    source: str | os.PathLike,
    dev: Mapping[str, Split],
    batch_size: int,
    device: torch.device,
    allow_weak: bool,
) -> dict[str, dict[str, float]]:
    """Score a teacher, in evaluation mode, on the (first) dev set; return the metrics.

    Raises:
        UserError: chance reaches its score (see `weakness`), and `allow_weak` is not set.
    """
    first = next(iter(dev))
    metrics = evaluate(task, teacher, {first: dev[first]}, batch_size, device)
    if weak := weakness(task, metrics, dev):
        told = f"{source}: a teacher with {weak}"
        if not allow_weak:
            raise UserError(
                f"{told}. Fine-tune it with finetune_teacher.py, see whether its classes are the "
                "task's, or distil from it anyway with --allow_weak_teacher"
            )
        print(f"warning: {told}", file=sys.stderr)
    return metrics


def load_student(
    args: argparse.Namespace, task: Task, teacher_width: int
) -> TinyBertForSequenceClassification:
    """Load the student, or make it; a general student has no classifier yet and gets a fresh one."""
    if args.from_scratch:
        config = read_config(args.student_model, args.cache_dir)
        return new_classifier(task, config, args.head, fit_size=teacher_width)
    with advising_drops():
        return load_classifier(
            task, args.student_model, ("classifier.", "bert.pooler."), args.cache_dir,
            drop=dropped_parts(args), head=args.head, fit_size=teacher_width,
        )  # fmt: skip


def score_student(
    args: argparse.Namespace, task: Task, device: torch.device, precision: str
) -> None:
    """Score the student on the dev sets, predict the test sets, or both."""
    folder, context = Path(args.output_dir), autocast(precision, device)
    check_writable(folder)
    tokenizer = load_tokenizer(args, args.student_model)
    student = load_classifier(task, args.student_model, (), args.cache_dir, head=args.head)
    student.to(device)
    check_vocabulary(tokenizer, student.config, args.student_model, args.cache_dir)
    check_length(student.config, args.max_seq_length, args.student_model)
    size = describe_model(student)
    lengths = lengths_from(args, student.config.num_hidden_layers)
    if args.search_lengths:
        search_student(args, task, student, tokenizer, device, context)
        return
    student = shortened(student, lengths)
    if args.do_eval:
        dev = load_dev(task, args.data_dir, tokenizer, args.max_seq_length)
        record = RunRecord(
            "evaluate", vars(args), **task_facts(task), student=args.student_model, teacher=None,
            output_dir=args.output_dir, data=data_facts(task, args.data_dir, dev),
            main_metric=task.main_metric, model=size, precision=precision,
        )  # fmt: skip
        metrics = evaluate(task, student, dev, args.eval_batch_size, device, context)
        written = record.complete(metrics=metrics)
        write_record(folder / "eval.json", written)
        print(write_results(folder, written))
    if args.do_predict:
        splits = {
            split: load_split(task, args.data_dir, split, tokenizer, args.max_seq_length)
            for split in splits_asked(task, args.data_dir, args.split)
        }
        for path in write_submissions(
            task, student, splits, args.eval_batch_size, device, folder, context
        ):
            print(f"wrote {path}", file=sys.stderr)


def search_student(
    args: argparse.Namespace,
    task: Task,
    student: TinyBertForSequenceClassification,
    tokenizer: BertTokenizer,
    device: torch.device,
    precision: AbstractContextManager,
) -> None:
    """Search for length configurations on every other row of the dev set, and report them on the others."""
    split, (store, labels) = next(
        iter(load_dev(task, args.data_dir, tokenizer, args.max_seq_length).items())
    )
    halves = [np.arange(which, len(labels), 2) for which in (0, 1)]
    if not len(halves[1]):
        raise UserError(f"--search_lengths: {split} of {task.folder} has one row; expected two")
    args.searched_model = args.student_model

    def score(rows: Split, lengths: LengthConfig | None) -> dict[str, float]:
        model = shortened(student, lengths)
        found = evaluate(task, model, {split: rows}, args.eval_batch_size, device, precision)
        return found[split]

    chosen, reported = (Split(store.take(rows), labels[rows]) for rows in halves)
    subject = Subject(
        student, task.main_metric, partial(score, chosen), partial(score, reported), chosen.store, device
    )  # fmt: skip
    search_lengths(args, subject, Path(args.output_dir))


def splits_asked(task: Task, data_dir: str | os.PathLike, kind: str) -> list[str]:
    """The splits of a kind: `train`, or every dev or test set."""
    if kind == "dev":
        return dev_splits(task, data_dir)
    return list(task.test_files) if kind == "test" else [kind]


def write_submissions(
    task: Task,
    model: TinyBertForSequenceClassification,
    splits: Mapping[str, Split],
    batch_size: int,
    device: torch.device,
    folder: Path,
    precision: AbstractContextManager | None = None,
) -> list[Path]:
    """Predict every split and write a file for each; return their paths.

    Test sets are written as GLUE wants them submitted, others with their labels.
    """
    written = []
    for split, rows in splits.items():
        logits = predict_logits(model, rows.store, batch_size, device, precision)
        is_test = split in task.test_files
        name = submission_name(task, split) if is_test else f"{task.folder}-{split}.tsv"
        labels = None if is_test else rows.labels
        write_predictions(task, folder / name, predictions_of(task, logits), labels)
        written.append(folder / name)
    return written


def freeze_unused(model: torch.nn.Module, *modules: str) -> None:
    """Freeze the named parts, where the model has them, because no loss reads them.

    A parameter without a gradient is not updated either way; saying so lets several processes train
    together, which otherwise wait for its gradient.
    """
    for name in modules:
        with contextlib.suppress(AttributeError):
            model.get_submodule(name).requires_grad_(False)
