"""What task_distill.py and finetune_teacher.py share: a GLUE task's data and a classifier for it."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cli.flags import drop_advice, dropped_parts
from cli.origin import dataset_of
from cli.training import (
    check_length,
    check_vocabulary,
    describe_model,
    load_tokenizer,
    read_config,
    write_results,
)
from corpus.token_store import encode_pairs
from distillation.precision import autocast
from distillation.records import RunRecord, file_facts, write_record
from files.atomic import RUN_RECORD_NAME, check_writable
from files.errors import UserError
from tasks.evaluation import evaluate, predict_logits, predictions_of
from tasks.features import Split
from tasks.glue import (
    GlueTask,
    check_label_order,
    dev_splits,
    find_task,
    read_split,
    split_path,
)
from tasks.metrics import chance_score
from tasks.submissions import submission_name, write_predictions
from transformer.configuration import BertConfig
from transformer.file_utils import CONFIG_NAME
from transformer.head_kind import CLASSIFIER_HEADS, Head
from transformer.loading import CLASSIFIER
from transformer.modeling import TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer
from transformer.weights import WeightsMismatch

PUBLISHED = Path(__file__).resolve().parent.parent / "published.json"
EXPORT_RECORD_NAME = "export.json"


def recorded_task(folder: str | os.PathLike) -> GlueTask | None:
    """The task a folder's model learned, by the record of its run or export, or by its config.json."""
    names = {RUN_RECORD_NAME: "task", EXPORT_RECORD_NAME: "task", CONFIG_NAME: "finetuning_task"}
    for name, key in names.items():
        try:
            return find_task(json.loads((Path(folder) / name).read_bytes())[key])
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            continue
    return None


def load_split(
    task: GlueTask, data_dir: str | os.PathLike, split: str, tokenizer: BertTokenizer, length: int
) -> Split:
    """Read and tokenise one split, in memory."""
    examples = read_split(task, data_dir, split)
    store = encode_pairs(tokenizer, examples.text_a, examples.text_b, length)
    return Split(store, examples.labels)


def load_dev(
    task: GlueTask, data_dir: str | os.PathLike, tokenizer: BertTokenizer, length: int
) -> dict[str, Split]:
    """Read and tokenise every dev set that is there, the one models are selected on first."""
    return {
        split: load_split(task, data_dir, split, tokenizer, length)
        for split in dev_splits(task, data_dir)
    }


def train_split_name(task: GlueTask, data_dir: str | os.PathLike, augmented: bool) -> str:
    """`train_aug` or `train`.

    Raises:
        UserError: the augmented file is not there; it says how to make it.
    """
    if not augmented:
        return "train"
    path = Path(data_dir) / "train_aug.tsv"
    if not path.is_file():
        raise UserError(
            f"{path}: no such file; expected the output of data_augmentation.py --task_name "
            f"{task.folder}, or leave out --aug_train"
        )
    return "train_aug"


def data_facts(
    task: GlueTask, data_dir: str | os.PathLike, splits: Mapping[str, Split]
) -> dict[str, Any]:
    """Path, checksum, number of rows and known dataset of each split, for the run record."""
    facts = file_facts(split_path(task, data_dir, name) for name in splits)
    return {
        name: fact
        | {"rows": len(split.store), "dataset": dataset_of(Path(fact["path"]), fact["sha256"])}
        for (name, split), fact in zip(splits.items(), facts, strict=True)
    }


def read_classifier(
    source: str | os.PathLike,
    cache_dir: str | os.PathLike | None = None,
    head: str | None = None,
    flag: str = "--head",
    **settings: Any,
) -> TinyBertForSequenceClassification:
    """Load a classifier, and say which head it has.

    Args:
        head: kind of its head; None lets its files decide (see transformer/head_kind.py).
        flag: the flag that sets `head`.
        settings: what else `from_pretrained` takes.

    Raises:
        UserError: weights are missing or do not fit.
    """
    model = TinyBertForSequenceClassification.from_pretrained(
        source, cache_dir=cache_dir, classifier_head=head, **settings
    )
    report_head(model.head, source, flag)
    return model


def report_head(head: Head, source: str | os.PathLike, flag: str) -> None:
    """Say which head a classifier has and why; of a guess also how to choose the other."""
    if os.environ.get("RANK", "0") != "0":  # another process of torchrun says it
        return
    told = f"{source}: classifier head {head.kind}, {CLASSIFIER_HEADS[head.kind]}"
    if head.guessed:
        (other,) = CLASSIFIER_HEADS.keys() - {head.kind}
        choice = f"{flag} {other} makes it {CLASSIFIER_HEADS[other]}"
        told = f"note: {told}, is a guess ({head.reason}); {choice}"
    else:
        told += f" ({head.reason})"
    print(told, file=sys.stderr)


