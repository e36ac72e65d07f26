"""The flags of dynamic_tinybert/run_squad.py: the published ones, and what every training script takes."""

from __future__ import annotations

import argparse
import ast
import sys
from typing import Any

from cli.flags import (
    add_feature_cache_flag,
    add_model_flags,
    add_training_flags,
    whole_number,
)
from cli.length_search import add_search_flags
from cli.objectives import add_mapping_flag
from cli.settings import check_targets
from cli.squad import add_length_flags, add_question_flags, no_answer_windows
from distillation.distributed import Runtime
from distillation.length_drop import LengthDrop, Sandwich
from distillation.objective import Objectives
from files.errors import UserError
from transformer.configuration import FAMILIES
from transformer.lengths import LengthConfig

# Published flags that mean nothing here, and why.
IGNORED = {
    "logging_steps": "losses are logged twenty times a run or every 50 steps",
    "tb_log": "--report_to tensorboard writes event files beside the model",
    "fp16_opt_level": "it was Apex's",
    "use_gpuid": "CUDA_VISIBLE_DEVICES chooses a GPU",
    "lang_id": "it was XLM's",
    "load_store_file": "a search goes on from the study in --output_dir",
    "server_ip": "it was a debugger's",
    "server_port": "it was a debugger's",
}


def add_squad_flags(parser: argparse.ArgumentParser) -> None:
    """Add them all."""
    _add_inputs(parser)
    _add_actions(parser)
    _add_distillation(parser)
    _add_length_drop(parser)
    add_search_flags(parser, evolution=True)
    add_question_flags(parser.add_argument_group("questions and answers"))
    ignored = add_training_flags(
        parser, train_batch_size=None, eval_batch_size=8, learning_rate=5e-5, max_seq_length=384,
        eval_step=None,
    )  # fmt: skip
    parser.set_defaults(
        optimizer="adamw", warmup_proportion=0.0, weight_decay=0.0, adam_epsilon=1e-8
    )
    group = parser.add_argument_group("published names")
    group.add_argument(
        "--per_gpu_train_batch_size",
        type=whole_number,
        help="rows that a process computes at once; a step has so many times processes times "
        "--gradient_accumulation_steps (default: 8, unless --train_batch_size is given)",
    )
    _alias(parser, "--eval_batch_size", "--per_gpu_eval_batch_size")
    _alias(parser, "--warmup_proportion", "--warmup_ratio")
    _action(parser, "--max_steps").type = steps_or_all
    group.add_argument(
        "--threads",
        dest="num_workers",
        type=whole_number,
        default=10,
        help="threads that tokenise, at most a core each",
    )
    group.add_argument(
        "--metrics_log", default="metrics.log", help="file in --output_dir that scores are added to"
    )
    for name in IGNORED:
        ignored.add_argument(f"--{name}", help=f"ignored; {IGNORED[name]}")
    for name in ("overwrite_cache", "verbose_logging"):
        ignored.add_argument(
            f"--{name}", action="store_true", help="ignored; what it was for is always done"
        )


