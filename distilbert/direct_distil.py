"""Distil a DistilBERT on each of several tasks from a BERT fine-tuned on it, without pre-training.

    python distilbert/direct_distil.py
    python distilbert/direct_distil.py --tasks RTE --init teacher \\
        --teacher_model models/bert-base-uncased-{task}

The loss is 1 · soft targets + 5 · labels + 2 · cosine of the first token's last hidden states. Five tasks by
default. A teacher that is no better than chance is refused. Each model is a folder, OUTPUT_DIR/TASK, and
OUTPUT_DIR/metrics.json holds what each scored beside its teacher. After an interruption the same command with
--resume continues.
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

from cli.classification import freeze_unused, score_teacher
from cli.finetuning import TaskData, dev_saver
from cli.flags import add_init_flags, add_model_flags, add_training_flags
from cli.help import script_parser
from cli.plan import show_plan
from cli.settings import batching_from, mention_ignored_flags, settings_from
from cli.siblings import (
    add_task_flags,
    add_workers_flag,
    limit_workers,
    read_task_data,
    scores,
    short_name,
)
from cli.task import named_tasks
from cli.training import (
    Training,
    check_start,
    load_tokenizer,
    open_pair,
    run_training,
)
from corpus.batches import StoreBatches
from distillation.distributed import Runtime, start_runtime
from distillation.initialisation import spread_layers, take_layers
from distillation.objective import Setup
from distillation.objectives import make_objectives
from distillation.records import RunRecord
from distillation.state import TrainingSettings
from distillation.training import prepare_teacher
from files.atomic import atomic_open, find_input
from files.errors import UserError, run_script
from tasks.classifiers import load_classifier, new_classifier, task_facts
from tasks.evaluation import predict_logits
from tasks.task import Task
from transformer.modeling import TinyBertForSequenceClassification
from transformer.precision import autocast
from transformer.weights import weights_checksum

TEACHER = str(ROOT / "models/bert-base-uncased-{task}")
WEIGHTS = {"alpha_soft": "soft_kl", "alpha_hard": "labels", "alpha_cos": "first_cosine"}


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument(
        "--teacher_model",
        default=TEACHER,
        help="BERT fine-tuned on the task, {task} standing for its name: folder, hub name or address",
    )
    group.add_argument(
        "--student_model",
        "--model",
        default=str(ROOT / "distilbert/config"),
        help="folder with the student's config.json",
    )
    add_task_flags(group, ROOT)
    group.add_argument(
        "--output_dir",
        default=str(ROOT / "checkpoints_direct_distil"),
        help="folder for models and scores",
    )
    add_workers_flag(group, 1)
    add_model_flags(group)
    group = parser.add_argument_group("student")
    add_init_flags(group)
    group = parser.add_argument_group("losses")
    for name, weight, what in (
        ("--alpha_soft", 1.0, "soft targets"),
        ("--alpha_hard", 5.0, "the labels"),
        ("--alpha_cos", 2.0, "the cosine of the first token's states"),
    ):
        group.add_argument(name, type=float, default=weight, help=f"weight of {what}")
    group.add_argument("--temperature", type=float, default=2.0, help="softens both distributions")
    group.add_argument(
        "--allow_weak_teacher",
        action="store_true",
        help="distil even from a teacher that is no better than chance on the dev set",
    )
    add_training_flags(
        parser, train_batch_size=64, eval_batch_size=64, learning_rate=5e-5, num_train_epochs=3,
        eval_step=None,
    )  # fmt: skip
    parser.set_defaults(optimizer="adamw", warmup_proportion=0.06, seed=1)
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    check_choices(args)
    limit_workers(args)
    runtime = start_runtime(args.no_cuda, args.local_rank)
    settings = settings_from(args, "warmup_linear", runtime)
    mention_ignored_flags(args)
    tasks = named_tasks(args.tasks, args.glue_dir)
    runs = []
    for task, folder in tasks:
        if task.labels is None:
            raise UserError(f"--tasks {task.folder}: has one score; expected tasks of classes")
        own = {
            "output_dir": str(Path(args.output_dir) / short_name(task)),
            "teacher_model": args.teacher_model.replace("{task}", short_name(task)),
        }
        if args.teacher_model == TEACHER:
            find_input(
                own["teacher_model"],
                f"BERT fine-tuned on {task.folder}: get_bert_models.py --tasks {task.folder} fetches it",
            )
        runs.append((argparse.Namespace(**{**vars(args), **own}), task, folder))
        check_start(runs[-1][0], settings, runtime, folder)
    found: dict[str, Any] = {}
    for own, task, folder in runs:
        told = distil(own, settings, task, folder, runtime)
        if runtime.is_main and not args.dry_run:
            found[short_name(task)] = told
            with atomic_open(Path(args.output_dir) / "metrics.json") as file:
                json.dump(found, file, indent=4)
        runtime.wait()
    for name, told in found.items():
        student, teacher = (100 * told[side]["accuracy"] for side in ("student", "teacher"))
        print(f"{name}: accuracy {student:.1f}, the teacher's {teacher:.1f}")
    return 0


def check_choices(args: argparse.Namespace) -> None:
    """Refuse flags that contradict each other, and numbers out of their range."""
    if args.init == "random" and args.layers:
        raise UserError("--layers: is for --init teacher; add it, or leave --layers out")
    for name in WEIGHTS:
        if not 0 <= getattr(args, name) < float("inf"):
            raise UserError(f"--{name} {getattr(args, name)}: expected a number from 0")
    if not any(getattr(args, name) for name in WEIGHTS):
        raise UserError(
            f"{', '.join(f'--{name}' for name in WEIGHTS)} are all 0: nothing would be learned"
        )
    if not 0 < args.temperature < float("inf"):
        raise UserError(f"--temperature {args.temperature}: expected a number above 0")


def distil(
    args: argparse.Namespace,
    settings: TrainingSettings,
    task: Task,
    folder: Path,
    runtime: Runtime,
) -> dict[str, dict[str, float]]:
    """Distil one student; return what it and its teacher score, on the main process."""
    tokenizer = load_tokenizer(args, args.teacher_model)
    teacher_config, student_config = open_pair(args, tokenizer, args.max_seq_length)
    torch.manual_seed(args.seed)
    teacher = load_classifier(task, args.teacher_model, (), args.cache_dir)
    teacher_weights = weights_checksum(teacher.state_dict())
    student = new_classifier(task, student_config)
    if args.init == "teacher":
        depths = student_config.num_hidden_layers, teacher_config.num_hidden_layers
        layers = args.layers or spread_layers(*depths)
        take_layers(student, teacher, layers, without=("bert.pooler.", "classifier."))
    student.to(runtime.device)
    freeze_unused(student, "fit_dense", "fit_denses")
    weights = {objective: getattr(args, name) for name, objective in WEIGHTS.items()}
    setup = Setup(student_config, teacher_config, temperature=args.temperature)
    losses = make_objectives(weights, setup).to(runtime.device)

    data = read_task_data(args, task, folder, tokenizer)
    source = StoreBatches(
        [data.train.store],
        columns={"labels": data.train.labels},
        **batching_from(args, args.max_seq_length),
    )
    plan = {"data": f"{len(data.train.store):,} rows of {data.name}", "student": args.init}
    show_plan(
        f"direct distillation on {task.folder}", plan, args, student, source, settings, runtime
    )
    teacher.requires_grad_(False).to(runtime.device)
    score = None
    if runtime.is_main:
        score = score_teacher(
            task, teacher, args.teacher_model, data.dev, args.eval_batch_size, runtime.device,
            args.allow_weak_teacher,
        )  # fmt: skip
    runtime.wait()
    prepare_teacher(teacher, settings)
    losses.attach(teacher)
    record = RunRecord(
        "direct", vars(args), **task_facts(task), student=args.student_model,
        teacher=args.teacher_model, teacher_weights=teacher_weights, output_dir=args.output_dir,
        data=data.facts, main_metric=task.main_metric, teacher_metrics=score, start=args.init,
    )  # fmt: skip
    context = autocast(settings.precision, runtime.device)
    run_training(
        Training(
            args, record, student, tokenizer, losses, source, settings, runtime,
            partial(dev_saver, args, task, student, data.dev, runtime.device, context),
        )
    )  # fmt: skip
    if not runtime.is_main or args.dry_run:
        return {}
    return compare(args, task, data, teacher, runtime)


def compare(
    args: argparse.Namespace,
    task: Task,
    data: TaskData,
    teacher: TinyBertForSequenceClassification,
    runtime: Runtime,
) -> dict[str, dict[str, float]]:
    """What the best student scores, and its teacher."""
    best = TinyBertForSequenceClassification.from_pretrained(args.output_dir).to(runtime.device)
    rows, found = data.scored, {}
    for name, model in (("student", best), ("teacher", teacher.eval())):
        logits = predict_logits(model, rows.store, args.eval_batch_size, runtime.device)
        found[name] = scores(task, logits, rows.labels)
    return found


if __name__ == "__main__":
    run_script(main)
