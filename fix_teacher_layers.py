"""Give downloaded teachers the names the other scripts use, and keep their classifier heads.

    python fix_teacher_layers.py
    python fix_teacher_layers.py --models_dir models --models bert-base-uncased-rte

In every model folder the weights end up in one `pytorch_model.bin` whose encoder parameters begin
with `bert.`, and config.json says which kind of head the classifier is. A teacher without a
classifier is an error: its head would be random.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from cli.help import script_parser
from transformer.configuration import BertConfig
from transformer.errors import UserError, run_script
from transformer.file_utils import CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME, atomic_open
from transformer.locks import sole_writer
from transformer.modeling import TinyBertForSequenceClassification
from transformer.tokenizer_files import has_tokenizer, limit_max_length
from transformer.weights import load_weights, read_weights, save_weights

MODELS = ["bert-base-uncased-mrpc", "bert-base-uncased-sst2"]
MODELS += ["bert-base-uncased-cola", "bert-base-uncased-rte"]
HEAD = ("classifier.weight", "classifier.bias")


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--models_dir", default="models", help="folder of the model folders")
    group.add_argument("--models", nargs="+", default=MODELS, help="model folders in it")
    group.add_argument(
        "--model", help="one model folder, in place of the published --models_dir and --models"
    )
    group = parser.add_argument_group("a missing classifier")
    group.add_argument(
        "--init_head",
        action="store_true",
        help="give a model without a classifier a random one instead of stopping",
    )
    group.add_argument("--seed", type=int, default=42, help="of the random classifiers")
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
        if is_fixed(folder):  # asked first: a folder that is only read needs no lock
            print(f"{folder}: nothing to do")
            continue
        with sole_writer(folder):
            fix_teacher(folder, args.seed if args.init_head else None)
    return 0


def is_fixed(folder: Path) -> bool:
    """Whether a model folder is as this program leaves it."""
    if (folder / SAFE_WEIGHTS_NAME).is_file() or not (folder / WEIGHTS_NAME).is_file():
        return False
    BertConfig.from_json_file(folder / CONFIG_NAME)
    recorded = json.loads((folder / CONFIG_NAME).read_bytes())
    weights = read_weights(folder / WEIGHTS_NAME)
    return "classifier_head" in recorded and is_canonical(folder / WEIGHTS_NAME, weights)


def fix_teacher(folder: Path, head_seed: int | None) -> None:
    """Rewrite one model folder; nothing is changed if anything about it is wrong.

    Args:
        head_seed: seed of a fresh classifier for a model that has none; None refuses such a model.

    Raises:
        UserError: no classifier; weights torn, incomplete or carrying code; an impossible config.
    """
    config_file, safe, plain = (
        folder / name for name in (CONFIG_NAME, SAFE_WEIGHTS_NAME, WEIGHTS_NAME)
    )
    config = BertConfig.from_json_file(config_file)
    recorded = json.loads(config_file.read_bytes())
    source = safe if safe.is_file() else plain
    weights = read_weights(source)
    found = [name for name in HEAD if name in weights]
    if len(found) == 1:
        raise UserError(f"{source}: holds {found[0]} only; expected {' and '.join(HEAD)}")
    if not found:
        if head_seed is None:
            raise UserError(
                f"{source}: has no classifier head ({', '.join(HEAD)}), so it cannot teach; "
                "download it with get_bert_models.py, or force a random head with --init_head"
            )
        weights |= fresh_head(config, head_seed)
        print(f"{folder}: RANDOM classifier head (seed {head_seed}); fine-tune before teaching")
    # Loading it is the check that nothing else is missing or misshapen.
    load_weights(TinyBertForSequenceClassification(config), weights, source, may_init=())

    head = recorded.setdefault("classifier_head", "hf" if found else "tinybert")
    recorded["model_type"] = "bert"
    recorded["architectures"] = [BertConfig.from_dict(recorded).classifier_architecture]
    save_weights(weights, plain)
    with atomic_open(config_file) as file:
        json.dump(recorded, file, indent=2)
        file.write("\n")
    if has_tokenizer(folder):
        limit_max_length(folder, config.max_position_embeddings)
    # Last, because it is the source: until here a second run begins anew.
    safe.unlink(missing_ok=True)
    kept = "classifier head kept" if found else "classifier head fresh"
    print(f"{folder}: {plain.name} from {source.name}, {len(weights)} tensors, {kept} ({head})")


def is_canonical(path: Path, weights: dict[str, torch.Tensor]) -> bool:
    """Whether the file's own names are those that `read_weights` gave."""
    return set(torch.load(path, map_location="meta", weights_only=True)) == set(weights)


def fresh_head(config: BertConfig, seed: int) -> dict[str, torch.Tensor]:
    """Return weight [num_labels, hidden_size] and bias [num_labels] of a new classifier."""
    generator = torch.Generator().manual_seed(seed)
    shape = (config.num_labels, config.hidden_size)
    weight = torch.randn(shape, generator=generator) * config.initializer_range
    return dict(zip(HEAD, (weight, torch.zeros(config.num_labels)), strict=True))


if __name__ == "__main__":
    run_script(main)
