"""Train, distil, shorten and search models that answer questions about a text (Dynamic-TinyBERT, on SQuAD).

    python run_squad.py --model_type bert --model_name_or_path bert-base-uncased --data_dir $SQUAD_DIR \\
        --do_train --do_eval --evaluate_during_training --do_lower_case --output_dir $OUTPUT_DIR/teacher
    python run_squad.py --score predictions.json --predict_file dev-v1.1.json

README.md beside this file has the five steps. OUTPUT_DIR/checkpoint-best and OUTPUT_DIR/checkpoint-last hold
the models. After an interruption the same command with --resume, and without --overwrite_output_dir,
continues.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import torch

from cli.help import script_parser
from cli.length_search import Subject, measure, search_lengths
from cli.plan import print_facts, show_plan
from cli.precision import precision_from
from cli.settings import batching_from, settings_from
from cli.siblings import limit_workers
from cli.squad import (
    Dev,
    chosen_windows,
    cut_from,
    in_mode,
    lengths_from,
    question_facts,
    read_dev,
    squad_file,
)
from cli.squad_flags import add_squad_flags, check_flags
from cli.squad_models import (
    BEST,
    hand_over,
    hand_over_steps,
    learned,
    open_config,
    open_models,
    open_tokenizer_of,
)
from cli.training import Training, check_start, run_training
from corpus.batches import StoreBatches
from distillation.checkpoint import ModelSaver
from distillation.distributed import Runtime, start_runtime
from distillation.records import RunRecord
from distillation.training import number_of_steps, prepare_teacher
from files.atomic import atomic_open
from files.errors import UserError, run_script
from search.lengths import multiply_accumulates, uniform
from tasks.feature_cache import cached_logits, cached_windows, feature_cache
from tasks.squad import read_questions
from tasks.squad_metrics import metrics_of
from transformer.lengths import LengthConfig
from transformer.modeling import BertForQuestionAnswering
from transformer.precision import autocast
from transformer.weights import weights_checksum


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    add_squad_flags(parser)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    limit_workers(args)
    if args.score:
        score_file(args)
        return 0
    runtime = start_runtime(args.no_cuda, args.local_rank)
    check_flags(args, runtime)
    if args.do_train:
        settings = settings_from(args, "warmup_linear", runtime)
        check_start(args, settings, runtime, squad_file(args, "train"))
        with feature_cache(args.feature_cache, args.output_dir) as cache:
            train(args, settings, runtime, cache)
        if args.dry_run:
            return 0
    if runtime.is_main:
        folder = Path(args.output_dir)
        if args.do_eval:
            evaluate_models(args, runtime)
        model = str(folder / BEST) if args.do_train else args.model_name_or_path
        if args.measure_rate:
            measure_rates(args, runtime, model)
        if args.do_search or args.do_sigopt_search or args.do_optuna_search:
            search(args, runtime, model)
    runtime.wait()
    return 0


def train(args: argparse.Namespace, settings, runtime: Runtime, cache: Path) -> None:
    """Train one step of the five; what is made of the training data is kept in the folder `cache`."""
    tokenizer = open_tokenizer_of(args)
    torch.manual_seed(args.seed)
    student, teacher = open_models(args, tokenizer)
    teacher_weights = teacher and weights_checksum(teacher.state_dict())
    student.to(runtime.device)
    lengths = lengths_from(args, student.config.num_hidden_layers)
    objectives, stage, learns, mapping = learned(args, student, teacher, lengths)
    objectives.to(runtime.device)

    path = squad_file(args, "train")
    questions = read_questions(path, args.version_2_with_negative)
    with runtime.one_after_another():
        windows, key = cached_windows(
            cache, questions, args.version_2_with_negative, tokenizer, cut_from(args)
        )
    rows = chosen_windows(windows, questions, args.no_answer_windows, args.seed)
    if len(rows) < len(windows):
        told = f"{len(windows) - len(rows):,} of {len(windows):,} windows are left out"
        print(f"note: {path}: {told}; {len(rows):,} remain", file=sys.stderr)
        windows, key = windows.take(rows), f"{key}-{args.no_answer_windows}-{args.seed}"
    source = StoreBatches(
        [windows.store],
        columns={"labels": windows.labels},
        **batching_from(args, args.max_seq_length),
    )
    scored = args.evaluate_during_training and bool(objectives.reads)
    dev = read_dev(args, tokenizer) if scored else None
    without = int((windows.labels[:, 0] == 0).sum())
    show_plan(
        f"{stage} on {path.name}",
        {
            "data": f"{len(questions):,} questions in {len(rows):,} windows, {without:,} without the answer",
            "learns": learns,
        },
        args, student, source, settings, runtime,
    )  # fmt: skip
    if args.evaluate_during_training and not scored and runtime.is_main:
        print(
            "note: nothing is scored in this step: its losses never touch the head that answers. The next "
            "one begins with checkpoint-last",
            file=sys.stderr,
        )
    if teacher is not None:
        teacher.to(runtime.device)
        prepare_teacher(teacher, settings)
    context = autocast(settings.precision, runtime.device)

    def score() -> dict[str, dict[str, float]]:
        metrics = dev.metrics(dev.scores(student, runtime.device, context, lengths))
        return {"dev": {name: metrics[name] for name in ("f1", "exact", "loss")}}

    def open_run(folder: Path) -> ModelSaver:
        if (
            "teacher" in objectives.reads
            and not objectives.reads_layers
            and number_of_steps(source, settings) > source.count(0)
        ):
            with runtime.one_after_another():
                source.token_columns["teacher_logits"] = cached_logits(
                    cache, "squad", args.teacher_model_name_or_path, teacher, windows.store, key,
                    args.eval_batch_size, settings.precision, of_tokens=True,
                )  # fmt: skip
        return ModelSaver(
            student, folder, score if scored else None, lambda metrics: metrics["dev"]["f1"],
            keep_steps=not args.save_only_best,
        )  # fmt: skip

    data = {"train": question_facts(path, len(questions), len(rows))}
    if dev is not None:
        data["dev"] = question_facts(dev.questions.path, len(dev.questions), len(dev.windows))
    record = RunRecord(
        stage, vars(args), task="SQuAD", student=args.model_name_or_path,
        teacher=args.teacher_model_name_or_path, teacher_weights=teacher_weights,
        output_dir=args.output_dir, mapping=mapping and mapping._asdict(), data=data, main_metric="f1",
    )  # fmt: skip
    run_training(
        Training(
            args, record, student, tokenizer, objectives, source, settings, runtime, open_run, scored
        )
    )  # fmt: skip
    if runtime.is_main and not args.dry_run:
        hand_over(Path(args.output_dir), scored)
        hand_over_steps(Path(args.output_dir))
    runtime.wait()


def open_answering(
    args: argparse.Namespace, runtime: Runtime, source: str
) -> tuple[BertForQuestionAnswering, Dev, LengthConfig | None]:
    """A model that answers, the questions for it, and the lengths of `--length_config`."""
    tokenizer = open_tokenizer_of(args, source)
    config = open_config(args, "model_type", source, tokenizer)
    lengths = lengths_from(args, config.num_hidden_layers)
    dev = read_dev(args, tokenizer)
    model = BertForQuestionAnswering.from_pretrained(source, cache_dir=args.cache_dir)
    return model.to(runtime.device), dev, lengths


def evaluate_models(args: argparse.Namespace, runtime: Runtime) -> None:
    """Answer the questions with the best model, or with every one that the training kept."""
    folder = Path(args.output_dir)
    sources = {BEST: folder / BEST} if args.do_train else {"": Path(args.model_name_or_path)}
    if args.eval_all_checkpoints:
        found = sorted(path for path in folder.glob("checkpoint-*") if path.is_dir())
        sources = {path.name: path for path in found} or sources
    context = autocast(precision_from(args, runtime), runtime.device)
    for name, source in sources.items():
        model, dev, lengths = open_answering(args, runtime, str(source))
        scores = dev.scores(model, runtime.device, context, lengths)
        metrics = dev.write(folder / name, scores)
        log_metrics(args, str(source), metrics, lengths)
        print(f"{source}: EM {metrics['exact']:.3f} F1 {metrics['f1']:.3f}")


def log_metrics(
    args: argparse.Namespace,
    model: str,
    metrics: dict[str, float],
    lengths: LengthConfig | None,
    **facts: Any,
) -> None:
    """Add a line to OUTPUT_DIR/metrics.log: a JSON object."""
    path = Path(args.output_dir) / args.metrics_log
    told = dict(sorted(metrics.items())) | {"model": model, **facts}
    told["lengths"] = None if lengths is None else lengths.lengths
    before = path.read_text(encoding="utf-8") if path.is_file() else ""
    with atomic_open(path) as file:
        file.write(f"{before}{json.dumps(told)}\n")


def measure_rates(args: argparse.Namespace, runtime: Runtime, source: str) -> None:
    """Score and time uniform configurations, each layer dropping the same share of its tokens."""
    model, dev, _ = open_answering(args, runtime, source)
    config, longest = model.config, args.max_seq_length
    lines = []
    for rate in args.measure_rate:
        lengths = uniform(longest, config.num_hidden_layers, rate)
        macs = multiply_accumulates(lengths, longest, config.hidden_size, config.intermediate_size)
        chosen = in_mode(args, LengthConfig(lengths, count_padding=args.count_padding))
        metrics = dev.metrics(dev.scores(model, runtime.device, None, chosen))
        subject = Subject(model, "f1", dict, dict, dev.windows.store, runtime.device)
        times = measure(args, subject, {"whole": None, "this": chosen, "padded": None})
        facts = {
            "rate": rate, "macs": macs, "ms": times["this"][0],
            "speedup": times["whole"][0] / times["this"][0],
            "speedup_padded": times["padded"][0] / times["this"][0],
        }  # fmt: skip
        log_metrics(args, source, metrics, chosen, **facts)
        lines.append(json.dumps({**facts, "lengths": lengths, **metrics}))
        print_facts(
            f"drop {rate:g} a layer: {', '.join(map(str, lengths))}",
            {
                "F1": f"{metrics['f1']:.3f}", "GMACs": f"{macs / 1e9:.3f} of {longest} tokens",
                "time": f"{facts['ms']:.1f} ms a batch, {facts['speedup']:.2f} times as fast as the whole "
                f"model, {facts['speedup_padded']:.2f} times as the padded one",
            },
        )  # fmt: skip
    with atomic_open(Path(args.output_dir) / "measure_out.log") as file:
        file.write("\n".join(lines) + "\n")


def search(args: argparse.Namespace, runtime: Runtime, source: str) -> None:
    """Search for length configurations on one half of the articles, and report them on the other."""
    model, dev, _ = open_answering(args, runtime, source)
    args.searched_model = source
    chosen, reported = dev.half(0), dev.half(1)

    def score(of: Dev, lengths: LengthConfig | None) -> dict[str, float]:
        if lengths is not None:
            lengths = lengths._replace(count_padding=args.count_padding)
        metrics = of.metrics(of.scores(model, runtime.device, None, lengths))
        return {"f1": metrics["f1"], "em": metrics["exact"]}

    subject = Subject(
        model, "f1", partial(score, chosen), partial(score, reported), chosen.windows.store,
        runtime.device,
    )  # fmt: skip
    search_lengths(args, subject, Path(args.output_dir))


def score_file(args: argparse.Namespace) -> None:
    """Score anybody's predictions.json: {id: text}."""
    path = Path(args.score)
    try:
        given = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"--score {path}: no such file; expected a predictions.json") from None
    except (ValueError, RecursionError) as error:
        raise UserError(f"--score {path}: not JSON ({error})") from None
    if not isinstance(given, dict) or not all(isinstance(text, str) for text in given.values()):
        raise UserError(f"--score {path}: expected an object of ids and answers")
    questions = read_questions(squad_file(args, "dev"), args.version_2_with_negative)
    missing = [key for key in questions.ids if key not in given]
    if missing:
        print(
            f"note: {path}: {len(missing):,} of {len(questions):,} questions are not answered, the first is "
            f"{missing[0]}; they count as wrong",
            file=sys.stderr,
        )
    if len(missing) == len(questions):
        raise UserError(f"--score {path}: answers none of the questions of {questions.path}")
    scores = metrics_of(
        questions, [given.get(key, "") for key in questions.ids], metric=args.metric
    )
    print(f"EM {scores['exact']:.3f} F1 {scores['f1']:.3f}")


if __name__ == "__main__":
    run_script(main)
