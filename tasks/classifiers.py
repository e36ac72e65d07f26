"""A classifier and the rows it is trained and scored on, of one task: loaded, made, recognised."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from corpus.token_store import encode_pairs
from files.atomic import RUN_RECORD_NAME
from files.checksums import file_facts
from files.errors import UserError, setting
from files.origins import dataset_of
from tasks.features import Split
from tasks.glue import find_task
from tasks.metrics import chance_score
from tasks.own import make_task
from tasks.task import Task, check_label_order, dev_splits, read_split, split_path
from transformer.configuration import BertConfig
from transformer.file_utils import CONFIG_NAME
from transformer.head_kind import CLASSIFIER_HEADS, Head
from transformer.loading import CLASSIFIER
from transformer.modeling import TinyBertForSequenceClassification
from transformer.tokenization import BertTokenizer
from transformer.weights import WeightsMismatch

PUBLISHED = Path(__file__).resolve().parent.parent / "published.json"
EXPORT_RECORD_NAME = "export.json"


def recorded_task(folder: str | os.PathLike) -> Task | None:
    """The task a folder's model learned, by the record of its run or export, or by its config.json."""
    names = {RUN_RECORD_NAME: "task", EXPORT_RECORD_NAME: "task", CONFIG_NAME: "finetuning_task"}
    for name, key in names.items():
        try:
            record = json.loads((Path(folder) / name).read_bytes())
            return task_of_record(record, key)
        except (OSError, ValueError, KeyError, TypeError, AttributeError, UserError):
            continue
    return None


def task_of_record(record: Mapping[str, Any], key: str = "task") -> Task:
    """The task of a record: a GLUE task by its name, one's own by what its file said.

    Raises:
        UserError: there is no such task.
    """
    definition = record.get("task_definition")
    return find_task(record[key]) if definition is None else make_task(definition)


def task_facts(task: Task | None) -> dict[str, Any]:
    """What a record says of its task."""
    if task is None:
        return {"task": None}
    own = {} if task.definition is None else {"task_definition": task.definition}
    return {"task": task.folder, **own}


def load_split(
    task: Task, data_dir: str | os.PathLike, split: str, tokenizer: BertTokenizer, length: int
) -> Split:
    """Read and tokenise one split, in memory."""
    examples = read_split(task, data_dir, split)
    store = encode_pairs(tokenizer, examples.text_a, examples.text_b, length)
    return Split(store, examples.labels)


def load_dev(
    task: Task, data_dir: str | os.PathLike, tokenizer: BertTokenizer, length: int
) -> dict[str, Split]:
    """Read and tokenise every dev set that is there, the one models are selected on first."""
    return {
        split: load_split(task, data_dir, split, tokenizer, length)
        for split in dev_splits(task, data_dir)
    }


def data_facts(
    task: Task, data_dir: str | os.PathLike, splits: Mapping[str, Split]
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
    choose: str = "head",
    **settings: Any,
) -> TinyBertForSequenceClassification:
    """Load a classifier, and say which head it has.

    Args:
        head: kind of its head; None lets its files decide (see transformer/head_kind.py).
        choose: the setting that is `head`.
        settings: what else `from_pretrained` takes.

    Raises:
        UserError: weights are missing or do not fit.
    """
    model = TinyBertForSequenceClassification.from_pretrained(
        source, cache_dir=cache_dir, classifier_head=head, **settings
    )
    report_head(model.head, source, choose)
    return model


def report_head(head: Head, source: str | os.PathLike, choose: str = "head") -> None:
    """Say which head a classifier has and why; of a guess also how to choose the other."""
    if os.environ.get("RANK", "0") != "0":  # another process of torchrun says it
        return
    told = f"{source}: classifier head {head.kind}, {CLASSIFIER_HEADS[head.kind]}"
    if head.guessed:
        (other,) = CLASSIFIER_HEADS.keys() - {head.kind}
        choice = f"{setting(choose)} {other} makes it {CLASSIFIER_HEADS[other]}"
        told = f"note: {told}, is a guess ({head.reason}); {choice}"
    else:
        told += f" ({head.reason})"
    print(told, file=sys.stderr)


def load_classifier(
    task: Task,
    source: str | os.PathLike,
    may_init: Sequence[str],
    cache_dir: str | os.PathLike | None = None,
    **settings: Any,
) -> TinyBertForSequenceClassification:
    """Load a classifier with its classes brought into the task's order.

    Args:
        may_init: name prefixes the checkpoint may lack, such as `classifier.` for a student that has
            seen no task yet: it gets a new one for the task's classes.
        settings: what else `read_classifier` takes.

    Raises:
        WeightsMismatch: weights are missing, or the model's labels are not the task's.
    """
    model = read_classifier(
        source, cache_dir, may_init=(*may_init, "fit_dense.", "fit_denses."),
        labels=label_names(task), **settings,
    )  # fmt: skip
    names = model.config.id2label
    try:
        order = check_label_order(task, dict(enumerate(names)) if names else None, str(source))
    except UserError as error:
        raise WeightsMismatch(str(error), CLASSIFIER[0]) from None
    if not np.array_equal(order, np.arange(task.num_labels)):
        print(
            f"note: {source}: classes reordered to {', '.join(label_names(task))}", file=sys.stderr
        )
        with torch.no_grad():
            for tensor in (model.classifier.weight, model.classifier.bias):
                tensor.copy_(tensor[torch.from_numpy(order)].clone())
    model.config.id2label = label_names(task)
    return model


def new_classifier(
    task: Task, config: BertConfig, head: str | None = None, **settings: Any
) -> TinyBertForSequenceClassification:
    """Make a classifier of the task with fresh weights, whatever classes the config is of.

    Args:
        head: kind of its head; None is that of the config.
        settings: fields of the config to set.
    """
    settings |= {"id2label": label_names(task)} | ({"classifier_head": head} if head else {})
    return TinyBertForSequenceClassification.from_scratch(config, **settings)


def weakness(
    task: Task, metrics: Mapping[str, Mapping[str, float]], dev: Mapping[str, Split]
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
    if task.definition is None and task.folder in teacher:
        told += f" (published for {teacher['model']}: {teacher[task.folder] / 100:.3f})"
    return told


def label_names(task: Task) -> list[str]:
    """Names of the task's classes in logit order, as written to `config.json`."""
    return list(task.label_names or task.labels or ["LABEL_0"])
