"""What the siblings' scripts share: which rows they train on and score, and what a score is."""

from __future__ import annotations

import argparse
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from cli.finetuning import TaskData
from cli.flags import whole_number
from corpus.token_store import encode_pairs
from tasks.classifiers import data_facts, load_dev, load_split
from tasks.evaluation import predictions_of
from tasks.features import Split
from tasks.metrics import compute_metrics
from tasks.task import Examples, Task, dev_splits, read_split, split_path
from transformer.tokenization import BertTokenizer

TASKS = "SST-2,MRPC,QQP,RTE,CoLA"  # of the re-implementation that distilbert/ follows


def add_task_flags(group: argparse._ArgumentGroup, root: Path) -> None:
    """Add the choice of the tasks, where their data are (by default below `root`), and of the rows."""
    group.add_argument(
        "--tasks",
        default=TASKS,
        help="GLUE tasks, or JSON files of tasks of one's own, with commas",
    )
    group.add_argument(
        "--glue_dir",
        default=str(root / "data/glue_data"),
        help="folder that holds the tasks' folders",
    )
    group.add_argument(
        "--splits",
        choices=("official", "seed"),
        default="official",
        help="official: the task's own training and dev set; seed: 80/10/10 of both together, drawn with "
        "--seed, as the re-implementation, whose test rows have near-duplicates among the training rows",
    )


def add_workers_flag(group: argparse._ArgumentGroup, workers: int) -> None:
    """Add how many threads tokenise."""
    group.add_argument(
        "--num_workers",
        type=whole_number,
        default=workers,
        help="threads that tokenise, at most a core each",
    )


def limit_workers(args: argparse.Namespace) -> None:
    """Let no more threads tokenise than `--num_workers` says; to be called before the first text."""
    threads = min(args.num_workers, os.cpu_count() or 1)
    os.environ.setdefault("RAYON_NUM_THREADS", str(threads))


def read_task_data(
    args: argparse.Namespace, task: Task, folder: Path, tokenizer: BertTokenizer
) -> TaskData:
    """Read and tokenise a task's rows, in memory.

    Raises:
        UserError: a file is missing, or a row is wrong.
    """
    length = args.max_seq_length
    if args.splits == "official":
        train = load_split(task, folder, "train", tokenizer, length)
        dev = load_dev(task, folder, tokenizer, length)
        facts = data_facts(task, folder, {"train": train, **dev})
        return TaskData(
            split_path(task, folder, "train").name, train, dev, facts, next(iter(dev.values()))
        )
    first = dev_splits(task, folder)[0]
    rows = joined(read_split(task, folder, "train"), read_split(task, folder, first))
    store = encode_pairs(tokenizer, rows.text_a, rows.text_b, length)
    parts = {
        name: Split(store.take(chosen), rows.labels[chosen])
        for name, chosen in divide(len(rows), args.seed).items()
    }
    whole = {name: Split(store, rows.labels) for name in ("train", first)}
    facts = {
        name: fact | {"rows": len(rows), "divided_by_seed": args.seed}
        for name, fact in data_facts(task, folder, whole).items()
    }
    return TaskData(
        "80 % of train and dev", parts["train"], {"validation": parts["validation"]},
        facts | {"validation": facts[first]}, parts["test"],
    )  # fmt: skip


def scores(task: Task, logits: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Mean loss over all rows, accuracy, and the task's own metrics."""
    outputs = torch.from_numpy(logits)
    answers = predictions_of(task, logits)
    if task.labels is None:
        errors = torch.nn.functional.mse_loss(outputs[:, 0], torch.from_numpy(labels))
        return {"loss": errors.item()} | compute_metrics(task, answers, labels)
    loss = torch.nn.functional.cross_entropy(outputs, torch.from_numpy(labels)).item()
    accuracy = float(np.mean(answers == labels))
    return {"loss": loss, "accuracy": accuracy} | compute_metrics(task, answers, labels)


def short_name(task: Task) -> str:
    """sst2 for SST-2; a task of one's own as it is called."""
    return task.key if task.definition is None else task.folder


def divide(rows: int, seed: int) -> dict[str, np.ndarray]:
    """Row numbers of three parts: a tenth for test, a tenth of the rest for validation, both rounded up."""
    order = np.random.default_rng(seed % 2**64).permutation(rows)
    test = math.ceil(0.1 * rows)
    validation = math.ceil(0.1 * (rows - test))
    return {
        "test": order[:test],
        "validation": order[test : test + validation],
        "train": np.sort(order[test + validation :]),
    }


def joined(one: Examples, other: Examples) -> Examples:
    """The rows of two splits."""
    return replace(
        one,
        ids=np.concatenate([one.ids, other.ids]),
        text_a=one.text_a + other.text_a,
        text_b=None if one.text_b is None else one.text_b + other.text_b,
        labels=np.concatenate([one.labels, other.labels]),
    )
