"""Task distillation: a student learns one GLUE task from a fine-tuned teacher (TinyBERT, section 3.2).

First the layers, then the predictions:

    python task_distill.py --teacher_model models/final_rte_teacher \\
        --student_model models/distilled_tinybert_4l --data_dir data/glue_data/RTE --task_name RTE \\
        --output_dir models/tmp_distilled_tinybert_4l_rte --num_train_epochs 10 --aug_train
    python task_distill.py --pred_distill --teacher_model models/final_rte_teacher \\
        --student_model models/tmp_distilled_tinybert_4l_rte --data_dir data/glue_data/RTE --task_name RTE \\
        --output_dir models/distilled_tinybert_4l_rte --aug_train --do_lower_case \\
        --learning_rate 3e-5 --num_train_epochs 3 --eval_step 100 --max_seq_length 128 --train_batch_size 32

--do_eval scores a student, --do_predict writes a GLUE submission, --search_lengths looks for lengths that its
layers can do with.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from cli.classification import (
    load_student,
    score_student,
    score_teacher,
    train_split_name,
)
from cli.finetuning import dev_saver
from cli.flags import (
    add_drop_flags,
    add_feature_cache_flag,
    add_head_flag,
    add_model_flags,
    add_training_flags,
)
from cli.help import script_parser
from cli.length_search import add_search_flags
from cli.objectives import add_layer_flags, check_choices, choose_objectives, is_of_predictions
from cli.plan import show_plan
from cli.precision import precision_from
from cli.settings import batching_from, mention_ignored_flags, settings_from
from cli.squad import add_length_flags
from cli.squad_flags import add_length_drop_flags, with_length_drop
from cli.task import add_task_file_flag, chosen_task
from cli.training import (
    Training,
    check_start,
    load_tokenizer,
    open_pair,
    run_training,
)
from corpus.batches import StoreBatches
from distillation.checkpoint import ModelSaver
from distillation.distributed import Runtime, start_runtime
from distillation.records import RunRecord
from distillation.state import TrainingSettings
from distillation.training import number_of_steps, prepare_teacher
from files.errors import UserError, run_script
from tasks.classifiers import data_facts, load_classifier, load_dev, task_facts
from tasks.feature_cache import cached_logits, cached_split, feature_cache
from tasks.task import Task
from transformer.precision import autocast
from transformer.weights import weights_checksum

PREDICTION_EPOCHS = 3


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    parser = script_parser(__doc__)
    group = parser.add_argument_group("inputs and output")
    group.add_argument("--data_dir", help="the task's folder, e.g. glue_data/RTE")
    group.add_argument("--task_name", help="a GLUE task, in upper or lower case: RTE, sst-2 …")
    add_task_file_flag(group)
    group.add_argument(
        "--student_model",
        "--model",
        required=True,
        help="where to start, or what to score: folder, hub name or address",
    )
    group.add_argument("--teacher_model", help="classifier fine-tuned on the task; needed to train")
    group.add_argument("--output_dir", required=True, help="folder for the student or the scores")
    group.add_argument(
        "--from_scratch",
        action="store_true",
        help="give the student fresh weights: its folder needs a config.json alone",
    )
    add_head_flag(group, of="the student's")
    add_head_flag(group, "--teacher_head", "the teacher's")
    add_drop_flags(group)
    add_model_flags(group)
    add_feature_cache_flag(group)
    group = parser.add_argument_group("what to do, if not to distil the intermediate layers")
    group.add_argument("--pred_distill", action="store_true", help="distil the predictions")
    group.add_argument("--do_eval", action="store_true", help="score the student and stop")
    group.add_argument(
        "--do_predict",
        action="store_true",
        help="write GLUE submission files for the test sets and stop",
    )
    group.add_argument(
        "--split",
        choices=("test", "dev", "train"),
        default="test",
        help="what --do_predict predicts: the test sets, or the dev sets or the training set, whose files "
        "hold the labels as well",
    )
    group.add_argument(
        "--search_lengths",
        action="store_true",
        help="search for lengths that the student's layers can do with, and stop",
    )
    group = parser.add_argument_group("lengths")
    add_length_flags(group)
    add_length_drop_flags(group)
    add_search_flags(parser)
    group = parser.add_argument_group("distillation")
    group.add_argument("--aug_train", action="store_true", help="train on train_aug.tsv")
    add_layer_flags(group)
    group.add_argument("--temperature", type=float, default=1.0, help="softens both distributions")
    group.add_argument(
        "--ce_reduction",
        choices=("mean", "batchmean"),
        default="mean",
        help="prediction loss: mean over batch and classes as published, or over the batch",
    )
    group.add_argument(
        "--hard_labels",
        action="store_true",
        help="STS-B: learn from the labels, as the original does by mistake",
    )
    group.add_argument(
        "--allow_weak_teacher",
        action="store_true",
        help="distil even from a teacher that is no better than chance on the dev set",
    )
    add_training_flags(
        parser,
        num_train_epochs=None,
        max_seq_length=None,
        warmup_of="; with --pred_distill alone: the layers are learned at a constant rate",
    )
    return parser.parse_args(argv)


def resolve_defaults(args: argparse.Namespace, task: Task) -> None:
    """Fill what the user left open: length and epochs per task, as the authors meant them to be."""
    if args.max_seq_length is None:
        args.max_seq_length = task.max_length
    if args.num_train_epochs is None:
        args.num_train_epochs = (
            PREDICTION_EPOCHS if is_of_predictions(args) else task.intermediate_epochs
        )


def main(argv: Sequence[str] | None = None) -> int:
    args = parse_args(argv)
    task, folder = chosen_task(args)
    resolve_defaults(args, task)
    mention_ignored_flags(args)
    args.data_dir = str(folder)
    runtime = start_runtime(args.no_cuda, args.local_rank)
    if args.split != "test" and not args.do_predict:
        raise UserError(
            f"--split {args.split}: only applies with --do_predict; add it, or leave --split out"
        )
    if args.do_eval or args.do_predict or args.search_lengths:
        if args.dry_run:
            raise UserError(
                "--dry_run: only applies to training; leave it out with --do_eval, --do_predict and "
                "--search_lengths"
            )
        precision = precision_from(args, runtime)
        if runtime.is_main:
            score_student(args, task, runtime.device, precision)
        runtime.wait()
        return 0
    if args.teacher_model is None:
        raise UserError("--teacher_model: expected for training; for scores alone add --do_eval")
    check_choices(args, task)
    if args.length_adaptive and not args.pred_distill:
        raise UserError(
            "--length_adaptive: only applies with --pred_distill: the layers of a shortened sequence hold "
            "other tokens than the teacher's"
        )
    settings = settings_from(args, "warmup_linear" if is_of_predictions(args) else "none", runtime)
    check_start(args, settings, runtime, Path(args.data_dir))
    with feature_cache(args.feature_cache, args.output_dir) as cache:
        train_student(args, settings, task, runtime, cache)
    return 0


def train_student(
    args: argparse.Namespace,
    settings: TrainingSettings,
    task: Task,
    runtime: Runtime,
    cache: Path,
) -> None:
    """Distil one stage; the training data are kept in the folder `cache`."""
    stage = "prediction" if is_of_predictions(args) else "intermediate"
    tokenizer = load_tokenizer(args, args.student_model, args.teacher_model)
    open_pair(args, tokenizer, args.max_seq_length)
    torch.manual_seed(args.seed)
    teacher = load_classifier(
        task, args.teacher_model, (), args.cache_dir, head=args.teacher_head, choose="teacher_head"
    )
    teacher_weights = weights_checksum(teacher.state_dict())
    teacher.requires_grad_(False).to(runtime.device)
    student = load_student(args, task, teacher.config.hidden_size).to(runtime.device)
    objectives, learns, mapping = choose_objectives(args, task, student, teacher)
    if args.length_adaptive:
        layers = student.config.num_hidden_layers
        objectives = with_length_drop(args, objectives, layers, True).attach(teacher)
        learns += f", with LengthDrop up to {args.length_drop_ratio_bound:g}"

    name = train_split_name(task, args.data_dir, args.aug_train)
    with runtime.one_after_another():
        train, train_key = cached_split(
            cache, task, args.data_dir, name, tokenizer, args.max_seq_length
        )
    dev = load_dev(task, args.data_dir, tokenizer, args.max_seq_length)
    source = StoreBatches(
        [train.store],
        columns={"labels": train.labels},
        **batching_from(args, args.max_seq_length),
    )
    facts = {"data": f"{len(train.store):,} rows of {name}.tsv", "learns": learns}
    title = f"{stage} distillation on {task.folder}"
    show_plan(title, facts, args, student, source, settings, runtime)
    score = None
    if runtime.is_main:
        score = score_teacher(
            task, teacher, args.teacher_model, dev, args.eval_batch_size, runtime.device,
            args.allow_weak_teacher,
        )  # fmt: skip
    runtime.wait()
    prepare_teacher(teacher, settings, args.teacher_dropout)

    def open_run(folder: Path) -> ModelSaver:
        # A row is met again from the second epoch on; a teacher with dropout answers again each time.
        if (
            "teacher" in objectives.reads
            and not objectives.reads_layers  # for which the teacher runs at every step anyway
            and number_of_steps(source, settings) > source.count(0)
            and not args.teacher_dropout
        ):
            with runtime.one_after_another():
                source.columns["teacher_logits"] = cached_logits(
                    cache, task.folder, args.teacher_model, teacher, train.store, train_key,
                    args.eval_batch_size, settings.precision,
                )  # fmt: skip
        scored = dev if objectives.reads else {}
        context = autocast(settings.precision, runtime.device)
        return dev_saver(args, task, student, scored, runtime.device, context, folder)

    record = RunRecord(
        stage,
        vars(args),
        **task_facts(task),
        student=args.student_model,
        teacher=args.teacher_model,
        teacher_weights=teacher_weights,
        output_dir=args.output_dir,
        mapping=mapping and mapping._asdict(),
        data=data_facts(task, args.data_dir, {name: train, **dev}),
        main_metric=task.main_metric,
        teacher_metrics=score,
    )
    run_training(
        Training(
            args, record, student, tokenizer, objectives, source, settings, runtime, open_run,
            scored=bool(objectives.reads),
        )
    )  # fmt: skip


if __name__ == "__main__":
    run_script(main)
