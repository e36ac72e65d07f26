"""Smart initialisation: a 6-layer student made of every second layer of its 12-layer teacher.

    python tinybert_6_from_bert.py

makes models/tinybert_6l_smart_init_direct_{mrpc,sst2,cola,rte} from models/final_{mrpc,sst2,cola,rte}_teacher
and models/tinybert_6l_smart_init_direct_base from models/bert-base-uncased. Embeddings, pooler and classifier
are the teacher's; --keep_layers chooses others, in any number: each once, or again to make a deeper model.
A student that is there already is left alone.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from cli.flag_files import save_flags
from cli.flags import add_head_flag
from cli.help import script_parser
from distillation.initialisation import keep_layers
from files.atomic import atomic_folder, check_inputs_stay
from files.errors import UserError, run_script
from reporting.model_card import write_layers_card
from tasks.classifiers import report_head
from transformer.configuration import BertConfig
from transformer.file_utils import CONFIG_NAME, WEIGHTS_NAME
from transformer.head_kind import Head
from transformer.loading import CLASSIFIER, read_checkpoint
from transformer.modeling import BertModel
from transformer.tokenization import BertTokenizer
from transformer.weights import load_weights, save_weights

NAMES = ("mrpc", "sst2", "cola", "rte", "base")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--models_dir", default="models", help="folder of the teachers and the students"
    )
    group.add_argument(
        "--names",
        default=",".join(NAMES),
        help="which to make: tasks, for final_TASK_teacher, and base",
    )
    group.add_argument(
        "--base_model",
        default="bert-base-uncased",
        help="the folder in --models_dir that `base` is made from",
    )
    group.add_argument(
        "--source", "--model", help="make one student from this model folder instead"
    )
    group.add_argument("--output_dir", help="the student's folder, with --source")
    group.add_argument(
        "--overwrite_output_dir", action="store_true", help="replace students that are there"
    )
    add_head_flag(group, of="the teacher's")
    group = parser.add_argument_group("the student")
    group.add_argument(
        "--keep_layers",
        default="0,2,4,6,8,10",
        help="layers to keep, counted from 0; 0,1,2,0,1,2 doubles a model",
    )
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    if bool(args.source) != bool(args.output_dir):
        raise UserError("--source and --output_dir: give both or neither")
    try:
        layers = [int(item) for item in args.keep_layers.split(",")]
    except ValueError:
        raise UserError(f"--keep_layers {args.keep_layers}: expected numbers like 0,2,4") from None
    if args.source:
        pairs = [(Path(args.source), Path(args.output_dir))]
    else:
        pairs = [find_pair(args, name) for name in args.names.split(",")]
    # Every student's place is looked at, and every teacher read, before the first student is written.
    for _, target in pairs:
        check_place(target, args.overwrite_output_dir)
        if args.overwrite_output_dir:
            check_inputs_stay(target, [source for source, _ in pairs])
    students = [(source, target, read_kept(source, layers, args.head)) for source, target in pairs]
    for source, target, (config, state) in students:
        write_student(source, target, config, state, args)
        print(f"{target}: layers {args.keep_layers} of {source}", file=sys.stderr)
    return 0


def find_pair(args: argparse.Namespace, name: str) -> tuple[Path, Path]:
    """The teacher's and the student's folder for a task key or `base`."""
    models = Path(args.models_dir)
    source = models / (args.base_model if name == "base" else f"final_{name}_teacher")
    underscored = models / args.base_model.replace("-", "_")
    if name == "base" and not source.is_dir() and underscored.is_dir():
        source = underscored  # the published script's own spelling of the folder
    if not source.is_dir():
        raise UserError(
            f"{source}: no such folder; expected a teacher (leave it out with --names, which now lists "
            f"{args.names})"
        )
    return source, models / f"tinybert_6l_smart_init_direct_{name}"


def read_kept(
    source: Path, layers: list[int], head: str | None
) -> tuple[BertConfig, dict[str, Tensor]]:
    """Read a teacher and keep the given layers; check that every weight of the student is there.

    Args:
        head: kind of its classifier's head; None decides by what the folder holds.
    """
    checkpoint = read_checkpoint(source)
    config = dataclasses.replace(checkpoint.config(), num_hidden_layers=len(layers))
    if CLASSIFIER[0] in checkpoint.state:
        decided = checkpoint.head() if head is None else Head(head, "as asked")
        if head is None:
            checkpoint.check_classifier()
        report_head(decided, source)
        config.classifier_head = decided.kind
    state = keep_layers(checkpoint.state, layers)
    load_weights(BertModel(config), state, checkpoint.weights, may_init=("bert.pooler.",))
    return config, state


def check_place(target: Path, overwrite: bool) -> None:
    """Refuse a folder that holds something, unless it may be replaced."""
    if target.exists() and not target.is_dir():
        raise UserError(f"{target}: is a file; expected a folder, or nothing")
    present = sorted(path.name for path in target.iterdir()) if target.is_dir() else []
    if present and not overwrite:
        raise UserError(
            f"{target}: is not empty (holds {present[0]}); --overwrite_output_dir replaces it"
        )


def write_student(
    source: Path,
    target: Path,
    config: BertConfig,
    state: dict[str, Tensor],
    args: argparse.Namespace,
) -> None:
    """Write a complete model folder: it appears with all its files, or not at all."""
    is_classifier = "classifier.weight" in state
    architecture = config.classifier_architecture if is_classifier else BertModel.__name__
    with atomic_folder(target) as folder:
        tokenizer = BertTokenizer.from_pretrained(source)
        tokenizer.save_pretrained(folder, config.max_length)
        save_weights(state, folder / WEIGHTS_NAME)
        config.to_json_file(folder / CONFIG_NAME, architecture)
        save_flags(args, folder)
        write_layers_card(folder, target.name, source, args.keep_layers, config, is_classifier)


if __name__ == "__main__":
    run_script(main)
