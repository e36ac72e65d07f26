"""The part of a training script that is the same in all of them.

The checks before any work is done, and the files every run leaves.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from cli.flag_files import save_flags
from cli.plan import say_untouched
from cli.resuming import INPUT_FLAGS, check_agreement, identity_of_run, is_finished
from distillation.checkpoint import Checkpoints, ModelSaver
from distillation.distributed import Runtime
from distillation.forecast import ON_TOP, duration, time_of
from distillation.global_batches import BatchSource
from distillation.objective import Objectives
from distillation.records import RunRecord, check_output_dir, claim_output_dir, write_record
from distillation.run_log import scores_text
from distillation.state import TrainingSettings, TrainState
from distillation.training import check_settings, number_of_steps, time_step, train
from files.atomic import RUN_RECORD_NAME, atomic_open, check_inputs_stay, lies_in
from files.errors import UserError, setting
from reporting.curves import EventFiles, draw_curves
from reporting.model_card import write_card
from transformer.byte_bpe import ByteBPETokenizer
from transformer.configuration import BertConfig
from transformer.file_utils import CONFIG_NAME, VOCAB_NAME
from transformer.loading import read_config
from transformer.modeling import BertPreTrainedModel
from transformer.tokenization import BertTokenizer, open_tokenizer
from transformer.tokenizer_files import TOKENIZER_NAME, has_tokenizer
from transformer.vocabulary import say_once
from transformer.weights import save_weights, weights_checksum

# Word embeddings that may have no token. Between the vocabularies of two BERTs there are more.
MOST_PADDING = 1024
# What objectives have learned beside the student, where they have weights of their own.
OBJECTIVES_NAME = "objectives.bin"


def load_tokenizer(
    args: argparse.Namespace, *sources: str | os.PathLike | None
) -> BertTokenizer | ByteBPETokenizer:
    """Load the tokenizer of the first source that has a vocabulary.

    Args:
        sources: model folders, names or addresses; None is passed over.

    Raises:
        UserError: none of them has one.
    """
    given = [source for source in sources if source is not None]
    for source in given:
        if Path(source).is_file() or has_tokenizer(source, args.cache_dir):
            return open_tokenizer(source, args.do_lower_case or None, args.cache_dir)
    raise UserError(
        f"{' and '.join(map(str, given))}: no {VOCAB_NAME} or {TOKENIZER_NAME}; copy the teacher's there"
    )


def check_vocabulary(
    tokenizer: BertTokenizer, config: BertConfig, source: str | os.PathLike, cache_dir=None
) -> None:
    """Refuse a model whose vocabulary is not the tokenizer's.

    Word embeddings are often padded to a multiple of 8 or 128; the rows above the tokens are never read.

    Raises:
        UserError: it names both sizes, or says that the tokens or what the tokenizer does differs.
    """
    padding = config.vocab_size - len(tokenizer)
    if 0 < padding <= MOST_PADDING:
        print(
            f"note: {source}: {config.vocab_size:,} word embeddings for {len(tokenizer):,} tokens; the last "
            f"{padding:,} are treated as padding",
            file=sys.stderr,
        )
    elif padding:
        advice = f"a model with weights needs the {VOCAB_NAME} that it was trained with"
        folder = Path(source)
        weights = (".bin", ".safetensors", ".onnx")
        if folder.is_dir() and not any(path.suffix in weights for path in folder.iterdir()):
            advice = f'set "vocab_size": {len(tokenizer)} in {folder / CONFIG_NAME}'
        raise UserError(
            f"{source}: the model has {config.vocab_size} word embeddings, the vocabulary "
            f"{len(tokenizer)} tokens; expected the same number, or up to {MOST_PADDING:,} embeddings more "
            f"(padding): {advice}"
        )
    if not has_tokenizer(source, cache_dir):
        return
    own = open_tokenizer(source, tokenizer.do_lower_case, cache_dir, quiet=True)
    where = own.vocab_file
    if own.vocab_hash != tokenizer.vocab_hash:
        raise UserError(
            f"{where}: different tokens from the vocabulary in use; teacher and student must share "
            "one vocabulary"
        )
    told_otherwise = own.told_casing not in (None, tokenizer.do_lower_case)
    if told_otherwise and where != tokenizer.vocab_file:  # whose own files have had their line
        told, used = (
            ("cased", "uncased")[casing] for casing in (own.told_casing, tokenizer.do_lower_case)
        )
        say_once(
            f"warning: {where.parent}: {told}, as {own.casing_from} says, but texts are read {used}"
        )
    ours, theirs = tokenizer.describe(), own.describe()
    differs = [name for name in ours if ours[name] != theirs[name]]
    if differs:
        raise UserError(
            f"{where.parent}: its tokenizer has another {differs[0]} ({theirs[differs[0]]}) than the one in "
            f"use ({ours[differs[0]]}); teacher and student must read a text alike: correct the wrong file"
        )


def check_length(
    config: BertConfig, length: int, source: str | os.PathLike, asker: str = "--max_seq_length"
) -> None:
    """Refuse sequences longer than a model has positions for; `asker` is what wants that length."""
    if length > config.max_length:
        raise UserError(f"{asker} {length}: {source} has positions for {config.max_length} tokens")


def open_pair(
    args: argparse.Namespace, tokenizer: BertTokenizer, length: int, asker: str = ""
) -> tuple[BertConfig, BertConfig]:
    """The shapes of `args.teacher_model` and `args.student_model`, which are to read the same tokens.

    Args:
        length: of the longest sequence.
        asker: what wants that length; "" for `--max_seq_length`.

    Raises:
        UserError: see `check_vocabulary` and `check_length`.
    """
    configs = []
    for source in (args.teacher_model, args.student_model):
        configs.append(read_config(source, args.cache_dir))
        check_vocabulary(tokenizer, configs[-1], source, args.cache_dir)
        check_length(configs[-1], length, source, asker or setting("max_seq_length"))
    return tuple(configs)


def check_start(
    args: argparse.Namespace, settings: TrainingSettings, runtime: Runtime, data: Path
) -> None:
    """Refuse, before anything is read or made, what this machine or the output folder does not allow.

    Args:
        data: where the training data were found.

    Raises:
        UserError: see `check_settings` and `check_output_dir`; or the folder, which is to be emptied,
            holds an input of the run.
    """
    check_settings(settings, runtime)
    if runtime.is_main:
        folder = Path(args.output_dir)
        cache = getattr(args, "feature_cache", None)
        if cache and lies_in(cache, folder):
            raise UserError(
                f"--feature_cache {cache}: is inside --output_dir {folder}; choose a folder beside it"
            )
        check_output_dir(folder, args.overwrite_output_dir, args.resume)
        if args.overwrite_output_dir and not args.resume:
            given = [getattr(args, name, None) for name in INPUT_FLAGS]
            check_inputs_stay(folder, [data, *given, __file__])
    runtime.wait()  # for that look, before another process makes something


@dataclass(frozen=True)
class Training:
    """A training that a script has prepared.

    Attributes:
        make_saver: makes what keeps models in the output folder.
        scored: whether that evaluates the model.
    """

    args: argparse.Namespace
    record: RunRecord
    model: BertPreTrainedModel
    tokenizer: BertTokenizer
    losses: Objectives
    source: BatchSource
    settings: TrainingSettings
    runtime: Runtime
    make_saver: Callable[[Path], ModelSaver]
    scored: bool = True


def run_training(run: Training) -> None:
    """Open the output folder, train, and leave a complete model folder with its record.

    The folder is claimed here, after everything that can go wrong with the inputs has been read (see
    `check_start` for what goes before); with --dry_run the time of a step is measured instead.
    """
    args, record, model, runtime = run.args, run.record, run.model, run.runtime
    folder = Path(args.output_dir)
    if run.settings.patience is not None and not run.scored:
        raise UserError(f"--patience {run.settings.patience}: nothing is scored in this stage")
    start = weights_checksum({name: value.cpu() for name, value in model.state_dict().items()})
    record.facts["start_weights"] = start
    identity = record.facts["identity"] = identity_of_run(
        args, record.facts, model, run.tokenizer, run.settings.precision
    )
    check_agreement(identity, runtime)
    if args.resume and is_finished(args, record.facts, runtime):
        if runtime.is_main:
            if not args.dry_run:
                Checkpoints(folder).remove()  # there if the run was killed at its very end
            print(f"{folder}: this run is finished, nothing to resume", file=sys.stderr)
        return
    if args.dry_run:
        seconds = time_step(model, run.losses, run.source, run.settings, runtime)
        if runtime.is_main:
            told = time_of(number_of_steps(run.source, run.settings), seconds)
            print(f"expected: {told}{ON_TOP * run.scored}", file=sys.stderr)
            say_untouched(folder)
        return
    with contextlib.ExitStack() as stack:
        if runtime.is_main:
            stack.enter_context(claim_output_dir(folder, args.overwrite_output_dir, args.resume))
        runtime.wait()
        saver = run.make_saver(folder)

        def begin() -> None:
            run.tokenizer.save_pretrained(folder, model.config.max_length)
            save_flags(args, folder)
            model.config.to_json_file(folder / CONFIG_NAME, model.architecture())

        tell = None
        if "tensorboard" in args.report_to and runtime.is_main:
            tell = stack.enter_context(contextlib.closing(EventFiles(folder)))
        total = number_of_steps(run.source, run.settings)
        state = TrainState(model, run.losses, saver, run.settings, runtime, total, identity)
        facts = train(state, run.source, folder, args.resume, tell, begin)
        if runtime.is_main:
            if own := run.losses.state_dict():
                save_weights(own, folder / OBJECTIVES_NAME)
            facts |= {
                "model": describe_model(model),
                "precision": run.settings.precision,
                "metrics": saver.best,
                "last_metrics": saver.last,
                "best_step": saver.best_step,
            }
            _close(args, folder, record.complete(**facts))


def _close(args: argparse.Namespace, folder: Path, record: dict[str, Any]) -> None:
    """Write what stands beside a finished model."""
    write_card(folder, record)
    write_results(folder, record)
    if "png" in args.report_to:
        draw_curves(folder)
    # Last, because it says that the run is finished.
    write_record(folder / RUN_RECORD_NAME, record)
    Checkpoints(folder).remove()
    print(f"done in {duration(record['seconds'])}: {folder}{outcome(record)}", file=sys.stderr)


def outcome(record: Mapping[str, Any]) -> str:
    """What the last line says of a run: its best score, and how many steps were left out."""
    text = ""
    if record["metrics"]:
        text += f"; best at step {record['best_step']:,}: {scores_text(record['metrics'])}"
    if "ended_by" in record:
        text += f"; ended by --{record['ended_by']}"
    if record["skipped_steps"]:
        text += (
            f"; {record['skipped_steps']:,} of {record['steps']:,} steps were left out, their numbers not "
            "being finite"
        )
    return text


def write_results(folder: Path, record: Mapping[str, Any]) -> str:
    """Write `eval_results.txt`, `key = value` a line as the published scripts; return its text."""
    lines = [f"step = {record['best_step']}"] if "best_step" in record else []
    for split, metrics in record["metrics"].items():
        prefix = "" if len(record["metrics"]) == 1 else f"{split}_"
        lines += [f"{prefix}{name} = {value}" for name, value in sorted(metrics.items())]
    text = "\n".join(lines)
    if record["metrics"]:
        with atomic_open(folder / "eval_results.txt") as file:
            file.write(f"{text}\n")
    return text


def describe_model(model: torch.nn.Module) -> dict[str, Any]:
    """Number of parameters and the configuration, for the run record."""
    sizes = ("num_hidden_layers", "hidden_size", "num_attention_heads", "intermediate_size")
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "encoder_parameters": sum(p.numel() for p in model.bert.parameters()),
        # A family may call its sizes otherwise.
        "config": {name: getattr(model.config, name) for name in sizes} | model.config.to_dict(),
    }
