"""What a classifier answers on a split, and how good that is."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING

import numpy as np
import torch

from corpus.batches import plan_batches
from corpus.token_store import TokenStore, ranges
from tasks.metrics import compute_metrics
from tasks.task import Task
from transformer.lengths import LengthConfig

if TYPE_CHECKING:
    from torch import nn

_BATCHES_AT_ONCE = 64  # whose logits are fetched together: a GPU is not waited for in between


def predict_logits(
    model: nn.Module,
    store: TokenStore,
    batch_size: int,
    device: torch.device,
    precision: AbstractContextManager | None = None,
    out: np.ndarray | None = None,
    done: Callable[[int], object] = lambda rows: None,
) -> np.ndarray:
    """Run a classifier over every row of a store.

    Args:
        model: `TinyBertForSequenceClassification`, in evaluation mode.
        precision: an autocast context for the forward passes, None for fp32.
        out: array for the logits, memory-mapped perhaps. NaN marks what is still to be computed; batches
            of rows without it are passed over. The batches are the same every time.
        done: told of every so many rows done.

    Returns:
        Logits, float32 [n, C], in the order of the store.
    """
    if out is None:
        out = np.full((len(store), model.config.num_labels), np.nan, np.float32)

    def run(rows: np.ndarray) -> torch.Tensor:
        batch = {name: t.to(device) for name, t in store.collate(rows).items()}
        return model(**batch).output

    _fill(out, store, lambda rows: rows, run, batch_size, precision, done)
    return out


def predict_spans(
    model: nn.Module,
    store: TokenStore,
    batch_size: int,
    device: torch.device,
    precision: AbstractContextManager | None = None,
    out: np.ndarray | None = None,
    done: Callable[[int], object] = lambda rows: None,
    lengths: LengthConfig | None = None,
) -> np.ndarray:
    """Run a `BertForQuestionAnswering` over every row of a store; arguments as for `predict_logits`.

    Args:
        lengths: how many tokens each layer passes on.

    Returns:
        Scores, float32 [T, 2], in the order of the store's tokens.
    """
    if out is None:
        out = np.full((len(store.tokens), 2), np.nan, np.float32)
    options = {} if lengths is None else {"lengths": lengths}

    def run(rows: np.ndarray) -> torch.Tensor:
        batch = {name: t.to(device) for name, t in store.collate(rows).items()}
        return model(**batch, **options).output[batch["attention_mask"].bool()]

    _fill(out, store, lambda rows: ranges(*store.spans(rows)), run, batch_size, precision, done)
    return out


def _fill(
    out: np.ndarray,
    store: TokenStore,
    places: Callable[[np.ndarray], np.ndarray],
    run: Callable[[np.ndarray], torch.Tensor],
    batch_size: int,
    precision: AbstractContextManager | None,
    done: Callable[[int], object],
) -> None:
    """Write what a model answers to the rows of a store into `out`, at their places."""
    rows_done, logits = [], []

    def write() -> None:
        rows = np.concatenate(rows_done)
        out[places(rows)] = torch.cat(logits).float().cpu().numpy()
        done(len(rows))
        rows_done.clear()
        logits.clear()

    with torch.inference_mode(), precision or nullcontext():
        for rows in plan_batches(store.lengths, batch_size, seed=0, epoch=0, shuffle=False):
            if not np.isnan(out[places(rows)]).any():
                done(len(rows))
                continue
            logits.append(run(rows))
            rows_done.append(rows)
            if len(logits) == _BATCHES_AT_ONCE:
                write()
    if logits:
        write()


def predictions_of(task: Task, logits: np.ndarray) -> np.ndarray:
    """Class ids int64 [n] from logits [n, C], or scores float32 [n] for regression."""
    return logits[:, 0] if task.labels is None else logits.argmax(axis=1)


def evaluate(
    task: Task,
    model: nn.Module,
    splits: Mapping[str, tuple[TokenStore, np.ndarray]],
    batch_size: int,
    device: torch.device,
    precision: AbstractContextManager | None = None,
) -> dict[str, dict[str, float]]:
    """Score a classifier on dev sets given as name -> (store, labels); return name -> metrics."""
    metrics = {}
    for name, (store, labels) in splits.items():
        logits = predict_logits(model, store, batch_size, device, precision)
        metrics[name] = compute_metrics(task, predictions_of(task, logits), labels)
    return metrics
