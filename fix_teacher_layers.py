"""Give downloaded teachers the names the other scripts use, and keep their classifier heads.

    python fix_teacher_layers.py
    python fix_teacher_layers.py --models_dir models --models bert-base-uncased-rte

In every model folder the weights end up in one `pytorch_model.bin` whose encoder parameters begin
with `bert.`, and config.json says which kind of head the classifier is. A teacher without a
classifier is an error: its head would be random.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

import torch

from cli.flags import add_head_flag
from cli.help import script_parser
from files.errors import UserError, run_script
from files.locks import sole_writer
from tasks.classifiers import report_head
from transformer.configuration import BertConfig, write_config_file
from transformer.file_utils import CONFIG_NAME, WEIGHTS_NAME
from transformer.head_kind import Head
from transformer.loading import CLASSIFIER, read_checkpoint
from transformer.modeling import TinyBertForSequenceClassification
from transformer.tokenizer_files import has_tokenizer, limit_max_length
from transformer.weights import load_weights, save_weights, weights_files

MODELS = ["bert-base-uncased-mrpc", "bert-base-uncased-sst2"]
MODELS += ["bert-base-uncased-cola", "bert-base-uncased-rte"]


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--models_dir", default="models", help="folder of the model folders")
    group.add_argument("--models", nargs="+", default=MODELS, help="model folders in it")
    group.add_argument(
        "--model", help="one model folder, in place of the published --models_dir and --models"
    )
    add_head_flag(group)
    group = parser.add_argument_group("a missing classifier")
    group.add_argument(
        "--init_head",
        action="store_true",
        help="give a model without a classifier a random one instead of stopping",
    )
    group.add_argument("--seed", type=int, default=42, help="random seed for the new classifiers")
    args = parser.parse_args(argv)
    given = [
        name for name in ("models_dir", "models") if getattr(args, name) != parser.get_default(name)
    ]
    if args.model and given:
        raise UserError(f"--model and --{given[0]}: give one of them")
    return args


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    folders = [Path(args.models_dir) / name for name in args.models]
    if args.model:
        folders = [Path(args.model)]
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"{folder}: no such folder; get_bert_models.py downloads the teachers")
    for folder in folders:
        if is_fixed(folder, args.head):  # asked first: a folder that is only read needs no lock
            print(f"{folder}: nothing to do")
            continue
        with sole_writer(folder):
            fix_teacher(folder, args.head, args.seed if args.init_head else None)
    return 0


def is_fixed(folder: Path, head: str | None) -> bool:
    """Whether a model folder is as this program leaves it, with the head that was asked for, if any."""
    checkpoint = read_checkpoint(folder)
    config, decided = checkpoint.config(), checkpoint.head()
    return (
        checkpoint.weights == folder / WEIGHTS_NAME
        and is_canonical(checkpoint.weights, checkpoint.state)
        and not decided.guessed
        and head in (None, decided.kind)
        and checkpoint.values.get("classifier_head") == decided.kind
        and checkpoint.values.get("architectures") == [config.classifier_architecture]
    )


def fix_teacher(folder: Path, head: str | None, new_seed: int | None) -> None:
    """Rewrite one model folder; nothing is changed if anything about it is wrong.

    Args:
        head: kind of the classifier's head; None decides by what the folder holds.
        new_seed: seed of a new classifier for a model that has none; None refuses such a model.

    Raises:
        UserError: no classifier; weights torn, incomplete or carrying code; an impossible config.
    """
    checkpoint = read_checkpoint(folder)
    source, weights, values = checkpoint.weights, checkpoint.state, dict(checkpoint.values)
    decided = checkpoint.head() if head is None else Head(head, "as asked")
    if head is None:
        checkpoint.check_classifier()
    config = dataclasses.replace(checkpoint.config(), classifier_head=decided.kind)
    found = CLASSIFIER[0] in weights
    if not found:
        if new_seed is None:
            raise UserError(
                f"{source}: has no classifier head ({', '.join(CLASSIFIER)}), so it cannot teach; "
                "download it with get_bert_models.py, or force a random head with --init_head"
            )
        weights |= fresh_head(config, new_seed)
        print(f"{folder}: RANDOM classifier head (seed {new_seed}); fine-tune before teaching")
    # Loading it is the check that nothing else is missing or misshapen.
    load_weights(TinyBertForSequenceClassification(config), weights, source, may_init=())
    report_head(decided, folder)

    values |= {"classifier_head": decided.kind, "model_type": "bert"}
    values["architectures"] = [config.classifier_architecture]
    if config.id2label is not None:  # it may have been found in the weights
        described = config.to_dict()
        values |= {name: described[name] for name in ("id2label", "label2id")}
    replaced = [path for path in weights_files(folder) if path != folder / WEIGHTS_NAME]
    save_weights(weights, folder / WEIGHTS_NAME)
    write_config_file(folder / CONFIG_NAME, values)
    if has_tokenizer(folder):
        limit_max_length(folder, config.max_length)
    # Last, because they are the source: until here a second run starts again.
    for path in replaced:
        path.unlink()
    kept = "classifier head kept" if found else "classifier head fresh"
    told = f"{WEIGHTS_NAME} from {source.name}, {len(weights)} tensors, {kept} ({decided.kind})"
    print(f"{folder}: {told}")


def is_canonical(path: Path, weights: dict[str, torch.Tensor]) -> bool:
    """Whether the file's own names are those that `read_weights` gave."""
    return set(torch.load(path, map_location="meta", weights_only=True)) == set(weights)


def fresh_head(config: BertConfig, seed: int) -> dict[str, torch.Tensor]:
    """Return weight [num_labels, hidden_size] and bias [num_labels] of a new classifier."""
    generator = torch.Generator().manual_seed(seed)
    shape = (config.num_labels, config.hidden_size)
    weight = torch.randn(shape, generator=generator) * config.initializer_range
    return dict(zip(CLASSIFIER, (weight, torch.zeros(config.num_labels)), strict=True))


if __name__ == "__main__":
    run_script(main)
