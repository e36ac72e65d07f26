"""Which of the lengths that travel with a model are used: `--budget`."""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from files.errors import UserError
from transformer.configuration import EncoderConfig
from transformer.lengths import LengthConfig

REPEATS = 7


def add_budget_flag(group: argparse._ArgumentGroup) -> None:
    """Add what a model's answers may cost."""
    group.add_argument(
        "--budget",
        type=budget,
        metavar="SHARE|TIMEms",
        help="the best of the model's length configurations that costs at most this share of the whole "
        "model's work, such as 0.5; or that takes at most so long for a batch here, such as 20ms, which is "
        "measured",
    )


def budget(text: str) -> tuple[str, float]:
    """Read `0.5` or `20ms`."""
    kind, number = ("ms", text[:-2]) if text.endswith("ms") else ("share", text)
    value = float(number)
    if not 0 < value < float("inf") or (kind == "share" and value > 1):
        raise argparse.ArgumentTypeError(
            f"{text}: expected a share above 0 and up to 1, or a time such as 20ms"
        )
    return kind, value


def chosen_lengths(
    args: argparse.Namespace,
    config: EncoderConfig,
    model: Callable[..., Any],
    make_batch: Callable[[], Mapping[str, Tensor]],
) -> LengthConfig | None:
    """The configuration that `--budget` chooses; None for the whole model.

    Args:
        make_batch: makes a batch to measure times on.

    Raises:
        UserError: the model has none, or none is so cheap.
    """
    if args.budget is None:
        return None
    kind, most = args.budget
    found = _configs(args, config)
    if kind == "share":
        costs = [float(entry["share"]) for entry in found]
    else:
        costs = measured(model, make_batch(), [lengths_of(entry) for entry in found])
    affordable = [i for i, cost in enumerate(costs) if cost <= most]
    unit = " ms a batch" if kind == "ms" else ""
    if not affordable:
        raise UserError(
            f"--budget {most:g}{kind * (kind == 'ms')}: the cheapest of the {len(found)} configurations of "
            f"{args.model} takes {min(costs):.3g}{unit}; allow that"
        )
    best = max(affordable, key=lambda i: float(found[i]["score"]))
    entry = found[best]
    told = ", ".join(f"{length:.3g}" for length in entry["lengths"])
    print(
        f"note: lengths {told}: {entry['metric']} {entry['score']:.4g} when they were found, share "
        f"{entry['share']:.3g}" + f", {costs[best]:.3g}{unit} here" * bool(unit),
        file=sys.stderr,
    )
    return lengths_of(entry)


def _configs(args: argparse.Namespace, config: EncoderConfig) -> list[Mapping[str, Any]]:
    found = config.length_configs
    if not found:
        raise UserError(
            f"--budget: {args.model} has no length configurations; a search (run_squad.py "
            "--do_optuna_search, task_distill.py --search_lengths) writes them into its config.json"
        )
    try:
        for entry in found:
            lengths_of(entry).check(config.num_hidden_layers)
            [float(entry[name]) for name in ("score", "share")], str(entry["metric"])
    except (KeyError, TypeError, ValueError, UserError) as error:
        raise UserError(
            f"{args.model}: length_configs of its config.json are not ones ({error}); search again"
        ) from None
    return found


def lengths_of(entry: Mapping[str, Any]) -> LengthConfig:
    """The configuration of an entry of `length_configs`."""
    return LengthConfig(tuple(entry["lengths"]))


@torch.inference_mode()
def measured(
    model: Callable[..., Any], batch: Mapping[str, Tensor], configs: Sequence[LengthConfig]
) -> list[float]:
    """Median milliseconds of a batch under each configuration; they take turns."""
    times: list[list[float]] = [[] for _ in configs]
    for turn in range(REPEATS + 1):
        for spans, lengths in zip(times, configs, strict=True):
            began = time.perf_counter()
            model(**batch, lengths=lengths)
            if turn:  # the first is a warm-up
                spans.append(1000 * (time.perf_counter() - began))
    return [statistics.median(spans) for spans in times]
