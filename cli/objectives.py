"""The flags that say what a student learns from its teacher, and the objectives they lead to."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator

from distillation.mapping import LayerMapping, layer_mapping
from distillation.objective import Objectives, Setup
from distillation.objectives import OBJECTIVES, make_objectives
from files.errors import UserError
from transformer.configuration import BertConfig

LAYER_WEIGHTS = {"--att_weight": "att_mse", "--emb_weight": "emb_mse", "--rep_weight": "hidden_mse"}


def add_layer_flags(group: argparse._ArgumentGroup) -> None:
    """Add what distillation of the layers takes."""
    group.add_argument(
        "--layer_map",
        default="uniform",
        help="uniform, top, bottom, or student:teacher pairs such as 1:3,2:6,3:9,4:12",
    )
    group.add_argument("--att_weight", type=float, default=1.0, help="weight of the attention loss")
    group.add_argument(
        "--rep_weight", type=float, default=1.0, help="weight of the hidden-state loss"
    )
    group.add_argument("--emb_weight", type=float, default=1.0, help="weight of the embedding loss")
    group.add_argument(
        "--objectives",
        metavar="NAME:WEIGHT,…",
        type=objective_weights,
        help="what the student learns, in place of the three weights: any of "
        f"{', '.join(OBJECTIVES)}, each with its weight",
    )
    group.add_argument(
        "--teacher_dropout",
        action="store_true",
        help="leave dropout on in the teacher, as the original does by mistake",
    )


def objective_weights(text: str) -> dict[str, float]:
    """Read a flag such as `att_mse:1,hidden_mse:0.5`."""
    weights: dict[str, float] = {}
    for item in text.split(","):
        name, _, weight = item.partition(":")
        if name not in OBJECTIVES or name in weights:
            again = "is named twice" if name in weights else "is not an objective"
            raise argparse.ArgumentTypeError(f"{name} {again}; there are {', '.join(OBJECTIVES)}")
        try:
            weights[name] = float(weight or 1)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{item}: expected a name and a number") from None
    return weights


def layer_objectives(args: argparse.Namespace, setup: Setup) -> Objectives:
    """The objectives of `--objectives`, or of the three published weights.

    Raises:
        UserError: a weight is out of its range, both kinds of flags are given, or the models do not fit.
    """
    given = {flag: getattr(args, flag[2:]) for flag in LAYER_WEIGHTS}
    if args.objectives is not None:
        if other := [flag for flag, weight in given.items() if weight != 1]:
            raise UserError(f"{other[0]} and --objectives: give one of them")
        with about("--objectives"):
            return make_objectives(args.objectives, setup)
    for flag, weight in given.items():
        if not 0 <= weight < math.inf:
            raise UserError(f"{flag} {weight}: expected a number from 0")
    if not any(given.values()):
        raise UserError(
            "--att_weight, --rep_weight, --emb_weight are all 0: nothing would be learned"
        )
    try:
        return make_objectives({LAYER_WEIGHTS[f]: w for f, w in given.items()}, setup)
    except UserError as error:
        raise UserError(f"{error} with --att_weight 0") from None


def mapping_from(
    args: argparse.Namespace, student: BertConfig, teacher: BertConfig
) -> LayerMapping:
    """The layers that `--layer_map` pairs."""
    with about("--layer_map"):
        depths = student.num_hidden_layers, teacher.num_hidden_layers
        return layer_mapping(args.layer_map, *depths)


@contextlib.contextmanager
def about(flag: str) -> Iterator[None]:
    """Name, before a message of what knows no flags, the one that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{flag} {error}") from None
