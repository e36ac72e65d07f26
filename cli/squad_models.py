"""A student that answers questions, its teacher, what it learns, and the folders it is handed over in."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from pathlib import Path

from cli.classification import freeze_unused
from cli.objectives import mapping_from
from cli.settings import advising_drops, dropped_parts
from cli.squad_flags import with_length_drop
from cli.training import check_length, check_vocabulary, load_tokenizer
from distillation.checkpoint import LAST_WEIGHTS_NAME
from distillation.mapping import LayerMapping
from distillation.objective import Objectives, Setup
from distillation.objectives import make_objectives
from files.atomic import RUN_RECORD_NAME
from files.errors import UserError
from transformer.configuration import EncoderConfig
from transformer.file_utils import CONFIG_NAME, WEIGHTS_NAME
from transformer.lengths import LengthConfig
from transformer.loading import read_config
from transformer.modeling import BertForQuestionAnswering
from transformer.tokenization import BertTokenizer

BEST, LAST = "checkpoint-best", "checkpoint-last"
PROJECTIONS = ("fit_dense.", "fit_denses.")


def open_tokenizer_of(args: argparse.Namespace, source: str | None = None) -> BertTokenizer:
    """The tokenizer to read questions with.

    Raises:
        UserError: --do_lower_case contradicts its files.
    """
    given = args.tokenizer_name or source or args.model_name_or_path
    tokenizer = load_tokenizer(args, given, args.teacher_model_name_or_path)
    if args.do_lower_case and tokenizer.told_casing is False:
        raise UserError(
            f"--do_lower_case: {tokenizer.vocab_file.parent}: is cased, as {tokenizer.casing_from} says; "
            "leave it out"
        )
    return tokenizer


def open_config(
    args: argparse.Namespace, flag: str, source: str, tokenizer: BertTokenizer
) -> EncoderConfig:
    """The configuration of a model that is to be of the family that a flag says.

    Raises:
        UserError: it is of another, reads other tokens, or has too few positions.
    """
    config = read_config(source, args.cache_dir)
    check_vocabulary(tokenizer, config, source, args.cache_dir)
    check_length(config, args.max_seq_length, source)
    if getattr(args, flag) not in (None, config.model_type):
        raise UserError(
            f"--{flag} {getattr(args, flag)}: {source} is a {config.model_type} by its {CONFIG_NAME}"
        )
    return config


def open_models(
    args: argparse.Namespace, tokenizer: BertTokenizer
) -> tuple[BertForQuestionAnswering, BertForQuestionAnswering | None]:
    """The student, with a new head where it has none, and the teacher if there is one.

    Raises:
        UserError: one is of another family than its flag says, reads other tokens, or is too short.
    """
    own = open_config(args, "model_type", args.model_name_or_path, tokenizer)
    teacher, settings = None, _dropouts(args, own)
    if args.teacher_model_name_or_path is not None:
        open_config(args, "teacher_model_type", args.teacher_model_name_or_path, tokenizer)
        teacher = BertForQuestionAnswering.from_pretrained(
            args.teacher_model_name_or_path, cache_dir=args.cache_dir
        )
    if args.state_loss_ratio or args.att_loss_ratio:
        settings["fit_size"] = teacher.config.hidden_size
    with advising_drops():
        student = BertForQuestionAnswering.from_pretrained(
            args.model_name_or_path, ("qa_outputs.", *PROJECTIONS), args.cache_dir,
            drop=dropped_parts(args), **settings,
        )  # fmt: skip
    return student, teacher


def _dropouts(args: argparse.Namespace, own: EncoderConfig) -> dict[str, float]:
    """The dropouts of `--config_name`, whose sizes have to be the model's own."""
    if not args.config_name:
        return {}
    given = read_config(args.config_name, args.cache_dir)
    for name in ("hidden_size", "num_hidden_layers", "num_attention_heads", "vocab_size"):
        if getattr(given, name) != getattr(own, name):
            raise UserError(
                f"--config_name {args.config_name}: {name} is {getattr(given, name)}, that of "
                f"{args.model_name_or_path} {getattr(own, name)}; expected the model's own sizes"
            )
    names = ("hidden_dropout_prob", "attention_probs_dropout_prob")
    return {name: getattr(given, name) for name in names}


