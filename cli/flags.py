"""The flags that several training scripts take, and what they are turned into."""

from __future__ import annotations

import argparse

from cli.plan import add_dry_run_flag
from cli.precision import add_bf16_flags
from reporting.curves import PACKAGES
from transformer.head_kind import CLASSIFIER_HEADS
from transformer.optimization import CLIPS, OPTIMIZERS

SCHEDULE_NAMES = {
    "linear": "warmup_linear",
    "polynomial": "warmup_polynomial",
    "cosine": "warmup_cosine",
    "constant": "warmup_constant",
    "none": "none",
}


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
        "--max_minutes",
        type=float,
        help="end the run after the first step that so many minutes of training are over at",
    )
    if not on_corpus:
        training.add_argument(
            "--patience",
            type=whole_number,
            help="end the run after so many evaluations in a row without a better score",
        )
    training.add_argument(
        "--seed", type=int, default=42, help="random seed for data order, dropout and new weights"
    )
    _add_optimiser_flags(training, learning_rate, warmup_of)
    batches = _add_batch_flags(parser)
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


def _add_optimiser_flags(
    training: argparse._ArgumentGroup, learning_rate: float, warmup_of: str
) -> None:
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
        "--warmup_steps",
        type=whole_number,
        help="in place of --warmup_proportion: steps over which the learning rate rises",
    )
    training.add_argument(
        "--schedule",
        choices=tuple(SCHEDULE_NAMES),
        help="how the learning rate falls after its rise (default: linear"
        + (", or none where there is no warm-up)" if warmup_of else ")"),
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
        "--max_grad_norm", type=float, default=1.0, help="that norm; 0 leaves gradients as they are"
    )
    for number, beta in ((1, 0.9), (2, 0.999)):
        training.add_argument(
            f"--adam_beta{number}",
            type=float,
            default=beta,
            help=f"decay of the optimiser's moment {number}",
        )
    training.add_argument(
        "--adam_epsilon",
        type=float,
        help="added to the root of the second moment (default: 1e-6 with bertadam, 1e-8 with adamw)",
    )


def _add_batch_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
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
    return batches


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


def add_init_flags(group: argparse._ArgumentGroup) -> None:
    """Add what a DistilBERT starts from."""
    group.add_argument(
        "--init",
        choices=("random", "teacher"),
        default="random",
        help="fresh weights, as the re-implementation; or the teacher's embeddings and some of its layers, "
        "as the paper",
    )
    group.add_argument(
        "--layers",
        type=layer_numbers,
        help="with --init teacher: its layers from 0 (default: spread evenly, 0,2,4,7,9,11 of 12 for 6)",
    )


def layer_numbers(text: str) -> tuple[int, ...]:
    """Read a flag such as `0,2,4`."""
    return tuple(int(number) for number in text.split(","))


def add_ignored_flags(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Flags that published commands carry and that mean nothing here; more may join the group."""
    group = parser.add_argument_group("accepted and ignored")
    group.add_argument(
        "--data_url", default="", help="ignored; it served the authors' private cloud"
    )
    return group


def report_targets(text: str) -> list[str]:
    """Read a flag such as `png,tensorboard` or `none`."""
    names = [] if text == "none" else text.split(",")
    for name in names:
        if name not in PACKAGES:
            raise argparse.ArgumentTypeError(
                f"{name}: expected none, or some of {', '.join(PACKAGES)}"
            )
    return names
