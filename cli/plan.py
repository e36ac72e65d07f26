"""The plan: what a program says before it does its work, or instead of it with --dry_run."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from corpus.batches import StoreBatches
    from distillation.distributed import Runtime
    from distillation.state import TrainingSettings


def add_dry_run_flag(group: argparse._ArgumentGroup) -> None:
    """Add --dry_run."""
    group.add_argument(
        "--dry_run",
        action="store_true",
        help="check everything, say what would be done and how long it would take, and stop",
    )


def print_facts(title: str, facts: Mapping[str, Any]) -> None:
    """Print a title and a fact a line, aligned, on standard error."""
    width = max(map(len, facts)) + 2
    gap = "\n" + " " * (width + 2)
    lines = (
        f"  {name:<{width}}{str(value).replace(chr(10), gap)}" for name, value in facts.items()
    )
    print("\n".join([title, *lines]), file=sys.stderr)


def say_untouched(output: str | os.PathLike) -> None:
    """The last line of a dry run."""
    print(f"dry run: {output} is unchanged", file=sys.stderr)


def of_size(count: float) -> str:
    """Say how large something of so many bytes is: 812 bytes, 3.1 MB, 13.4 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            return f"{count / factor:.1f} {unit}"
    return f"{count:.0f} bytes"


def folder_bytes(folder: Path) -> int:
    """How many bytes the files in a folder have."""
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())


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
    from cli.precision import computed_on
    from distillation.training import number_of_steps
    from transformer.optimization import OPTIMIZERS

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
    rises = settings.warmup_steps or settings.warmup_proportion
    if settings.schedule != "none" and (rises or settings.schedule != "warmup_constant"):
        rise = f"{settings.warmup_proportion:.3g} of the"
        if settings.warmup_steps is not None:
            rise = f"{settings.warmup_steps:,}"
        fall = {"linear": "down to 0", "constant": "constant"}
        shape = settings.schedule.removeprefix("warmup_")
        rate = (
            f"learning rate up to {settings.learning_rate:g} in {rise} steps, then "
            f"{fall.get(shape, f'down to 0 ({shape})')}"
        )
    clipped = {"tensor": "clipped tensor by tensor", "global": "clipped together"}[settings.clip]
    if settings.max_grad_norm < 0:
        clipped = "as they are"
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    encoder = sum(p.numel() for p in model.bert.parameters())
    accumulation = f" in {settings.accumulation} micro-steps" * (settings.accumulation > 1)
    processes = f", {runtime.world} processes" * (runtime.world > 1)
    common = {
        "lengths": f"{len(store.tokens) / len(store):.1f} tokens on average, {longest} at most",
        "parameters": f"{encoder:,} in the encoder; {trained:,} are trained",
        "steps": f"{steps:,} of {args.train_batch_size} rows{accumulation}, {length}",
        "optimiser": f"{OPTIMIZERS[settings.optimizer_name].__name__}, gradients {clipped}; "
        f"{rate}; weight decay {settings.weight_decay:g}",
        "on": f"{computed_on(runtime.device, settings.precision)}{processes}, seed {settings.seed}",
        "into": args.output_dir,
    }
    print_facts(title, {**facts, **common})
