"""What a training script says before it trains: what with what, how often, how long."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from torch import nn

from cli.foresight import print_facts
from cli.precision import computed_on
from corpus.batches import StoreBatches
from distillation.distributed import Runtime
from distillation.training import TrainingSettings, number_of_steps
from transformer.optimization import OPTIMIZERS


def show_plan(
    title: str,
    facts: Mapping[str, Any],
    args: argparse.Namespace,
    model: nn.Module,
    source: StoreBatches,
    settings: TrainingSettings,
    runtime: Runtime,
) -> None:
    """Print what is about to be done, a fact a line, on the main process.

    Args:
        facts: those of this script alone; they come first.
    """
    if not runtime.is_main:
        return
    store = source.store(0)
    # Of pregenerated data only a bound is known: there may be too many to look at each.
    longest = store.lengths.max() if store.longest is None else store.longest
    steps, epochs = number_of_steps(source, settings), settings.epochs
    counts = sorted({source.count(epoch) for epoch in range(epochs)})
    epoch = " to ".join(f"{count:,}" for count in (counts[0], counts[-1])[: len(counts)])
    length = f"{epochs} epoch{'s' * (epochs > 1)} of {epoch}"
    if settings.max_steps is not None and steps == settings.max_steps:
        length = f"by --max_steps; an epoch has {epoch}"
    rate = f"learning rate {settings.learning_rate:g}, constant"
    if settings.schedule != "none":
        rate = (
            f"learning rate up to {settings.learning_rate:g} in {settings.warmup_proportion:.3g} of the "
            "steps, then down to 0"
        )
    clipped = {"tensor": "tensor by tensor", "global": "together"}[settings.clip]
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    encoder = sum(p.numel() for p in model.bert.parameters())
    accumulation = f" in {settings.accumulation} micro-steps" * (settings.accumulation > 1)
    processes = f", {runtime.world} processes" * (runtime.world > 1)
    common = {
        "lengths": f"{len(store.tokens) / len(store):.1f} tokens on average, {longest} at most",
        "parameters": f"{encoder:,} in the encoder; {trained:,} are trained",
        "steps": f"{steps:,} of {args.train_batch_size} rows{accumulation}, {length}",
        "optimiser": f"{OPTIMIZERS[settings.optimizer_name].__name__}, gradients clipped {clipped}; "
        f"{rate}; weight decay {settings.weight_decay:g}",
        "on": f"{computed_on(runtime.device, settings.precision)}{processes}, seed {settings.seed}",
        "into": args.output_dir,
    }
    print_facts(title, {**facts, **common})
