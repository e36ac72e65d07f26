"""Training a classifier on the labels of a task."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch

from cli.classification import freeze_unused
from cli.plan import show_plan
from cli.settings import advising_drops, batching_from, dropped_parts
from cli.training import Training, check_length, check_vocabulary, load_tokenizer, run_training
from corpus.batches import StoreBatches
from distillation.checkpoint import ModelSaver
from distillation.distributed import Runtime
from distillation.objectives import label_training
from distillation.records import RunRecord
from distillation.run_log import scores_text
from distillation.state import TrainingSettings
from tasks.classifiers import load_classifier, new_classifier, task_facts, weakness
from tasks.evaluation import evaluate
from tasks.features import Split
from tasks.task import Task
from transformer.loading import read_config
from transformer.modeling import TinyBertForSequenceClassification
from transformer.precision import autocast
from transformer.tokenization import BertTokenizer


class TaskData(NamedTuple):
    """Rows to train on, and to score a model on.

    Attributes:
        name: of the file that is trained on, or what else it is.
        dev: the one models are selected on first.
        facts: of both, for the run record.
        scored: rows for other models as well; None where there are none but `dev`.
    """

    name: str
    train: Split
    dev: Mapping[str, Split]
    facts: Mapping[str, Any]
    scored: Split | None = None


def fine_tune(
    args: argparse.Namespace,
    settings: TrainingSettings,
    task: Task,
    load: Callable[[BertTokenizer], TaskData],
    runtime: Runtime,
    chosen: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Train `args.bert_model` on the labels of a task, into `args.output_dir`.

    Args:
        load: reads the rows, once the tokenizer is known.
        chosen: what the plan is to say besides.
    """
    tokenizer = load_tokenizer(args, args.bert_model, args.vocab_model)
    model = start_of(args, task, tokenizer)
    # In evaluation mode, fresh weights included: it is scored before it is trained.
    model.to(runtime.device).requires_grad_(True).eval()
    freeze_unused(model, "fit_dense", "fit_denses")
    data = load(tokenizer)
    source = StoreBatches(
        [data.train.store],
        columns={"labels": data.train.labels},
        **batching_from(args, args.max_seq_length),
    )
    facts = {
        "data": f"{len(data.train.store):,} rows of {data.name}",
        "head": model.config.classifier_head,
        **chosen,
    }
    show_plan(f"fine-tuning on {task.folder}", facts, args, model, source, settings, runtime)
    context = autocast(settings.precision, runtime.device)
    before = None
    if runtime.is_main:
        before = evaluate(task, model, data.dev, args.eval_batch_size, runtime.device, context)
        print(f"before training: {scores_text(before)}", file=sys.stderr)
    record = RunRecord(
        "finetune", vars(args), **task_facts(task), student=args.bert_model, teacher=None,
        output_dir=args.output_dir, data=data.facts, main_metric=task.main_metric,
        metrics_before=before,
    )  # fmt: skip
    savers = []

    def open_run(folder: Path) -> ModelSaver:
        savers.append(dev_saver(args, task, model, data.dev, runtime.device, context, folder))
        return savers[-1]

    run_training(
        Training(
            args, record, model, tokenizer, label_training, source, settings, runtime, open_run
        )
    )
    for saver in savers:
        if runtime.is_main and (weak := weakness(task, saver.best, data.dev)):
            print(
                f"warning: {args.output_dir}: learned nothing: {weak}. Another --learning_rate, "
                "--optimizer or more epochs may help; as a teacher it is refused",
                file=sys.stderr,
            )


def start_of(
    args: argparse.Namespace, task: Task, tokenizer: BertTokenizer
) -> TinyBertForSequenceClassification:
    """The classifier to be trained: of the weights of `args.bert_model`, or of its shape alone."""
    config = read_config(args.bert_model, args.cache_dir)
    check_vocabulary(tokenizer, config, args.bert_model, args.cache_dir)
    check_length(config, args.max_seq_length, args.bert_model)
    torch.manual_seed(args.seed)
    if args.from_scratch:
        return new_classifier(task, config, args.head)
    with advising_drops():
        return load_classifier(
            task, args.bert_model, ("classifier.", "bert.pooler."), args.cache_dir,
            drop=dropped_parts(args), head=args.head,
        )  # fmt: skip


def dev_saver(
    args: argparse.Namespace,
    task: Task,
    model: TinyBertForSequenceClassification,
    dev: Mapping[str, Split],
    device: torch.device,
    context: AbstractContextManager,
    folder: Path,
) -> ModelSaver:
    """Keep the best model on the (first) dev set, or the newest where none is evaluated.

    Args:
        context: of the forward passes, which sets their precision.
    """
    evaluation: Callable | None = None
    if dev:
        evaluation = partial(evaluate, task, model, dev, args.eval_batch_size, device, context)
    return ModelSaver(
        model, folder, evaluation, lambda metrics: metrics[next(iter(dev))][task.main_metric]
    )
