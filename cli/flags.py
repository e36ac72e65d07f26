"""The flags that several training scripts take, and what they are turned into."""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import math
import sys
from collections.abc import Iterator
from typing import Any

from cli.plan import add_dry_run_flag
from cli.precision import add_bf16_flags, precision_from
from distillation.distributed import Runtime
from distillation.mapping import LayerMapping, layer_mapping
from distillation.objective import Objectives, Setup
from distillation.objectives import OBJECTIVES, make_objectives
from distillation.state import TrainingSettings
from files.errors import UserError
from reporting.curves import PACKAGES
from transformer.configuration import BertConfig
from transformer.head_kind import CLASSIFIER_HEADS
from transformer.optimization import CLIPS, OPTIMIZERS
from transformer.weights import WeightsMismatch

MOST_EPOCHS = 100_000  # the steps of each are counted before the first


def whole_number(text: str) -> int:
    """Read a flag such as `3` or `3.0`, at least 1."""
    value = float(text)
    if not value.is_integer() or value < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a whole number from 1")
    return int(value)


def proportion(text: str) -> float:
    """Read a flag from 0 to 1."""
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text}: expected a number from 0 to 1")
    return value


def add_training_flags(
    parser: argparse.ArgumentParser,
    *,
    train_batch_size: int = 32,
    eval_batch_size: int = 32,
    learning_rate: float = 5e-5,
    num_train_epochs: int | None = 3,
    max_seq_length: int | None = 128,
    eval_step: int | None = 50,
    on_corpus: bool = False,
    warmup_of: str = "",
) -> argparse._ArgumentGroup:
    """Add the flags of optimisation, of the data's shape and of the run itself.

    Args:
        num_train_epochs: None for the task's own; so is max_seq_length.
        eval_step: None for the end of each epoch alone.
        on_corpus: the data are pregenerated, of a length of their own, and have no dev set.
        warmup_of: which of the script's stages has a warm-up, where not every one has.

    Returns:
        The group of flags that are accepted and ignored.
    """
    own = " (default: the task's own)"
    training = parser.add_argument_group("training")
    training.add_argument(
        "--train_batch_size",
        type=whole_number,
        default=train_batch_size,
        help="rows in a global batch, over all micro-steps and processes",
    )
    training.add_argument(
        "--gradient_accumulation_steps",
        type=whole_number,
        default=1,
        help="micro-steps to split each batch into, to save memory",
    )
    training.add_argument(
        "--num_train_epochs",
        type=whole_number,
        default=num_train_epochs,
        help=f"passes over the training data{own * (num_train_epochs is None)}",
    )
    training.add_argument(
        "--max_steps",
        type=whole_number,
        help="stop after this many steps; the schedule then ends there",
    )
    training.add_argument(
        "--learning_rate", type=float, default=learning_rate, help="peak learning rate"
    )
    training.add_argument(
        "--warmup_proportion",
        type=proportion,
        default=0.1,
        help="fraction of the steps over which the learning rate rises" + warmup_of,
    )
    training.add_argument(
        "--weight_decay", "--wd", type=float, default=0.01, help="decay of weight matrices"
    )
    training.add_argument(
        "--optimizer",
        choices=tuple(OPTIMIZERS),
        default="bertadam",
        help="bertadam, as published: Adam without bias correction; or adamw: torch's",
    )
    training.add_argument(
        "--clip",
        choices=CLIPS,
        help="limit the norm of each tensor's gradient to 1, or that of all together (default: tensor "
        "with bertadam, as published, global with adamw)",
    )
    training.add_argument(
        "--seed", type=int, default=42, help="random seed for data order, dropout and new weights"
    )
    batches = parser.add_argument_group("batches")
    batches.add_argument(
        "--drop_last",
        action="store_true",
        help="leave out an epoch's short last batch, as the original does",
    )
    batches.add_argument(
        "--pad_to_max_length",
        action="store_true",
        help="pad every batch to the longest a row may be, as the original does; this changes the "
        "losses, whose means run over padding too",
    )
    batches.add_argument(
        "--random_batches",
        action="store_true",
        help="batches of random rows, as the original's, instead of rows of like length",
    )
    _add_running_flags(parser, eval_step, on_corpus)
    _add_checkpoint_flags(parser)
    ignored = add_ignored_flags(parser)
    (ignored if on_corpus else batches).add_argument(
        "--max_seq_length",
        type=whole_number,
        default=max_seq_length,
        help="sequences are as long as the data were made"
        if on_corpus
        else "longest sequence in tokens; longer ones are truncated"
        + own * (max_seq_length is None),
    )
    (ignored if on_corpus else batches).add_argument(
        "--eval_batch_size",
        type=whole_number,
        default=eval_batch_size,
        help="there is no dev set" if on_corpus else "rows in a batch of an evaluation",
    )
    return ignored


def _add_running_flags(
    parser: argparse.ArgumentParser, eval_step: int | None, on_corpus: bool
) -> None:
    group = parser.add_argument_group("running")
    add_dry_run_flag(group)
    what = "save" if on_corpus else "evaluate and save"
    group.add_argument(
        "--eval_step",
        type=whole_number,
        default=eval_step,
        help=f"{what} every N steps, in addition to the end of each epoch",
    )
    group.add_argument(
        "--report_to",
        metavar="KINDS",
        type=report_targets,
        default="png",
        help="training curves: png (curves.png beside the model), tensorboard (event files), both "
        "separated by a comma, or none",
    )
    add_bf16_flags(group)
    group.add_argument("--fp16", action="store_true", help="forward passes in float16 (GPU only)")
    group.add_argument(
        "--compile",
        action="store_true",
        help="compile the models' layers with torch.compile: the first steps take a minute, the others "
        "less, most so on a GPU",
    )
    group.add_argument("--no_cuda", action="store_true", help="stay on the CPU")
    group.add_argument(
        "--no_cuda_graphs",
        action="store_true",
        help="on a GPU, launch every kernel of a step separately instead of recording and replaying "
        "steps: slower, in less memory",
    )
    group.add_argument(
        "--local_rank",
        "--local-rank",
        type=int,
        default=-1,
        help="set by torch.distributed.launch; torchrun does without",
    )


