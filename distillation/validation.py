"""The losses of a whole set, which are those of one batch of all its rows."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

import torch
from torch import nn

from distillation.global_batches import BatchSource
from distillation.objective import Objectives

if TYPE_CHECKING:
    from torch import Tensor


def mean_losses(
    losses: Objectives,
    model: nn.Module,
    source: BatchSource,
    device: torch.device,
    precision: AbstractContextManager,
) -> dict[str, float]:
    """The losses that training minimises, over epoch 0 of a source, without dropout.

    Batches are parts of one global batch: what a batch counts is its share of it, not one of so many.

    Args:
        source: its epoch 0 is the same at every call.
        precision: an autocast context.

    Returns:
        Each named loss, and "loss", their sum.
    """
    plan = source.plan(0)
    counts = [float(source.weights(0, rows).sum()) for rows in plan]
    total, whole = sum(counts), {}
    for rows in plan:
        for name, value in source.totals(0, rows).items():
            whole[name] = whole.get(name, 0.0) + value
    sums: dict[str, Tensor] = {}
    trains = model.training
    model.eval()
    with torch.no_grad(), precision:
        for rows, count in zip(plan, counts, strict=True):
            batch = source.collate(0, rows, source.width(0, rows))
            found = losses(model, {name: value.to(device) for name, value in batch.items()} | whole)
            for name, value in found.named.items():
                sums[name] = sums.get(name, 0) + value.detach() * (count / total)
    model.train(trains)
    means = {name: value.item() for name, value in sums.items()}
    return means | {"loss": sum(means.values())}