def _add_inputs(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--data_dir", help="folder of the files of questions (default: this one)")
    group.add_argument("--train_file", help="default: train-v1.1.json, or train-v2.0.json")
    group.add_argument("--predict_file", help="default: dev-v1.1.json, or dev-v2.0.json")
    group.add_argument(
        "--model_name_or_path",
        "--model",
        help="model to train, to score or to search: folder, hub name or address",
    )
    group.add_argument(
        "--model_type",
        type=str.lower,
        help=f"its family: {', '.join(FAMILIES)}; compared with its files",
    )
    group.add_argument("--output_dir", help="folder for models, answers and what a search finds")
    group.add_argument(
        "--config_name", default="", help="folder whose config.json has the dropouts to train with"
    )
    group.add_argument(
        "--tokenizer_name", default="", help="folder of the tokenizer, if not the model's"
    )
    group.add_argument(
        "--max_eval_questions", type=whole_number, help="answer the first so many questions alone"
    )
    add_model_flags(group)
    add_feature_cache_flag(group)


def _add_actions(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what to do")
    for name, what in (
        ("do_train", "train, on labels or from a teacher"),
        ("do_eval", "answer the questions with the best model, and score the answers"),
        ("do_search", "search for length configurations by evolution"),
        ("do_sigopt_search", "the same by Optuna, in place of SigOpt, whose service is gone"),
        ("do_optuna_search", "the same by Optuna, or as --search_backend says"),
        ("evaluate_during_training", "score the model every --save_steps, and keep the best"),
        ("save_only_best", "keep no checkpoint-STEP folders"),
        ("eval_all_checkpoints", "with --do_eval: score every model that the training kept"),
    ):
        group.add_argument(f"--{name}", action="store_true", help=what)
    group.add_argument(
        "--measure_rate",
        type=rates,
        metavar="[P1,P2,…]",
        help="score and time uniform configurations: a layer drops that share of its tokens",
    )
    group.add_argument(
        "--score", metavar="FILE", help="score a predictions.json, whoever wrote it, and stop"
    )


def _add_distillation(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("distillation")
    group.add_argument(
        "--teacher_model_name_or_path",
        "--teacher_model",
        help="model that answers questions: learn from it",
    )
    group.add_argument("--teacher_model_type", type=str.lower, help="its family; compared")
    group.add_argument(
        "--pred_distill", action="store_true", help="learn the teacher's predictions"
    )
    group.add_argument(
        "--state_loss_ratio", type=float, default=0.0, help="weight of the hidden states"
    )
    group.add_argument("--att_loss_ratio", type=float, default=0.0, help="weight of the attention")
    group.add_argument(
        "--state_distill_cs", action="store_true", help="hidden states by 1 - cosine, not by MSE"
    )
    group.add_argument("--att_mse", action="store_true", help="attention by MSE, not by 1 - cosine")
    group.add_argument(
        "--att_target",
        choices=("scores", "probs"),
        default="scores",
        help="attention before the softmax, as TinyBERT, or after it, as the original",
    )
    group.add_argument(
        "--partial_reps",
        action="store_true",
        help="of the hidden states the first and the last alone",
    )
    add_mapping_flag(group)
    group.add_argument(
        "--temperature",
        type=float,
        default=1.0,
        help="softens both distributions of --pred_distill",
    )
    group.add_argument(
        "--alpha_ce", type=float, default=1.0, help="weight of the teacher's predictions"
    )
    group.add_argument(
        "--alpha_squad", type=float, default=0.0, help="with --pred_distill: weight of the labels"
    )
    group.add_argument(
        "--no_answer_windows",
        type=no_answer_windows,
        default="keep",
        metavar="HOW",
        help="windows without the answer of their question, whose answer is then [CLS]: keep, as published, "
        "drop, or sample:P",
    )
    group.add_argument(
        "--drop_projection",
        action="store_true",
        help="leave out the model's fit_dense, which leads to its own teacher's width",
    )


def _add_length_drop(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("lengths")
    add_length_flags(group)
    add_length_drop_flags(group)


def add_length_drop_flags(group: argparse._ArgumentGroup) -> None:
    """Add training with LengthDrop."""
    group.add_argument(
        "--length_adaptive",
        action="store_true",
        help="train with LengthDrop: shortened passes learn from the whole model's answer",
    )
    group.add_argument(
        "--num_sandwich", type=int, default=2, help="random configurations in a step"
    )
    group.add_argument(
        "--length_drop_ratio_bound",
        type=float,
        default=0.2,
        help="share of its tokens that a layer drops at most",
    )
    group.add_argument(
        "--layer_dropout_prob", type=float, help="probability of leaving a layer out (LayerDrop)"
    )
    group.add_argument(
        "--layer_dropout_bound",
        type=int,
        default=0,
        help="without --layer_dropout_prob: leave out up to so many of the top layers",
    )
    group.add_argument(
        "--layer_dropout_everywhere",
        action="store_true",
        help="leave layers out of the whole and of the smallest model, too, as the original does",
    )
    group.add_argument(
        "--inplace_kl",
        choices=("forward", "reverse"),
        default="forward",
        help="forward: KL(whole ‖ shortened); reverse: the other way round, as the original",
    )


def with_length_drop(
    args: argparse.Namespace, objectives: Objectives, layers: int, keep_first: bool
) -> LengthDrop:
    """Objectives of a whole student of so many layers, learned by shortened ones as well."""
    sandwich = Sandwich(
        layers, args.length_drop_ratio_bound, args.num_sandwich,
        args.max_seq_length if args.length_mode == "absolute" else None,
        args.layer_dropout_prob, args.layer_dropout_bound, args.layer_dropout_everywhere,
        args.inplace_kl == "reverse",
    )  # fmt: skip
    config = LengthConfig((), keep_first=keep_first, count_padding=args.count_padding)
    return LengthDrop(objectives, sandwich, config)


def check_flags(args: argparse.Namespace, runtime: Runtime) -> None:
    """Refuse flags that contradict each other, and fill in what follows from others."""
    told = [name for name in IGNORED if getattr(args, name) is not None]
    if told and runtime.is_main:
        print(
            f"note: ignored: {'; '.join(f'--{name} ({IGNORED[name]})' for name in told)}",
            file=sys.stderr,
        )
    for name in ("output_dir", "model_name_or_path"):
        if getattr(args, name) is None:
            raise UserError(f"--{name}: expected, for all but --score")
    if not (args.do_train or args.do_eval or args.measure_rate or _searches(args)):
        raise UserError(
            "nothing to do: expected --do_train, --do_eval, --measure_rate, a search, or --score"
        )
    if sum([args.do_search, args.do_sigopt_search, args.do_optuna_search]) > 1:
        raise UserError("--do_search, --do_sigopt_search, --do_optuna_search: give one of them")
    if args.do_search:
        args.search_backend = "evolution"
        size = args.population_size + args.evo_iter * (args.mutation_size + args.crossover_size)
        args.search_trials = size + 2
    _check_distillation(args)
    _check_lengths(args)
    if args.dry_run and not args.do_train:
        raise UserError("--dry_run: only applies to training; add --do_train, or leave it out")
    own = args.per_gpu_train_batch_size
    if own is not None and args.train_batch_size is not None:
        raise UserError("--per_gpu_train_batch_size and --train_batch_size: give one of them")
    if args.train_batch_size is None:
        args.train_batch_size = (own or 8) * runtime.world * args.gradient_accumulation_steps
    keeps = args.evaluate_during_training or not args.save_only_best
    if keeps and args.eval_step is None:
        args.eval_step = args.save_steps or 500
    check_targets(args.report_to)


def _searches(args: argparse.Namespace) -> bool:
    return args.do_search or args.do_sigopt_search or args.do_optuna_search


def _check_distillation(args: argparse.Namespace) -> None:
    layers = args.state_loss_ratio, args.att_loss_ratio
    for name in ("state_loss_ratio", "att_loss_ratio", "alpha_ce", "alpha_squad"):
        if not 0 <= getattr(args, name) < float("inf"):
            raise UserError(f"--{name} {getattr(args, name)}: expected a number from 0")
    if not 0 < args.temperature < float("inf"):
        raise UserError(f"--temperature {args.temperature}: expected a number above 0")
    if args.teacher_model_name_or_path is None:
        if args.pred_distill or any(layers):
            raise UserError(
                "--teacher_model_name_or_path: expected with --pred_distill, --state_loss_ratio and "
                "--att_loss_ratio"
            )
        return
    if args.pred_distill and any(layers):
        raise UserError(
            "--pred_distill: excludes --state_loss_ratio and --att_loss_ratio; distil the layers first"
        )
    if args.do_train and not (args.pred_distill or any(layers)):
        raise UserError(
            "--teacher_model_name_or_path: expected --pred_distill, or --state_loss_ratio and "
            "--att_loss_ratio, to say what is learned from it"
        )


def _check_lengths(args: argparse.Namespace) -> None:
    layers = args.state_loss_ratio or args.att_loss_ratio
    if args.length_adaptive and args.length_config:
        raise UserError("--length_adaptive and --length_config: give one of them")
    for name in ("length_adaptive", "length_config"):
        if getattr(args, name) and layers and args.do_train:
            raise UserError(
                f"--{name}: excludes --state_loss_ratio and --att_loss_ratio: the layers of a shortened "
                "sequence hold other tokens than the teacher's"
            )
    if args.count_padding and args.length_mode == "relative" and args.length_config:
        raise UserError(
            "--count_padding: ranks tokens by what padding gives them, which needs --length_mode absolute"
        )


def steps_or_all(text: str) -> int | None:
    """Read a number of steps; -1, as published, for all."""
    return None if text.strip() == "-1" else whole_number(text)


def rates(text: str) -> list[float]:
    """Read `[0.05, 0.1]`, or the same without brackets."""
    try:
        values: Any = ast.literal_eval(text if text.strip().startswith("[") else f"[{text}]")
        found = [float(value) for value in values]
    except (ValueError, SyntaxError, TypeError):
        raise argparse.ArgumentTypeError(f"{text}: expected shares such as [0.05,0.1]") from None
    if not found or not all(0 <= value < 1 for value in found):
        raise argparse.ArgumentTypeError(f"{text}: expected shares from 0, below 1")
    return found


def _action(parser: argparse.ArgumentParser, flag: str) -> argparse.Action:
    return next(action for action in parser._actions if flag in action.option_strings)


def _alias(parser: argparse.ArgumentParser, flag: str, name: str) -> None:
    """Give a flag a second, published name."""
    action = _action(parser, flag)
    action.option_strings = [*action.option_strings, name]
    parser._option_string_actions[name] = action