def load_classifier(
    task: GlueTask,
    source: str | os.PathLike,
    may_init: Sequence[str],
    cache_dir: str | os.PathLike | None = None,
    drop: Sequence[str] | None = None,
    **settings: Any,
) -> TinyBertForSequenceClassification:
    """Load a classifier with its classes brought into the task's order.

    Args:
        may_init: name prefixes the checkpoint may lack, such as `classifier.` for a student that has
            seen no task yet: it gets a new one for the task's classes.
        drop: name prefixes to leave out of the checkpoint (see `dropped_parts`); None where the program
            has no flags for that.
        settings: what else `read_classifier` takes.

    Raises:
        UserError: weights are missing, or the model's labels are not the task's.
    """
    try:
        model = read_classifier(
            source, cache_dir, may_init=(*may_init, "fit_dense.", "fit_denses."),
            labels=label_names(task), drop=drop or (), **settings,
        )  # fmt: skip
    except WeightsMismatch as error:
        raise UserError(f"{error}{'' if drop is None else drop_advice(error.name)}") from None
    names = model.config.id2label
    try:
        order = check_label_order(task, dict(enumerate(names)) if names else None, str(source))
    except UserError as error:
        raise UserError(f"{error}{'' if drop is None else drop_advice(CLASSIFIER[0])}") from None
    if not np.array_equal(order, np.arange(task.num_labels)):
        print(
            f"note: {source}: classes reordered to {', '.join(label_names(task))}", file=sys.stderr
        )
        with torch.no_grad():
            for tensor in (model.classifier.weight, model.classifier.bias):
                tensor.copy_(tensor[torch.from_numpy(order)].clone())
    model.config.id2label = label_names(task)
    return model


def score_teacher(
    task: GlueTask,
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


def weakness(
    task: GlueTask, metrics: Mapping[str, Mapping[str, float]], dev: Mapping[str, Split]
) -> str | None:
    """Say what a model scored on the (first) dev set, where chance reaches that; None where it does not.

    Chance reaches it if answers that know nothing of the rows do once in 1,000 times (see `chance_score`).
    """
    first = next(iter(dev))
    score, chance = metrics[first][task.main_metric], chance_score(task, dev[first].labels)
    if score > chance:
        return None
    told = (
        f"{task.main_metric} {score:.3f} on {first} of {task.folder}; of 1,000 that know nothing, one "
        f"reaches {chance:.3f} on these {len(dev[first].labels):,} rows"
    )
    (teacher,) = json.loads(PUBLISHED.read_bytes())["teachers"]
    if task.folder in teacher:
        told += f" (published for {teacher['model']}: {teacher[task.folder] / 100:.3f})"
    return told


def label_names(task: GlueTask) -> list[str]:
    """Names of the task's classes in logit order, as written to `config.json`."""
    return list(task.label_names or task.labels or ["LABEL_0"])


def load_student(
    args: argparse.Namespace, task: GlueTask, teacher_width: int
) -> TinyBertForSequenceClassification:
    """Load the student, or make it; a general student has no classifier yet and gets a fresh one."""
    if args.from_scratch:
        config = read_config(args.student_model, args.cache_dir)
        return new_classifier(task, config, args.head, fit_size=teacher_width)
    return load_classifier(
        task, args.student_model, ("classifier.", "bert.pooler."), args.cache_dir,
        dropped_parts(args), head=args.head, fit_size=teacher_width,
    )  # fmt: skip


def new_classifier(
    task: GlueTask, config: BertConfig, head: str | None = None, **settings: Any
) -> TinyBertForSequenceClassification:
    """Make a classifier of the task with fresh weights, whatever classes the config is of.

    Args:
        head: kind of its head; None is that of the config.
        settings: fields of the config to set.
    """
    settings |= {"id2label": label_names(task)} | ({"classifier_head": head} if head else {})
    return TinyBertForSequenceClassification.from_scratch(config, **settings)


def score_student(
    args: argparse.Namespace, task: GlueTask, device: torch.device, precision: str
) -> None:
    """Score the student on the dev sets, predict the test sets, or both."""
    folder, context = Path(args.output_dir), autocast(precision, device)
    check_writable(folder)
    tokenizer = load_tokenizer(args, args.student_model)
    student = load_classifier(task, args.student_model, (), args.cache_dir, head=args.head)
    student.to(device)
    check_vocabulary(tokenizer, student.config, args.student_model, args.cache_dir)
    check_length(student.config, args.max_seq_length, args.student_model)
    if args.do_eval:
        dev = load_dev(task, args.data_dir, tokenizer, args.max_seq_length)
        record = RunRecord(
            "evaluate", vars(args), task=task.folder, student=args.student_model, teacher=None,
            output_dir=args.output_dir, data=data_facts(task, args.data_dir, dev),
            main_metric=task.main_metric, model=describe_model(student), precision=precision,
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


def splits_asked(task: GlueTask, data_dir: str | os.PathLike, kind: str) -> list[str]:
    """The splits of a kind: `train`, or every dev or test set."""
    if kind == "dev":
        return dev_splits(task, data_dir)
    return list(task.test_files) if kind == "test" else [kind]


def write_submissions(
    task: GlueTask,
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