def _add_checkpoint_flags(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("checkpoints and mishaps")
    group.add_argument(
        "--resume",
        action="store_true",
        help="resume from the checkpoint in --output_dir, if there is one",
    )
    group.add_argument(
        "--save_minutes",
        type=float,
        default=10.0,
        help="minutes between checkpoints to resume from",
    )
    group.add_argument(
        "--save_steps",
        type=whole_number,
        help="also write a checkpoint every N steps",
    )
    group.add_argument(
        "--nan_policy",
        choices=("stop", "skip"),
        default="stop",
        help="when a loss or gradient is not finite: stop the run, or leave the batch out; its "
        "row numbers are in metrics.jsonl",
    )
    group.add_argument(
        "--overwrite_output_dir", action="store_true", help="remove what --output_dir holds"
    )


def add_model_flags(group: argparse._ArgumentGroup) -> None:
    """Add what every program that loads a model takes."""
    group.add_argument("--cache_dir", default="", help="where fetched models are kept")
    group.add_argument(
        "--do_lower_case",
        action="store_true",
        help="lower-case the text; without it the vocabulary decides",
    )


def add_feature_cache_flag(group: argparse._ArgumentGroup) -> None:
    """Add the place of what is made of the training data once."""
    group.add_argument(
        "--feature_cache",
        metavar="DIR",
        help="folder that keeps tokenised rows and the teacher's logits, for every run that names it "
        "(default: OUTPUT_DIR.cache, removed when the run is done)",
    )


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


LAYER_WEIGHTS = {"--att_weight": "att_mse", "--emb_weight": "emb_mse", "--rep_weight": "hidden_mse"}


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


def add_head_flag(
    group: argparse._ArgumentGroup, flag: str = "--head", of: str = "the model's"
) -> None:
    """Add the choice of a classifier's head: of one that is read, and of a new one."""
    group.add_argument(
        flag,
        choices=CLASSIFIER_HEADS,
        help=f"{of} classifier. tinybert: {CLASSIFIER_HEADS['tinybert']}; hf: that of transformers' BERT, "
        f"{CLASSIFIER_HEADS['hf']} (default: its own, by config.json; tinybert for a new one)",
    )


def add_drop_flags(group: argparse._ArgumentGroup, head: bool = True) -> None:
    """Add what leaves parts of a model out that do not fit; `head` says that it may be a classifier."""
    if head:
        group.add_argument(
            "--drop_head",
            action="store_true",
            help="start with a new classifier, whatever the model's own was trained for",
        )
    group.add_argument(
        "--drop_projection",
        action="store_true",
        help="leave out the model's fit_dense, which leads to its own teacher's width; where one is needed "
        "a new one is made",
    )


def dropped_parts(args: argparse.Namespace) -> tuple[str, ...]:
    """Prefixes of the weights that the flags of `add_drop_flags` leave out."""
    head = ("classifier.",) if getattr(args, "drop_head", False) else ()
    return head + (("fit_dense.", "fit_denses.") if args.drop_projection else ())


@contextlib.contextmanager
def about(flag: str) -> Iterator[None]:
    """Name, before a message of what knows no flags, the one that it is about."""
    try:
        yield
    except UserError as error:
        raise UserError(f"{flag} {error}") from None


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


def add_ignored_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Flags that published commands carry and that mean nothing here; more may join the group."""
    group = parser.add_argument_group("accepted and ignored")
    group.add_argument(
        "--data_url", default="", help="ignored; it served the authors' private cloud"
    )
    return group


def mention_ignored_flags(args: argparse.Namespace) -> None:
    """Say that `--data_url` did nothing, if it was given."""
    if args.data_url:
        print("note: --data_url served a private cloud and is ignored", file=sys.stderr)


def settings_from(args: argparse.Namespace, schedule: str, runtime: Runtime) -> TrainingSettings:
    """Check the flags against each other and turn them into settings; `--clip` follows the optimiser.

    Raises:
        UserError: a package is missing, flags exclude each other, a batch is smaller than its
            micro-steps, a number is out of its range, or see `precision_from`.
    """
    check_targets(args.report_to)
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
    if args.clip is None:
        args.clip = "global" if args.optimizer == "adamw" else "tensor"
    return TrainingSettings(
        epochs=args.num_train_epochs,
        learning_rate=args.learning_rate,
        schedule=schedule,
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
    )


def batching_from(args: argparse.Namespace, length: int) -> dict[str, Any]:
    """The options of `StoreBatches` that the flags set."""
    return {
        "batch_size": args.train_batch_size,
        "seed": args.seed,
        "pad_to": length if args.pad_to_max_length else None,
        "drop_last": args.drop_last,
        "pool": 1 if args.random_batches else 100,
    }


def report_targets(text: str) -> list[str]:
    """Read a flag such as `png,tensorboard` or `none`."""
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in PACKAGES:
            raise argparse.ArgumentTypeError(
                f"{name}: expected none, or some of {', '.join(PACKAGES)}"
            )
    return names


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