def learned(
    args: argparse.Namespace,
    student: BertForQuestionAnswering,
    teacher: BertForQuestionAnswering | None,
    lengths: LengthConfig | None,
) -> tuple[Objectives, str, str, LayerMapping | None]:
    """What the student learns, the name of the stage, both in words, and which layers are compared.

    Parameters that no loss of the stage reads are frozen.
    """
    mapping = None
    setup = Setup(
        student.config, teacher and teacher.config, None, args.temperature, "batchmean", args.compile,
        args.count_padding,
    )  # fmt: skip
    if teacher is None:
        stage, told, weights = "finetune", "the labels", {"span_labels": 1.0}
    elif args.pred_distill:
        stage, told = "prediction", "the teacher's predictions"
        weights = {"span_soft_ce": args.alpha_ce, "span_labels": args.alpha_squad}
        told += f" × {args.alpha_ce:g}, the labels × {args.alpha_squad:g}" * bool(args.alpha_squad)
    else:
        stage = "intermediate"
        weights, mapping, told = _of_layers(args, student, teacher)
        setup = setup._replace(mapping=mapping)
    objectives = make_objectives(weights, setup)
    if not objectives.reads:
        freeze_unused(student, "qa_outputs")
    if not objectives.reads_layers:
        freeze_unused(student, *(name.rstrip(".") for name in PROJECTIONS))
    if args.length_adaptive:
        first = args.version_2_with_negative  # whose scores are those of there being no answer
        objectives = with_length_drop(args, objectives, student.config.num_hidden_layers, first)
        told += f", with LengthDrop up to {args.length_drop_ratio_bound:g}"
    options = {"is_student": True} if objectives.reads_layers else {}
    if lengths is not None:
        options["lengths"] = lengths
    return objectives.attach(teacher, **options), stage, told, mapping


def _of_layers(
    args: argparse.Namespace, student: BertForQuestionAnswering, teacher: BertForQuestionAnswering
) -> tuple[dict[str, float], LayerMapping, str]:
    mapping = mapping_from(args, student.config, teacher.config)
    if args.partial_reps:
        mapping = mapping._replace(hidden=(mapping.hidden[0], mapping.hidden[-1]))
    hidden = "cosine" if args.state_distill_cs else "mse"
    target = "att_probs" if args.att_target == "probs" else "att"
    weights = {
        f"emb_{hidden}": args.state_loss_ratio,
        f"hidden_{hidden}": args.state_loss_ratio,
        f"{target}_{'mse' if args.att_mse else 'cosine'}": args.att_loss_ratio,
    }
    told = ", ".join(f"{name} × {weight:g}" for name, weight in weights.items() if weight)
    return weights, mapping, f"{told}\n{mapping.table()}"


def hand_over(folder: Path, scored: bool) -> None:
    """Leave the best and the newest model in folders of their own; without scores both are the newest."""
    newest = folder / LAST_WEIGHTS_NAME
    for name, weights in (
        (BEST, folder / WEIGHTS_NAME),
        (LAST, newest if newest.is_file() else folder / WEIGHTS_NAME),
    ):
        _model_folder(folder, name, weights)
    if not scored:
        print(
            f"note: {folder / BEST}: the newest model, as {LAST}: none was scored", file=sys.stderr
        )


def hand_over_steps(folder: Path) -> None:
    """Turn the weights that were kept of a step into a model's folder, `checkpoint-STEP`."""
    for weights in sorted(folder.glob(f"step_*_{WEIGHTS_NAME}")):
        _model_folder(folder, f"checkpoint-{weights.name.split('_')[1]}", weights)
        weights.unlink()


def _model_folder(folder: Path, name: str, weights: Path) -> None:
    """Make a folder of a model that appears when it is complete."""
    target, partial = folder / name, folder / f".{name}.part"
    if target.exists():
        return
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    left_out = {RUN_RECORD_NAME, "log.txt", "metrics.jsonl", "flags.json", "curves.png"}
    for path in folder.iterdir():
        text = path.suffix in (".json", ".txt") or path.name == "README.md"
        if path.is_file() and text and path.name not in left_out | {"eval_results.txt"}:
            shutil.copyfile(path, partial / path.name)
    try:
        os.link(weights, partial / WEIGHTS_NAME)
    except OSError:  # a file system without links
        shutil.copyfile(weights, partial / WEIGHTS_NAME)
    partial.rename(target)
