"""The flags that say what a student learns from its teacher, and the objectives they lead to."""

from __future__ import annotations

import argparse
import contextlib
import math
from collections.abc import Iterator

from cli.classification import freeze_unused
from distillation.mapping import LayerMapping, layer_mapping
from distillation.objective import Objectives, Setup
from distillation.objectives import OBJECTIVES, make_objectives
from files.errors import UserError
from tasks.task import Task
from transformer.configuration import BertConfig
from transformer.modeling import TinyBertForSequenceClassification

LAYER_WEIGHTS = {"--att_weight": "att_mse", "--emb_weight": "emb_mse", "--rep_weight": "hidden_mse"}


def add_mapping_flag(group: argparse._ArgumentGroup) -> None:
    """Add which layers are compared."""
    group.add_argument(
        "--layer_map",
        default="uniform",
        help="uniform, top, bottom, or student:teacher pairs such as 1:3,2:6,3:9,4:12",
    )


def add_layer_flags(group: argparse._ArgumentGroup) -> None:
    """Add what distillation of the layers takes."""
    add_mapping_flag(group)
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


def is_of_predictions(args: argparse.Namespace) -> bool:
    """Whether the student learns predictions, alone or beside layers: it is scored then."""
    return args.pred_distill or any(OBJECTIVES[name].reads for name in args.objectives or ())


def check_choices(args: argparse.Namespace, task: Task) -> None:
    """Refuse flags of what to learn that contradict each other or the task.

    Raises:
        UserError: it names them.
    """
    if args.objectives is not None:
        for flag in ("pred_distill", "hard_labels"):
            if getattr(args, flag):
                raise UserError(f"--{flag} and --objectives: give one of them")
        for name in {"soft_ce", "soft_kl"}.intersection(args.objectives):
            if task.labels is None:
                raise UserError(
                    f"--objectives {name}: is for classes; {task.folder} has one score: logit_mse"
                )
    if is_of_predictions(args) and not 0 < args.temperature < math.inf:
        raise UserError(f"--temperature {args.temperature}: expected a number above 0")
    if args.pred_distill and args.hard_labels and task.labels is not None:
        raise UserError(
            f"--hard_labels: is for STS-B; {task.folder} always learns from the teacher"
        )


def choose_objectives(
    args: argparse.Namespace,
    task: Task,
    student: TinyBertForSequenceClassification,
    teacher: TinyBertForSequenceClassification,
) -> tuple[Objectives, str, LayerMapping | None]:
    """What the student learns, in words too, and which layers are compared.

    Parameters that no loss of the stage reads are frozen: they stay as they are.
    """
    mapping = None
    setup = Setup(
        student.config, teacher.config, None, args.temperature, args.ce_reduction, args.compile
    )
    if args.pred_distill:
        name = "logit_mse" if task.labels is None else "soft_ce"
        objectives = make_objectives({"labels" if args.hard_labels else name: 1.0}, setup)
        learns = "labels" if args.hard_labels else "the teacher's logits"
    else:
        mapping = mapping_from(args, student.config, teacher.config)
        objectives = layer_objectives(args, setup._replace(mapping=mapping))
        weighted = [f"{name} × {weight:g}" for name, weight in (args.objectives or {}).items()]
        learns = ", ".join(weighted) or "the teacher's layers"
    layers = objectives.reads_layers
    if not objectives.reads:
        freeze_unused(student, "classifier", "bert.pooler")
    if not layers:
        freeze_unused(student, "fit_dense", "fit_denses")
    objectives.to(next(student.parameters()).device).attach(teacher, is_student=layers)
    return (
        objectives,
        f"{learns}\n{mapping.table()}" if layers else learns,
        mapping if layers else None,
    )
