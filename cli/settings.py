"""From the flags of a training script to what they stand for: settings, batches, parts of a model."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from typing import Any

from cli.flags import SCHEDULE_NAMES
from cli.precision import precision_from
from distillation.distributed import Runtime
from distillation.state import TrainingSettings
from files.errors import UserError
from reporting.curves import PACKAGES
from transformer.weights import WeightsMismatch

MOST_EPOCHS = 100_000  # the steps of each are counted before the first


def settings_from(args: argparse.Namespace, schedule: str, runtime: Runtime) -> TrainingSettings:
    """Check the flags against each other and turn them into settings; `--clip` follows the optimiser.

    Raises:
        UserError: a package is missing, flags exclude each other, a batch is smaller than its
            micro-steps, a number is out of its range, or see `precision_from`.
    """
    check_targets(args.report_to)
    _check_ranges(args)
    if args.clip is None:
        args.clip = "global" if args.optimizer == "adamw" else "tensor"
    return TrainingSettings(
        epochs=args.num_train_epochs,
        learning_rate=args.learning_rate,
        schedule=SCHEDULE_NAMES.get(args.schedule, schedule),
        warmup_proportion=args.warmup_proportion,
        weight_decay=args.weight_decay,
        accumulation=args.gradient_accumulation_steps,
        precision=precision_from(args, runtime),
        seed=args.seed,
        max_steps=args.max_steps,
        eval_step=args.eval_step or sys.maxsize,
        save_minutes=args.save_minutes,
        save_steps=args.save_steps,
        nan_policy=args.nan_policy,
        compiled=args.compile,
        recorded=not args.no_cuda_graphs,
        optimizer_name=args.optimizer,
        clip=args.clip,
        max_grad_norm=args.max_grad_norm or -1,
        warmup_steps=args.warmup_steps,
        betas=(args.adam_beta1, args.adam_beta2),
        epsilon=args.adam_epsilon,
        max_minutes=args.max_minutes,
        patience=getattr(args, "patience", None),
    )


def _check_ranges(args: argparse.Namespace) -> None:
    """Refuse a number that is out of its range, and flags that exclude each other."""
    if args.train_batch_size < args.gradient_accumulation_steps:
        raise UserError(
            f"--train_batch_size {args.train_batch_size}: smaller than --gradient_accumulation_steps "
            f"{args.gradient_accumulation_steps}; a micro-step needs at least one row"
        )
    if not 0 < args.learning_rate < math.inf:
        raise UserError(f"--learning_rate {args.learning_rate}: expected a number above 0")
    if not 0 <= args.weight_decay < math.inf:
        raise UserError(f"--weight_decay {args.weight_decay}: expected a number from 0")
    if not args.save_minutes >= 0:
        raise UserError(f"--save_minutes {args.save_minutes}: expected a number from 0")
    if args.num_train_epochs > MOST_EPOCHS:
        raise UserError(
            f"--num_train_epochs {args.num_train_epochs}: expected at most {MOST_EPOCHS:,}; --max_steps "
            "ends a run sooner"
        )
    if args.warmup_proportion == 1:
        raise UserError("--warmup_proportion 1: expected less; no step would be left after it")
    if not -(2**63) <= args.seed < 2**63:
        raise UserError(f"--seed {args.seed}: expected a number of at most 64 bits")
    if args.warmup_steps is not None and args.warmup_proportion != 0.1:
        raise UserError("--warmup_steps and --warmup_proportion: give one of them")
    if args.max_minutes is not None and not 0 < args.max_minutes < math.inf:
        raise UserError(f"--max_minutes {args.max_minutes}: expected a number above 0")
    if not 0 <= args.max_grad_norm < math.inf:
        raise UserError(f"--max_grad_norm {args.max_grad_norm}: expected a number from 0")
    for flag, beta in (("--adam_beta1", args.adam_beta1), ("--adam_beta2", args.adam_beta2)):
        if not 0 <= beta < 1:
            raise UserError(f"{flag} {beta}: expected a number from 0 up to, not including, 1")
    if args.adam_epsilon is not None and not 0 <= args.adam_epsilon < math.inf:
        raise UserError(f"--adam_epsilon {args.adam_epsilon}: expected a number from 0")


def batching_from(args: argparse.Namespace, length: int) -> dict[str, Any]:
    """The options of `StoreBatches` that the flags set."""
    return {
        "batch_size": args.train_batch_size,
        "seed": args.seed,
        "pad_to": length if args.pad_to_max_length else None,
        "drop_last": args.drop_last,
        "pool": 1 if args.random_batches else 100,
    }


def check_targets(targets: list[str]) -> None:
    """Refuse a target whose package is not there, before a run and not after it.

    Raises:
        UserError: it says what to install.
    """
    for name in targets:
        package = PACKAGES[name]
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f"--report_to {name}: the package {package} is missing; pip install {package}, or "
                f"leave it out (--report_to none; report.py draws the curves later)"
            )


def mention_ignored_flags(args: argparse.Namespace) -> None:
    """Say that `--data_url` did nothing, if it was given."""
    if args.data_url:
        print("note: --data_url served a private cloud and is ignored", file=sys.stderr)


def dropped_parts(args: argparse.Namespace) -> tuple[str, ...]:
    """Prefixes of the weights that the flags of `add_drop_flags` leave out."""
    head = ("classifier.",) if getattr(args, "drop_head", False) else ()
    return head + (("fit_dense.", "fit_denses.") if args.drop_projection else ())


@contextlib.contextmanager
def advising_drops() -> Iterator[None]:
    """Add to a message about a weight that does not fit which flag would leave it out."""
    advice = {
        "classifier.": "; --drop_head starts with a new classifier",
        "fit_dense": "; --drop_projection starts with a new projection",
    }
    try:
        yield
    except WeightsMismatch as error:
        told = next((advice[part] for part in advice if error.name.startswith(part)), "")
        raise UserError(f"{error}{told}") from None
